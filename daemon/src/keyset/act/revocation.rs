//! `revoke`: what takes over, or why nothing can.

use super::{Fallback, Refusal, wrong};
use crate::keyset::{
    Key, KeyState, Keyset,
    change::{self, Context},
    plan::timing,
};

pub(super) fn revoke(
    keyset: &Keyset,
    key: &Key,
    fallback: Option<Fallback>,
    cx: Context<'_>,
) -> Result<Keyset, Refusal> {
    let over = match key.state {
        KeyState::Generating | KeyState::Compromised => true,
        KeyState::Destroyed => !key.is_published(),
        _ => false,
    };
    if over {
        return Err(wrong(key, "there is nothing left to revoke"));
    }
    let mut successor = None;
    let has_a_place = key.state == KeyState::Active || keyset.holds_a_place(key);
    if has_a_place {
        let standbys = || {
            keyset.keys.iter().filter(|other| {
                other.is_standby() && other.device == key.device && other.handle != key.handle
            })
        };
        let left = |other: &Key| timing::until_mature(other, keyset, cx.now, cx.policy);
        successor = standbys().find(|other| timing::is_mature(other, keyset, cx.now, cx.policy));
        let elsewhere = keyset
            .keys
            .iter()
            .any(|other| other.state == KeyState::Active && other.device != key.device);
        let others = standbys().min_by_key(|other| left(other));
        successor = match (successor, fallback) {
            (Some(successor), _) => Some(successor),
            (None, Some(Fallback::DangerImmature)) => others,
            (None, Some(Fallback::Wait)) => None,
            (None, None) if elsewhere => None,
            (None, None) => return Err(Refusal::NoMatureStandby { left: others.and_then(left) }),
        };
    }
    Ok(keyset.succeed(cx.clock.clone(), |next| {
        next.allow_more_attempts();
        if has_a_place {
            change::drop_activations(next, &key.device);
        }
        if let Some(key) = next.by_handle_mut(&key.handle) {
            change::compromise(key, cx);
        }
        if let Some(successor) = successor.and_then(|other| next.by_handle_mut(&other.handle)) {
            change::activate(successor, cx);
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyset::{
        act::CustodianAct,
        sim::{policy, world::World},
    };

    #[test]
    fn a_mature_standby_takes_over_in_the_same_document() {
        let policy = policy(&["a"]);
        let mut world = World::initialised(policy.clone());
        world.run(policy.maturity() + policy.propagation);
        let (keyset, now) = (world.keyset(), world.keeper().now());
        let cx = Context { now: &now, clock: &keyset.clock, policy: &policy };
        let (old, _) = keyset.active("a").expect("it signs");
        let next = revoke(&keyset, old, None, cx).expect("a standby is mature");
        let (successor, _) = next.active("a").expect("no gap between two documents");
        assert_ne!(successor.handle, old.handle);
        assert!(successor.mature);
        let revoked = next.by_handle(&old.handle).expect("it stays on record");
        assert_eq!((revoked.state, revoked.is_published()), (KeyState::Compromised, false));
    }

    /// Its private key is gone, and what was signed with it before is still believed.
    #[test]
    fn a_destroyed_key_that_is_still_published_is_unpublished_at_once() {
        let policy = policy(&["a"]);
        let mut world = World::initialised(policy.clone());
        world.run(policy.maturity() + policy.propagation);
        let old = world.keyset().active("a").expect("it signs").0.clone();
        let kid = old.kid().expect("it is made").to_string();
        world.order(&CustodianAct::Rotate { device: None }).expect("a standby is mature");
        world.run(policy.propagation);
        world.order(&CustodianAct::Destroy { kid: kid.clone() }).expect("it does not sign");
        world.run(policy.propagation);
        let destroyed = world.keyset().by_handle(&old.handle).expect("it stays on record").clone();
        assert_eq!((destroyed.state, destroyed.is_published()), (KeyState::Destroyed, true));

        world.order(&CustodianAct::Revoke { kid, fallback: None }).expect("it is believed");
        let (keyset, now) = (world.keyset(), world.keeper().now());
        let revoked = keyset.by_handle(&old.handle).expect("it stays on record");
        let before = destroyed.destruction;
        assert_eq!((revoked.state, revoked.is_published()), (KeyState::Destroyed, false));
        assert_eq!(revoked.destruction, before);
        let exposed = timing::until_disbelieved(revoked, &keyset, &now, &policy);
        assert!(exposed.is_some_and(|left| !left.is_zero()), "{exposed:?}");
        let cx = Context { now: &now, clock: &keyset.clock, policy: &policy };
        assert!(revoke(&keyset, revoked, None, cx).is_err(), "nothing is left to revoke");
    }
}
