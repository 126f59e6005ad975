//! `apply` against a simulated store and devices that can fail between any two calls. The real store
//! and the real device have their tests in `store` and in the integration tests.

mod clocks;
mod custodians;
mod making;
mod moving;

use std::{collections::BTreeSet, time::Duration};

use mintwarden_worker::device::KeyHandle;

use super::fresh_handle;
use crate::keyset::{
    Destruction, Key, KeyState, Keyset, Leftover, Phase, Policy,
    act::{CustodianAct, Fallback, Refusal},
    alarm::Alarm,
    apply::OrderError,
    plan::Obstacle,
    sim::{Cut, Mishap, policy, world::World},
};

const HOUR: Duration = Duration::from_secs(3600);
/// R + P + S, and a tick or two.
const MATURE: Duration = Duration::from_secs(117);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn count(world: &World, state: KeyState) -> usize {
    world.keyset().keys.iter().filter(|key| key.state == state).count()
}

fn active(world: &World) -> String {
    let keyset = world.keyset();
    keyset.active("a").expect("a key signs").1.kid.to_string()
}

fn standby(world: &World) -> String {
    let keyset = world.keyset();
    keyset.keys.iter().find(|key| key.is_standby()).expect("a standby").name()
}

fn made(world: &World) -> usize {
    world.devices.lock().made
}
