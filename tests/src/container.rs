//! An appliance in a container: image, users and volume as in production, driven from outside. SoftHSM2 in the
//! place of the HSM, or a swtpm in a container of its own in that of the TPM.

use std::{env, net::SocketAddr, process::Command};

use mintwarden_client::{Client, Custodian, TrustAnchors};
use tempfile::TempDir;
use testcontainers::{
    ContainerAsync, CopyTargetOptions, GenericImage, ImageExt as _,
    core::{IntoContainerPort as _, Mount, WaitFor, wait::ExitWaitStrategy},
    runners::AsyncRunner as _,
};

use crate::{
    DEVICE, ISS, ISSUER, Identity, PATIENCE, Pki, TPM, TRUST_DOMAIN, Verifier, channel, pki::spiffe,
};

const GRPC: u16 = 7443;
const JWKS: u16 = 7480;
/// Where the swtpm serves commands; its control channel is at the next port.
const SWTPM: u16 = 2321;
const STATE: &str = "/var/lib/mintwarden";
/// How long it may take to end after SIGTERM, seconds: longer than the appliance gives itself.
const STOP_LIMIT: i32 = 20;

/// Makes a device secret on the volume, as the worker's user and seen by nobody else.
const MAKE_SECRET: &str = r#"
set -eu
umask 077
install -d -m 0700 /var/lib/mintwarden/tpm
od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >/var/lib/mintwarden/tpm/secret
chown -R mintwarden-worker:mintwarden-worker /var/lib/mintwarden/tpm
"#;

/// Makes a PKCS#11 token on the volume, as the worker's user and with a PIN that nobody else sees.
const MAKE_TOKEN: &str = r#"
set -eu
umask 077
directory=/var/lib/mintwarden/softhsm
worker=mintwarden-worker
random() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }
install -d -m 0700 "$directory" "$directory/tokens"
printf '%s\n' "directories.tokendir = $directory/tokens" 'objectstore.backend = file' \
    'log.level = ERROR' 'slots.removable = false' >"$directory/softhsm2.conf"
random >"$directory/pin"
chown -R "$worker:$worker" "$directory"
printf '%s\n%s\n' "$(random)" "$(cat "$directory/pin")" |
    SOFTHSM2_CONF="$directory/softhsm2.conf" setpriv --reuid="$worker" --regid="$worker" \
        --clear-groups /usr/bin/mintwarden-pkcs11 init-token \
        --module /usr/lib/softhsm/libsofthsm2.so --label hsm-a
"#;

/// An appliance in a container, on a volume that outlives the container. They and all that belongs to them are
/// removed when this is dropped.
pub struct Container {
    make: Make,
    directory: TempDir,
    pki: Pki,
    tts: Identity,
    ada: Identity,
    /// Of the volume, and of the network where there is one.
    name: String,
    running: Option<Running>,
    swtpm: Option<ContainerAsync<GenericImage>>,
}

/// What its device is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Make {
    SoftHsm,
    Swtpm,
}

struct Running {
    container: ContainerAsync<GenericImage>,
    grpc: SocketAddr,
    jwks: SocketAddr,
}

impl Container {
    /// Makes a volume with a PKCS#11 token on it, and starts a container with the issuer
    /// [`ISSUER`]. The image is the one that `MINTWARDEN_TEST_IMAGE` names.
    ///
    /// # Panics
    /// If the variable is not set, no container engine answers, or the appliance does not serve.
    pub async fn softhsm() -> Self {
        let mut this = Self::new(Make::SoftHsm);
        this.provision(MAKE_TOKEN).await;
        this.start().await;
        this
    }

    /// Starts a swtpm in a container of its own, and another container with the issuer [`ISSUER`] that reaches it over
    /// TCP, by its name on a network of theirs.
    ///
    /// # Panics
    /// As [`softhsm`](Self::softhsm).
    pub async fn swtpm() -> Self {
        let mut this = Self::new(Make::Swtpm);
        this.provision(MAKE_SECRET).await;
        // The state is the container's, and still there when that is started again.
        let serve = format!(
            "mkdir -p /tmp/state && exec swtpm socket --tpm2 --tpmstate dir=/tmp/state \
             --server type=tcp,port={SWTPM},bindaddr=0.0.0.0 --ctrl type=tcp,port={},bindaddr=0.0.0.0 \
             --flags not-need-init,startup-clear",
            SWTPM + 1
        );
        let swtpm = image()
            .with_entrypoint("/bin/sh")
            .with_cmd(["-c", &serve])
            .with_network(&this.name)
            .with_container_name(this.swtpm_name())
            .start()
            .await;
        this.swtpm = Some(swtpm.expect("a swtpm in its container"));
        this.start().await;
        this
    }

    fn new(make: Make) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let pki = Pki::new(directory.path());
        pki.server("server", &[]);
        let (tts, ada) = (pki.client("tts"), pki.client("custodian/ada"));
        let name = directory.path().file_name().expect("it has a name").to_string_lossy();
        let name = format!("mintwarden-test-{}", name.trim_start_matches('.'));
        Self { make, directory, pki, tts, ada, name, running: None, swtpm: None }
    }

    fn swtpm_name(&self) -> String {
        format!("{}-tpm", self.name)
    }

    /// Stops the swtpm's container and starts it again: a TPM that loses its power.
    ///
    /// # Panics
    /// If there is none, or the engine does not do it.
    pub async fn restart_swtpm(&self) {
        let swtpm = self.swtpm.as_ref().expect("its device is a swtpm");
        swtpm.stop_with_timeout(Some(0)).await.expect("it is stopped");
        swtpm.start().await.expect("it is started again");
    }

    async fn provision(&self, script: &str) {
        let provisioned = image()
            .with_entrypoint("/bin/sh")
            .with_wait_for(WaitFor::exit(ExitWaitStrategy::new().with_exit_code(0)))
            .with_cmd(["-c", script])
            .with_mount(Mount::volume_mount(&self.name, STATE))
            .start()
            .await;
        let container = provisioned.expect("a device on the volume");
        container.rm().await.expect("the provisioning container goes away");
    }

    /// Starts a new container on the volume, and waits until it serves.
    ///
    /// # Panics
    /// If one runs already, or it does not serve.
    pub async fn start(&mut self) {
        assert!(self.running.is_none(), "a container runs already");
        let file = |name: &str| self.directory.path().join(name);
        // The server's user reads all of these.
        let target =
            |name: &str| CopyTargetOptions::new(format!("/etc/mintwarden/{name}")).with_mode(0o644);
        let request = image()
            .with_wait_for(WaitFor::message_on_stderr(r#""message":"serving""#))
            .with_exposed_port(GRPC.tcp())
            .with_exposed_port(JWKS.tcp())
            .with_mount(Mount::volume_mount(&self.name, STATE))
            .with_copy_to(target("mintwarden.toml"), self.config().into_bytes())
            .with_copy_to(target("server.crt"), file("server.crt"))
            .with_copy_to(target("server.key"), file("server.key"))
            .with_copy_to(target("ca.crt"), file("ca.crt"))
            .with_startup_timeout(PATIENCE);
        let request = match self.make {
            Make::SoftHsm => request,
            Make::Swtpm => request.with_network(&self.name),
        };
        let container = request.start().await.expect("the appliance serves in its container");
        let host = container.get_host().await.expect("the engine's host").to_string();
        let grpc = reach(&container, &host, GRPC).await;
        let jwks = reach(&container, &host, JWKS).await;
        self.running = Some(Running { container, grpc, jwks });
    }

    /// Stops the container and removes it: the appliance has to end by itself, with 0.
    ///
    /// # Panics
    /// If it does not.
    pub async fn stop(&mut self) {
        let container = self.running.take().expect("a container runs").container;
        container.stop_with_timeout(Some(STOP_LIMIT)).await.expect("it is stopped");
        let code = container.exit_code().await.expect("it has ended");
        assert_eq!(code, Some(0), "the appliance did not end in order");
        container.rm().await.expect("it is removed");
    }

    /// A client of the TTS.
    ///
    /// # Panics
    /// If no container runs.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client_as(&self.tts)
    }

    /// What the custodian Ada can do.
    ///
    /// # Panics
    /// If no container runs.
    #[must_use]
    pub fn custodian(&self) -> Custodian {
        self.client_as(&self.ada).custodian()
    }

    fn client_as(&self, identity: &Identity) -> Client {
        let (certificate, key) = (&identity.certificate, &identity.private_key);
        Client::builder()
            .endpoint(format!("https://{}", self.running().grpc))
            .server_name("localhost")
            .identity(mintwarden_client::Identity::from_files(certificate, key))
            .ca(TrustAnchors::from_file(self.pki.ca()))
            .build()
            .expect("a client")
    }

    /// A verifier with the JWK Set as HTTPS serves it now.
    ///
    /// # Panics
    /// If it is not served, or is not sound.
    pub async fn verifier(&self) -> Verifier {
        let address = self.running().jwks;
        let client = reqwest::Client::builder()
            .use_preconfigured_tls(channel::tls(&self.pki.ca(), None))
            .resolve("localhost", address)
            .build()
            .expect("an HTTPS client");
        let url = format!("https://localhost:{}/.well-known/jwks.json", address.port());
        let answer = client.get(url).send().await.and_then(reqwest::Response::error_for_status);
        let jwks = answer.expect("a JWK Set").bytes().await.expect("a JWK Set");
        Verifier::new(&jwks, &[TRUST_DOMAIN]).expect("a sound JWK Set")
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("a container runs")
    }

    /// The device's name, and what is said of it.
    fn device(&self) -> (&'static str, String) {
        match self.make {
            Make::SoftHsm => {
                let text = format!(
                    r#"kind = "pkcs11"
        model = "softhsm2"
        token_label = "hsm-a"
        pin = {{ file = "{STATE}/softhsm/pin" }}
        environment = {{ SOFTHSM2_CONF = "{STATE}/softhsm/softhsm2.conf" }}"#
                );
                (DEVICE, text)
            }
            Make::Swtpm => {
                let text = format!(
                    r#"kind = "tpm"
        tcti = "swtpm:host={},port={SWTPM}"
        exclusive = true
        secret = {{ file = "{STATE}/tpm/secret" }}"#,
                    self.swtpm_name()
                );
                (TPM, text)
            }
        }
    }

    fn config(&self) -> String {
        let (tts, ada) = (spiffe("tts"), spiffe("custodian/ada"));
        let (name, device) = self.device();
        format!(
            r#"
        state_dir = "{STATE}"
        [listen]
        grpc = "0.0.0.0:{GRPC}"
        jwks = "0.0.0.0:{JWKS}"
        [tls]
        certificate = "server.crt"
        private_key = "server.key"
        client_ca = "ca.crt"
        trust_domain = "{TRUST_DOMAIN}"
        [users]
        server = "mintwarden"
        worker = "mintwarden-worker"
        [[device]]
        name = "{name}"
        {device}
        [[issuer]]
        name = "{ISSUER}"
        iss = "{ISS}"
        devices = ["{name}"]
        audience = ["{TRUST_DOMAIN}"]
        [[grant]]
        role = "signer"
        to = ["{tts}"]
        issuers = ["{ISSUER}"]
        [[grant]]
        role = "custodian"
        person = "ada"
        to = ["{ada}"]
        "#
        )
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // The containers first: a volume in use stays.
        drop(self.running.take());
        drop(self.swtpm.take());
        let removed = Command::new("docker").args(["volume", "rm", "--force", &self.name]).output();
        if !removed.is_ok_and(|said| said.status.success()) {
            eprintln!("the volume {} could not be removed", self.name);
        }
    }
}

fn image() -> GenericImage {
    let image = env::var("MINTWARDEN_TEST_IMAGE").expect(
        "MINTWARDEN_TEST_IMAGE names no image: scripts/test.sh makes one and sets it; to leave out \
         container tests, filter them by name",
    );
    let (name, tag) = image.rsplit_once(':').unwrap_or((&image, "latest"));
    GenericImage::new(name, tag)
}

async fn reach(container: &ContainerAsync<GenericImage>, host: &str, port: u16) -> SocketAddr {
    let port = container.get_host_port_ipv4(port.tcp()).await.expect("a mapped port");
    let mut found = tokio::net::lookup_host((host, port)).await.expect("the engine's host");
    found.find(SocketAddr::is_ipv4).expect("an IPv4 address")
}
