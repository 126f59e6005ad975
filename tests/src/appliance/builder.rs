use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use faulty_pkcs11::Faulty;
use mintwarden_hsm_config::name::DeviceName;
use toml::{Table, Value, toml};

use super::Appliance;
use crate::{DEVICE, ISS, ISSUER, Pki, TRUST_DOMAIN, Token, Tpm, pki::spiffe, programs};

/// What a device is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Make {
    SoftHsm,
    Swtpm,
}

type Edit = Box<dyn FnOnce(&mut Table) + Send>;

/// Says what an [`Appliance`] has. Made by [`Appliance::softhsm`].
#[must_use = "call `start` or `prepare`"]
pub struct Builder {
    devices: Vec<(String, Make)>,
    issuers: Vec<Table>,
    grants: Vec<Table>,
    edits: Vec<Edit>,
    split_users: Option<[u32; 2]>,
    faulty: bool,
    program: &'static str,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            devices: vec![],
            issuers: vec![],
            grants: vec![],
            edits: vec![],
            split_users: None,
            faulty: false,
            program: programs::MINTWARDEN,
        }
    }

    /// A server that is killed on command at a write of its store: see [`Appliance::store`].
    pub fn faulty_store(mut self) -> Self {
        self.program = programs::FAULTY_STORE;
        self
    }

    /// All devices behind something that misbehaves on command: see [`Appliance::faulty`], and of TPMs
    /// [`Tpm::relay`].
    pub fn faulty(mut self) -> Self {
        self.faulty = true;
        self
    }

    /// One more device, with a PKCS#11 token of its own. The first takes the place of
    /// [`DEVICE`].
    pub fn with_device(mut self, name: &str) -> Self {
        self.devices.push((name.to_owned(), Make::SoftHsm));
        self
    }

    /// One more device: a TPM, a swtpm of its own. The first takes the place of [`DEVICE`].
    pub fn with_tpm(mut self, name: &str) -> Self {
        self.devices.push((name.to_owned(), Make::Swtpm));
        self
    }

    /// One more issuer: its `[[issuer]]` table. `name`, `iss`, `devices` (all of them) and `audience`
    /// are filled in where they are missing. The first takes the place of [`ISSUER`].
    pub fn with_issuer(mut self, issuer: Table) -> Self {
        self.issuers.push(issuer);
        self
    }

    /// One more grant: its `[[grant]]` table, beside those of TTS, own user (over the unix socket)
    /// and Ada.
    pub fn with_grant(mut self, grant: Table) -> Self {
        self.grants.push(grant);
        self
    }

    /// The `[limits]` table.
    pub fn with_limits(self, limits: Table) -> Self {
        self.with(move |config| {
            config.insert("limits".into(), limits.into());
        })
    }

    /// Server and workers as these two users (ids), which only root can do.
    ///
    /// The programs are copied, because other users may not reach the target directory.
    pub fn with_split_users(mut self, server: u32, worker: u32) -> Self {
        self.split_users = Some([server, worker]);
        self
    }

    /// A change of the whole configuration, made last.
    pub fn with(mut self, edit: impl FnOnce(&mut Table) + Send + 'static) -> Self {
        self.edits.push(Box::new(edit));
        self
    }

    /// Makes everything and starts it.
    ///
    /// # Panics
    /// If it does not start to serve.
    pub async fn start(self) -> Appliance {
        let mut appliance = self.prepare();
        appliance.start().await;
        appliance
    }

    /// Makes everything, starts it, and has Ada make the first keys of all issuers.
    ///
    /// # Panics
    /// If it does not start to serve, or a key cannot be made.
    pub async fn start_initialised(self) -> Appliance {
        let names = self
            .issuers
            .iter()
            .map(|issuer| issuer.get("name").and_then(Value::as_str).unwrap_or(ISSUER).to_owned());
        let names: Vec<_> = names.collect();
        let appliance = self.start().await;
        for name in if names.is_empty() { vec![ISSUER.to_owned()] } else { names } {
            appliance.init(&name).await;
        }
        appliance
    }

    /// Makes everything that it needs, and does not start it.
    ///
    /// # Panics
    /// If something cannot be made.
    #[must_use]
    pub fn prepare(self) -> Appliance {
        let directory = tempfile::Builder::new()
            .prefix("mintwarden-test-")
            .tempdir()
            .expect("a temporary directory");
        let pki = Pki::new(directory.path());
        pki.server("server", &[]);
        let (tts, ada) = (pki.client("tts"), pki.client("custodian/ada"));
        let mut made = self.devices;
        if made.is_empty() {
            made.push((DEVICE.into(), Make::SoftHsm));
        }
        let of =
            |make| made.iter().filter(move |(_, of)| *of == make).map(|(name, _)| name.clone());
        let place = |name: &str| directory.path().join(name);
        let tokens: Vec<_> = of(Make::SoftHsm)
            .map(|name| (name.clone(), Token::provision(&place(&name), &name)))
            .collect();
        let provision = |name: &str| match Tpm::provision(&place(name)) {
            tpm if self.faulty => tpm.behind_relay(),
            tpm => tpm,
        };
        let tpms: Vec<_> = of(Make::Swtpm).map(|name| (name.clone(), provision(&name))).collect();
        let names: Vec<_> = made.iter().map(|(name, _)| name.as_str()).collect();
        let faulty: Vec<_> = tokens
            .iter()
            .filter(|_| self.faulty)
            .map(|(name, _)| {
                let faulty = Faulty::listen(&directory.path().join(name));
                (name.clone(), faulty.expect("a control socket"))
            })
            .collect();
        let mut programs =
            programs::path(programs::MINTWARDEN).parent().expect("a file").to_owned();
        let mut config = base(self.split_users);
        if let Some([server, worker]) = self.split_users {
            programs = copy_programs(directory.path());
            tokens.iter().for_each(|(_, token)| token.give_to(worker, worker));
            tpms.iter().for_each(|(_, tpm)| tpm.give_to(worker, worker));
            let key = directory.path().join("server.key");
            std::os::unix::fs::chown(key, Some(server), Some(server)).expect("root gives away");
        }
        config.insert("device".into(), devices(&names, &tokens, &tpms, &faulty));
        config.insert("issuer".into(), issuers(self.issuers, &names));
        config.insert("grant".into(), grants(self.grants, &config));
        self.edits.into_iter().for_each(|edit| edit(&mut config));
        let path = directory.path().join("mintwarden.toml");
        fs::write(&path, config.to_string()).expect("the configuration");
        Appliance {
            directory,
            programs,
            program: self.program,
            config: path,
            pki,
            tokens,
            tpms,
            faulty,
            tts,
            ada,
            running: None,
            addresses: None,
        }
    }
}

fn base(split_users: Option<[u32; 2]>) -> Table {
    let mut config = toml! {
        state_dir = "state"
        [listen]
        grpc = "127.0.0.1:0"
        unix = "api.sock"
        jwks = "127.0.0.1:0"
        ops = "127.0.0.1:0"
        [tls]
        certificate = "server.crt"
        private_key = "server.key"
        client_ca = "ca.crt"
    };
    let tls = config["tls"].as_table_mut().expect("it is just above");
    tls.insert("trust_domain".into(), TRUST_DOMAIN.into());
    let users = match split_users {
        Some([server, worker]) => {
            // The unix socket's directory has to be the server's.
            config["listen"]["unix"] = "run/api.sock".into();
            let (server, worker) = (server.to_string(), worker.to_string());
            Some(toml! { server = server
            worker = worker })
        }
        None if rustix::process::geteuid().is_root() => {
            config.insert("dev".into(), true.into());
            Some(toml! { danger_shared_root = true })
        }
        None => None,
    };
    if let Some(users) = users {
        config.insert("users".into(), users.into());
    }
    config
}

/// All devices' tables as `SoftHsm` and `Swtpm` write them.
fn devices(
    names: &[&str],
    tokens: &[(String, Token)],
    tpms: &[(String, Tpm)],
    faulty: &[(String, Faulty)],
) -> Value {
    let tables = names.iter().map(|name| {
        let parsed: DeviceName = name.parse().expect("a device's name");
        let token = tokens.iter().find(|(of, _)| of == name).map(|(_, token)| token);
        let tpm = tpms.iter().find(|(of, _)| of == name).map(|(_, tpm)| tpm);
        let text = match (token, tpm) {
            (Some(token), _) => token.soft_hsm().device_toml(parsed),
            (_, Some(tpm)) => tpm.device_toml(parsed),
            _ => unreachable!("each device was made"),
        };
        let mut file: Table = text.parse().expect("a [[device]] table");
        let mut table = file["device"][0].as_table_mut().expect("a list of one").clone();
        if let (Some(token), Some((_, faulty))) = (token, faulty.iter().find(|(of, _)| of == name))
        {
            misbehave(&mut table, token, faulty);
        }
        Value::Table(table)
    });
    Value::Array(tables.collect())
}

/// Puts the faulty module before the real one.
fn misbehave(device: &mut Table, token: &Token, faulty: &Faulty) {
    let module = programs::path(programs::FAULTY_PKCS11).display().to_string();
    device.insert("module".into(), module.into());
    let environment = device.entry("environment").or_insert_with(|| Table::new().into());
    let environment = environment.as_table_mut().expect("a table");
    for (name, value) in faulty.environment(&token.soft_hsm().module) {
        let value = value.into_string().expect("paths of tests are UTF-8");
        environment.insert(name.into(), value.into());
    }
}

fn issuers(mut issuers: Vec<Table>, names: &[&str]) -> Value {
    if issuers.is_empty() {
        issuers.push(Table::new());
    }
    let devices: Vec<Value> = names.iter().map(|name| (*name).into()).collect();
    let complete = issuers.into_iter().map(|issuer| {
        let mut complete = Table::new();
        complete.insert("name".into(), ISSUER.into());
        complete.insert("iss".into(), ISS.into());
        complete.insert("devices".into(), Value::Array(devices.clone()));
        complete.insert("audience".into(), Value::Array(vec![TRUST_DOMAIN.into()]));
        complete.extend(issuer);
        Value::Table(complete)
    });
    Value::Array(complete.collect())
}

fn grants(grants: Vec<Table>, config: &Table) -> Value {
    let issuers = config["issuer"].as_array().expect("made just before");
    let names: Vec<Value> = issuers.iter().map(|issuer| issuer["name"].clone()).collect();
    let own_user = format!("unix:uid={}", rustix::process::geteuid().as_raw());
    let mut signer = toml! { role = "signer" };
    signer.insert("to".into(), Value::Array(vec![spiffe("tts").into(), own_user.into()]));
    signer.insert("issuers".into(), Value::Array(names));
    let mut custodian = toml! { role = "custodian"
    person = "ada" };
    custodian.insert("to".into(), Value::Array(vec![spiffe("custodian/ada").into()]));
    let all = [signer, custodian].into_iter().chain(grants).map(Value::Table);
    Value::Array(all.collect())
}

/// Copies the programs to where every user can run them, and lets every user pass through.
fn copy_programs(directory: &Path) -> PathBuf {
    let open = |path: &Path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a file's mode");
    };
    open(directory);
    let copies = directory.join("bin");
    fs::create_dir(&copies).expect("a directory for the programs");
    open(&copies);
    for program in [programs::MINTWARDEN, programs::WORKER, programs::TPM_WORKER] {
        fs::copy(programs::path(program), copies.join(program)).expect("a copy of a program");
    }
    copies
}
