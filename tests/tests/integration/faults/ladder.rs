//! What every row does: an appliance with a device that can fail, callers, and what it cost them.

use std::time::{Duration, Instant};

use mintwarden_client::{
    Error, Issuer,
    api::{DeviceState, DeviceStatus},
};
use mintwarden_tests::{
    Appliance, Builder, DEVICE, ISSUER, Verifier, claims,
    faulty::{Applied, Faulty, Function, Rule},
};
use tokio::task::JoinSet;

/// So many callers want a signature when the fault strikes.
const CALLERS: u64 = 16;

/// A device's call may take so long where a test is about calls that hang: more than any call takes on
/// a loaded machine.
pub(super) const CALL_TIMEOUT: &str = "2s";

/// An initialised appliance with one device that can fail.
pub(super) struct Ladder {
    pub(super) appliance: Appliance,
    pub(super) verifier: Verifier,
}

/// What a fault has cost.
#[derive(Debug)]
pub(super) struct Cost {
    /// Workers that were started, over the first.
    pub(super) restarts: u64,
    /// Logins, over the first.
    pub(super) logins: u64,
    /// What the status says of it; empty where nothing had to be started again.
    pub(super) fault: String,
}

impl Ladder {
    pub(super) async fn new() -> Self {
        Self::with(Appliance::softhsm()).await
    }

    /// With calls that time out soon.
    pub(super) async fn impatient() -> Self {
        Self::with(impatient(Appliance::softhsm())).await
    }

    /// With one session: what is lost for all of them is met by one call, and not by several that the module
    /// answers differently while it is being lost.
    pub(super) async fn of_one_session() -> Self {
        let with_one = |config: &mut toml::Table| {
            let device = config["device"][0].as_table_mut().unwrap();
            device.insert("sessions".into(), 1.into());
        };
        Self::with(Appliance::softhsm().with(with_one)).await
    }

    pub(super) async fn with(builder: Builder) -> Self {
        let appliance = builder.faulty().start_initialised().await;
        let verifier = appliance.verifier(ISSUER).await;
        let ladder = Self { appliance, verifier };
        ladder.sign(0).await.expect("a device that is well");
        ladder
    }

    pub(super) fn faulty(&self) -> &Faulty {
        self.appliance.faulty()
    }

    pub(super) fn add(&self, rule: Rule) -> Applied {
        self.faulty().add(rule).unwrap()
    }

    pub(super) fn logins(&self) -> u64 {
        self.faulty().calls(Function::C_Login)
    }

    /// The issuer, by a client that asks once: what heals has to be the appliance.
    fn issuer(&self) -> Issuer {
        let client = self.appliance.builder(self.appliance.tts()).max_attempts(1).build();
        client.expect("a client").issuer(ISSUER)
    }

    /// One token, verified.
    pub(super) async fn sign(&self, number: u64) -> Result<String, Error> {
        let token = self.issuer().sign(claims::trade(number)).await?;
        Ok(self.verifier.verify(&token).unwrap().kid)
    }

    /// Many callers at once; each has to get a token that verifies.
    pub(super) async fn all_sign(&self) {
        let mut callers = JoinSet::new();
        let issuer = self.issuer();
        for number in 0..CALLERS {
            let issuer = issuer.clone();
            callers.spawn(async move { issuer.sign(claims::trade(number)).await });
        }
        for token in callers.join_all().await {
            self.verifier.verify(&token.expect("callers see nothing of it")).unwrap();
        }
    }

    /// Strikes while many callers sign. All of them get their tokens, and the device is ready again.
    pub(super) async fn heals_unseen(&self, rule: Rule) -> Cost {
        let (logins, starts) = (self.logins(), self.device().await.starts);
        let begun = Instant::now();
        let rule = self.add(rule);
        self.all_sign().await;
        assert_ne!(self.faulty().fired(&rule), 0, "the fault struck");
        let device = self.ready().await;
        let fault = device.last_fault.map(|fault| fault.reason).unwrap_or_default();
        let cost = Cost { restarts: device.starts - starts, logins: self.logins() - logins, fault };
        report(&cost, begun.elapsed());
        cost
    }

    pub(super) async fn device(&self) -> DeviceStatus {
        self.appliance.status().await.devices.remove(0)
    }

    pub(super) async fn ready(&self) -> DeviceStatus {
        self.until(DeviceState::Ready).await
    }

    /// The worker said that the device has no room, and is not started again at once, which might make it
    /// worse: the launcher says how long it waits.
    pub(super) async fn is_left_alone_for(&self, wait: &str) {
        let said = format!(r#""status":"exit status: 75","wait":"{wait}""#);
        self.appliance.logs(&said).await;
    }

    pub(super) async fn until(&self, state: DeviceState) -> DeviceStatus {
        self.appliance.until_device(DEVICE, state).await
    }
}

impl Cost {
    /// A session was opened again, and nothing else.
    pub(super) fn was_a_session(&self) {
        assert_eq!((self.restarts, self.logins, &*self.fault), (0, 0, ""), "{self:?}");
    }

    /// A worker was started again, and logged in once.
    pub(super) fn was_a_worker(&self, fault: &str) {
        assert_eq!((self.restarts, self.logins, &*self.fault), (1, 1, fault), "{self:?}");
    }
}

/// With calls that time out soon.
pub(super) fn impatient(builder: Builder) -> Builder {
    builder.with(|config| {
        for device in config["device"].as_array_mut().unwrap() {
            let device = device.as_table_mut().unwrap();
            device.insert("device_call_timeout".into(), CALL_TIMEOUT.into());
        }
    })
}

/// For the table in `docs/faults.md`: seen with `--no-capture`.
pub(super) fn report(cost: &Cost, time: Duration) {
    eprintln!("row: {}: {cost:?} in {} ms", test(), time.as_millis());
}

/// The same, of what took its time since `begun`.
pub(super) fn timed(what: &str, begun: Instant) {
    eprintln!("row: {}: {what} after {} ms", test(), begun.elapsed().as_millis());
}

fn test() -> String {
    std::thread::current().name().unwrap_or_default().to_owned()
}
