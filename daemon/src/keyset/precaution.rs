//! What the appliance does to a keyset of its own accord: neither the schedule asks for it nor a
//! custodian. It only ever takes a key out of use, reversibly; taking it back is a custodian's.

use std::fmt;

use mintwarden_worker::jwk::Kid;

use super::{
    KeyState, Keyset, Suspension,
    change::{self, Context},
};

/// A precaution.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Precaution {
    /// Suspend the active key: two worker processes in a row signed with it what does not verify
    /// (I2).
    ///
    /// Nothing takes its place in its device by itself. The device computes wrong, or somebody makes
    /// it: until a person has looked, no further key is handed to it. Another device of the issuer
    /// takes over, and a custodian can activate the standby.
    SuspendWrongSigner(Kid),
}

impl fmt::Display for Precaution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SuspendWrongSigner(kid) => {
                write!(f, "suspend {kid}: {}", Suspension::WrongSignatures)
            }
        }
    }
}

/// The successor that a precaution makes of a keyset; `None` where its key does not sign any more.
#[must_use]
pub fn decide(keyset: &Keyset, precaution: &Precaution, cx: Context<'_>) -> Option<Keyset> {
    let Precaution::SuspendWrongSigner(kid) = precaution;
    let key = keyset.by_kid(kid.as_str()).filter(|key| key.state == KeyState::Active)?;
    Some(keyset.succeed(cx.clock.clone(), |next| {
        change::drop_activations(next, &key.device);
        if let Some(key) = next.by_handle_mut(&key.handle) {
            change::suspend(key, Suspension::WrongSignatures, cx);
        }
    }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::keyset::{
        act::CustodianAct,
        alarm::Alarm,
        sim::{Cut, policy, world::World},
    };

    /// R + P + S, and a tick or two.
    const MATURE: Duration = Duration::from_secs(117);

    fn signer(world: &World, device: &str) -> Kid {
        world.keyset().active(device).expect("a key signs").1.kid.clone()
    }

    fn state(world: &World, kid: &Kid) -> KeyState {
        world.keyset().by_kid(kid.as_str()).expect("on record").state
    }

    fn suspends(world: &mut World, kid: &Kid) {
        world.precaution(&Precaution::SuspendWrongSigner(kid.clone()));
    }

    #[test]
    fn i2_a_key_that_signs_wrong_is_suspended_for_good_until_a_custodian_resumes_it() {
        let mut world = World::initialised(policy(&["a"]));
        world.run(MATURE);
        let kid = signer(&world, "a");
        let version = world.keyset().version;
        suspends(&mut world, &kid);
        let keyset = world.keyset();
        assert_eq!(keyset.version, version + 1, "one compare-and-swap");
        let key = keyset.by_kid(kid.as_str()).expect("on record");
        assert_eq!((key.state, key.is_published()), (KeyState::Suspended, true));
        assert_eq!(key.suspension, Some(Suspension::WrongSignatures));
        // Neither a crash nor time changes that, and the mature standby is not handed to the device.
        world.crash();
        world.start();
        let signed = world.signed;
        world.run(Duration::from_secs(1000));
        assert_eq!((state(&world, &kid), world.signed), (KeyState::Suspended, signed));
        let told = |alarm: &Alarm| matches!(alarm, Alarm::Suspended { kid: of, why, .. } if *of == kid.as_str() && why.contains("by the appliance"));
        assert!(world.keeper().alarms().iter().any(told), "{:?}", world.keeper().alarms());
        let resume = CustodianAct::Resume { kid: kid.to_string() };
        world.order(&resume).expect("it is suspended");
        assert_eq!(world.keyset().by_kid(kid.as_str()).expect("on record").suspension, None);
        world.run(Duration::from_secs(1));
        assert!(world.signed > signed);
    }

    #[test]
    fn a_custodian_can_hand_the_work_to_the_standby() {
        let mut world = World::initialised(policy(&["a"]));
        world.run(MATURE);
        let kid = signer(&world, "a");
        let standby = world.keyset().keys.iter().find(|key| key.is_standby()).expect("one").name();
        suspends(&mut world, &kid);
        let activate = CustodianAct::Activate { kid: standby.clone(), danger_immature: false };
        world.order(&activate).expect("it is mature");
        assert_eq!(signer(&world, "a").as_str(), standby);
    }

    #[test]
    fn a_precaution_that_the_store_did_not_take_is_taken_again() {
        let mut world = World::initialised(policy(&["a"]));
        world.run(MATURE);
        let kid = signer(&world, "a");
        world.store.cut(Some(Cut { after: 0, stored: false, unreadable: false }));
        suspends(&mut world, &kid);
        assert_eq!(state(&world, &kid), KeyState::Active, "the store fails");
        world.store.cut(None);
        world.run(Duration::from_secs(120));
        suspends(&mut world, &kid);
        assert_eq!(state(&world, &kid), KeyState::Suspended);
    }

    #[test]
    fn a_key_that_signs_no_more_is_left_as_it_is() {
        let mut world = World::initialised(policy(&["a"]));
        world.run(MATURE);
        let kid = signer(&world, "a");
        world.order(&CustodianAct::Rotate { device: None }).expect("an active key");
        assert_ne!(signer(&world, "a"), kid);
        let before = world.keyset();
        suspends(&mut world, &kid);
        assert_eq!(world.keyset(), before);
    }
}
