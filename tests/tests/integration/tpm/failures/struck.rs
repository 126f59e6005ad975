//! What every row does: an appliance with a TPM that can fail, callers, and what it cost them.

use std::time::{Duration, Instant};

use mintwarden_client::{
    Error,
    api::{DeviceState, DeviceStatus, Key, KeyState, RevokeFallback},
};
use mintwarden_tests::{
    Appliance, Builder, ISSUER, TPM, Verifier, claims, eventually,
    tpm::{Relay, Rule},
};
use tokio::task::JoinSet;

/// So many callers want a signature when the fault strikes.
const CALLERS: u64 = 16;

/// An initialised appliance with one TPM that can fail.
pub(super) struct Struck {
    pub(super) appliance: Appliance,
    pub(super) verifier: Verifier,
    /// The key that signs, before and after.
    pub(super) kid: String,
}

/// What a fault has cost.
#[derive(Debug)]
pub(super) struct Cost {
    /// Workers that were started, over the first.
    pub(super) restarts: u64,
    /// What the status says of it; empty where nothing had to be started again.
    pub(super) fault: String,
}

impl Struck {
    pub(super) async fn new() -> Self {
        Self::with(Appliance::swtpm()).await
    }

    pub(super) async fn with(builder: Builder) -> Self {
        Self::of(builder.faulty().start_initialised().await).await
    }

    /// One that is initialised.
    pub(super) async fn of(appliance: Appliance) -> Self {
        let verifier = appliance.verifier(ISSUER).await;
        let mut this = Self { appliance, verifier, kid: String::new() };
        this.kid = this.sign(0).await.expect("a TPM that is well");
        this
    }

    pub(super) fn relay(&self) -> &Relay {
        self.appliance.tpm().relay()
    }

    /// One token, verified; which key signed it.
    pub(super) async fn sign(&self, number: u64) -> Result<String, Error> {
        let token = self.appliance.client().issuer(ISSUER).sign(claims::trade(number)).await?;
        Ok(self.verifier.verify(&token).unwrap().kid)
    }

    /// Many callers at once; each has to get a token that verifies, by the same key.
    pub(super) async fn all_sign(&self) {
        let mut callers = JoinSet::new();
        let issuer = self.appliance.client().issuer(ISSUER);
        for number in 0..CALLERS {
            let issuer = issuer.clone();
            callers.spawn(async move { issuer.sign(claims::trade(number)).await });
        }
        for token in callers.join_all().await {
            let token = token.expect("callers see nothing of it");
            assert_eq!(self.verifier.verify(&token).unwrap().kid, self.kid);
        }
    }

    /// Strikes while many callers sign. All of them get their tokens, and the device is ready again.
    pub(super) async fn heals_unseen(&self, rule: Rule) -> Cost {
        let starts = self.device().await.starts;
        let begun = Instant::now();
        let rule = self.relay().add(rule);
        self.all_sign().await;
        assert_ne!(self.relay().fired(rule), 0, "the fault struck");
        let device = self.ready().await;
        let fault = device.last_fault.map(|fault| fault.reason).unwrap_or_default();
        let cost = Cost { restarts: device.starts - starts, fault };
        report(&cost, begun.elapsed());
        cost
    }

    async fn standby(&self) -> Option<Key> {
        let keysets = self.appliance.custodian().list_keys(Some(ISSUER)).await.unwrap();
        let mut keys = keysets.into_iter().flat_map(|keyset| keyset.keys);
        keys.find(|key| key.state() == KeyState::PreActive && key.published)
    }

    /// Has a key made: a standby in the place of the one that there is.
    pub(super) async fn replace_standby(&self) -> String {
        let old = self.standby().await.expect("there is one").kid;
        let custodian = self.appliance.custodian();
        let none = RevokeFallback::Unspecified;
        custodian.revoke(ISSUER, &old, none, "a test").await.unwrap();
        old
    }

    /// Waits until there is another standby than this one.
    pub(super) async fn other_standby(&self, old: &str) -> String {
        eventually("there is another standby", async || {
            self.standby().await.map(|key| key.kid).filter(|kid| kid != old)
        })
        .await
    }

    pub(super) async fn device(&self) -> DeviceStatus {
        self.appliance.status().await.devices.remove(0)
    }

    pub(super) async fn ready(&self) -> DeviceStatus {
        self.until(DeviceState::Ready).await
    }

    pub(super) async fn until(&self, state: DeviceState) -> DeviceStatus {
        self.appliance.until_device(TPM, state).await
    }
}

impl Cost {
    /// The connection was made anew, within the same worker.
    pub(super) fn was_a_connection(&self) {
        assert_eq!((self.restarts, &*self.fault), (0, ""), "{self:?}");
    }

    /// A worker was started again.
    pub(super) fn was_a_worker(&self, fault: &str) {
        assert_eq!((self.restarts, &*self.fault), (1, fault), "{self:?}");
    }
}

/// For the table in `docs/faults.md`: seen with `--no-capture`.
pub(super) fn report(cost: &Cost, time: Duration) {
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    eprintln!("row: {test}: {cost:?} in {} ms", time.as_millis());
}
