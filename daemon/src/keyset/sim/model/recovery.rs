//! The end of a history: faults end, custodians do what the alarms ask for, and the steady state comes
//! back.

use super::{
    event::{Order, Pick, longest_tick},
    history::History,
};
use crate::clock::Clock as _;
use crate::keyset::{
    Key, KeyState, Keyset, Phase, Policy, act::CustodianAct, alarm::Alarm, plan::Obstacle,
};

impl History {
    /// The faults end. However things stand, time and custodians make them well.
    pub(super) fn ends_well(&mut self) {
        self.world.heal();
        for device in ["a", "b"] {
            self.world.devices.show(device, true);
        }
        self.pass_what_the_clock_has_shown();
        // A clock that stays wrong is believed by then.
        let policy = self.world.policy.clone();
        self.run(policy.settle() + longest_tick(&policy));
        self.publish();
        self.decide();
        // The longest R + P + S still in force, and each step of a rotation after it.
        let longest = self.world.keyset().maturity.wait.max(policy.maturity());
        self.run(2 * longest + policy.rotate_every + policy.maturity());
        self.world.assert_well();
        self.assert_tidy(&policy);
    }

    fn run(&mut self, time: std::time::Duration) {
        let tick = longest_tick(&self.world.policy);
        self.world.run_by(time, tick);
    }

    /// What was signed by a clock that ran ahead is published until the right one is past it.
    fn pass_what_the_clock_has_shown(&mut self) {
        let latest = self.world.keeper().now().peaks.since(std::time::Duration::ZERO);
        let behind = latest.since(self.world.clock.reading().wall);
        if !behind.is_zero() {
            self.world.stop();
            self.world.clock.advance(behind);
            self.world.start();
        }
    }

    /// An issuer whose store was emptied or put back is recovered; one that was begun anew is made.
    fn publish(&mut self) {
        let published = |keyset: &Keyset| keyset.phase == Phase::Published;
        if self.world.store.stored().is_some_and(|keyset| published(&keyset)) {
            return;
        }
        let recover = CustodianAct::Recover { danger_immature: false };
        if self.world.order(&recover).is_err() {
            self.world.order(&CustodianAct::Init).expect("there is nothing to recover");
        }
        self.run(std::time::Duration::from_secs(5));
        let keyset = self.world.keyset();
        assert!(published(&keyset), "{keyset:?}");
    }

    /// What waits for a custodian is decided.
    fn decide(&mut self) {
        while let Some(act) = self.act(Order::Resume(Pick::Suspended(0))) {
            self.world.order(&act).expect("a suspended key can be resumed");
        }
        for alarm in self.world.keeper().alarms() {
            match alarm {
                Alarm::GenerationStopped { why: Obstacle::Full { device, .. }, .. } => {
                    self.make_room(&device);
                }
                Alarm::GenerationStopped { why: Obstacle::GivenUp { .. }, .. } => {
                    let rotate = CustodianAct::Rotate { device: None };
                    self.world.order(&rotate).expect("the remedy it names");
                }
                _ => {}
            }
        }
    }

    /// Destroys what does not sign any more in a device that is full.
    fn make_room(&mut self, device: &str) {
        let keyset = self.world.keyset();
        let old = |key: &&Key| key.device == device && key.state == KeyState::Deactivated;
        for key in keyset.keys.iter().filter(old) {
            let destroy = CustodianAct::Destroy { kid: key.name() };
            self.world.order(&destroy).expect("the remedy it names");
        }
    }

    /// No more keys than the schedule needs: none is forgotten in a device, none is made in vain.
    fn assert_tidy(&self, policy: &Policy) {
        let keyset = self.world.keyset();
        for device in &policy.devices {
            let of = |meant: &dyn Fn(&Key) -> bool| {
                keyset.keys.iter().filter(|key| key.device == *device && meant(key)).count()
            };
            let standbys = of(&|key| key.state == KeyState::PreActive);
            let most = policy.standbys.max(3) + self.events();
            assert!(standbys <= most, "{device} has {standbys} standbys");
        }
        let made = self.world.devices.lock().made;
        let periods = self.world.clock.truth() / 20_000;
        let most = 6 * (2 + self.events()) + usize::try_from(periods).expect("few");
        assert!(made <= most, "{made} keys were made");
    }
}
