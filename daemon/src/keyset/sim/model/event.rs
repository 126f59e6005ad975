//! What can happen to an appliance.

use std::time::Duration;

use mintwarden_worker::{Algorithm, algorithm::RsaBits};
use proptest::{prelude::*, sample::select, strategy::BoxedStrategy};

use super::history::Circumstances;
use crate::keyset::{
    Policy,
    act::Fallback,
    sim::{Cut, Mishap, policy, seconds, verifiers::Habit},
};

#[derive(Clone, Debug)]
pub(super) enum Event {
    /// Time passes in steps of so many milliseconds.
    Run {
        seconds: u64,
        tick: u64,
    },
    /// The process stands still.
    Stall {
        seconds: u64,
    },
    /// The appliance is down for a while: ended in good order or not.
    Down {
        seconds: u64,
        crash: bool,
        reboot: bool,
        clock: Option<i64>,
    },
    /// The power goes at a write of the store, or after a while.
    PowerCut {
        cut: Cut,
        seconds: u64,
    },
    /// The store fails for a while, from one of its writes on.
    StoreFails {
        cut: Cut,
        seconds: u64,
    },
    /// The process is killed while a device is called, which does what it was asked for or not.
    KilledInCall {
        done: bool,
        seconds: u64,
    },
    /// Devices take as long as they like.
    Slow(bool),
    /// The wall clock is off by so many milliseconds from now on.
    Clock(i64),
    Device(&'static str, DeviceEvent),
    Order(Order),
    /// A key signed wrong twice: the appliance suspends it.
    SignedWrong(Pick),
    Configure(Change),
    /// The store is copied, and put back later; or it is emptied.
    Copy,
    PutBack {
        emptied: bool,
        downtime: u64,
    },
    /// One more verifier.
    Join(Habit),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum DeviceEvent {
    Down,
    Up,
    /// Its keys are not shown, or shown again.
    Away,
    Back,
    /// Something goes wrong with a call, after so many others.
    Mishap(Mishap, usize),
    Mended,
}

/// A custodian's act, with its key by what it is at the time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    Init,
    Recover { danger: bool },
    Rotate(Option<&'static str>),
    Activate { key: Pick, danger: bool },
    Suspend(Pick),
    Resume(Pick),
    Revoke(Pick, Option<Fallback>),
    Destroy(Pick),
}

/// Which key: the n-th of those that are so.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pick {
    Active(usize),
    Standby(usize),
    Suspended(usize),
    Any(usize),
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Timing { refresh: u64, propagation: u64, skew: u64, slack: u64 },
    Lifetime(u64),
    SignUntil(Option<u64>),
    Standbys(usize),
    Algorithm(Option<RsaBits>),
    Devices { used: &'static [&'static str], lost: &'static [&'static str] },
    DestroyAfter(u64),
}

impl Change {
    /// The policy with this changed; other timings are drawn along where they would contradict it.
    pub(super) fn of(&self, policy: &Policy) -> Policy {
        let mut next = policy.clone();
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        match *self {
            Self::Timing { refresh, propagation, skew, slack } => {
                next.verifier_refresh = seconds(refresh);
                next.propagation = seconds(propagation);
                next.skew = seconds(skew);
                let limit = next.sign_until.map(|limit| limit - next.rotate_every);
                next.rotate_every = next.maturity() + seconds(slack);
                next.sign_until = limit.map(|limit| next.rotate_every + limit);
            }
            Self::Lifetime(lifetime) => next.max_token_lifetime = seconds(lifetime),
            Self::SignUntil(after) => {
                next.sign_until = after.map(|after| next.rotate_every + seconds(after));
            }
            Self::Standbys(standbys) => next.standbys = standbys,
            Self::Algorithm(rsa_bits) => {
                next.algorithm = rsa_bits.map_or(Algorithm::ES256, |_| Algorithm::PS256);
                next.rsa_bits = rsa_bits;
            }
            Self::Devices { used, lost } => {
                (next.devices, next.lost_devices) = (names(used), names(lost));
            }
            Self::DestroyAfter(after) => next.destroy_after = seconds(after),
        }
        next
    }

    fn any() -> BoxedStrategy<Self> {
        let timing = (select(&[20, 60, 100, 200][..]), select(&[2, 10][..]), select(&[1, 5][..]))
            .prop_flat_map(|(refresh, propagation, skew)| {
                let slack = select(&[0, 5, 60, 300][..]);
                slack.prop_map(move |slack| Self::Timing { refresh, propagation, skew, slack })
            });
        let devices: &[(&[&str], &[&str])] = &[
            (&["a"], &[]),
            (&["b"], &[]),
            (&["a", "b"], &[]),
            (&["b", "a"], &[]),
            (&["a"], &["b"]),
            (&["b"], &["a"]),
        ];
        prop_oneof![
            3 => timing,
            1 => select(&[10, 60, 150][..]).prop_map(Self::Lifetime),
            1 => select(&[None, Some(10), Some(200)][..]).prop_map(Self::SignUntil),
            1 => (1..=3usize).prop_map(Self::Standbys),
            1 => select(&[None, Some(RsaBits::B2048)][..]).prop_map(Self::Algorithm),
            3 => select(devices).prop_map(|(used, lost)| Self::Devices { used, lost }),
            1 => select(&[0, 50, 300][..]).prop_map(Self::DestroyAfter),
        ]
        .boxed()
    }
}

/// Policies that an appliance may begin with.
pub(super) fn any_policy() -> BoxedStrategy<Policy> {
    proptest::collection::vec(Change::any(), 0..4)
        .prop_map(|changes| {
            let first = policy(&["a"]);
            let next = changes.iter().fold(first, |policy, change| change.of(&policy));
            Policy { lost_devices: vec![], ..next }
        })
        .boxed()
}

fn a_while() -> BoxedStrategy<u64> {
    prop_oneof![1..10u64, 10..120u64, 120..900u64].boxed()
}

fn clock() -> BoxedStrategy<i64> {
    const HOUR: i64 = 3_600_000;
    let known = select(&[0, 0, 0, 900, -900, 4000, -4000, 20_000, -20_000][..]);
    prop_oneof![2 => known, 1 => -26 * HOUR..26 * HOUR].boxed()
}

fn cut() -> BoxedStrategy<Cut> {
    let cut = |(after, stored, unreadable)| Cut { after, stored, unreadable };
    (0..8usize, any::<bool>(), any::<bool>()).prop_map(cut).boxed()
}

fn pick() -> BoxedStrategy<Pick> {
    prop_oneof![
        3 => (0..2usize).prop_map(Pick::Active),
        3 => (0..3usize).prop_map(Pick::Standby),
        1 => (0..3usize).prop_map(Pick::Suspended),
        1 => (0..12usize).prop_map(Pick::Any),
    ]
    .boxed()
}

impl Order {
    fn any() -> BoxedStrategy<Self> {
        let fallback = select(&[None, Some(Fallback::DangerImmature), Some(Fallback::Wait)][..]);
        prop_oneof![
            1 => Just(Self::Init),
            2 => any::<bool>().prop_map(|danger| Self::Recover { danger }),
            3 => select(&[None, Some("a"), Some("b")][..]).prop_map(Self::Rotate),
            3 => (pick(), any::<bool>()).prop_map(|(key, danger)| Self::Activate { key, danger }),
            2 => pick().prop_map(Self::Suspend),
            2 => (0..3usize).prop_map(|n| Self::Resume(Pick::Suspended(n))),
            4 => (pick(), fallback).prop_map(|(key, fallback)| Self::Revoke(key, fallback)),
            1 => (0..12usize).prop_map(|n| Self::Destroy(Pick::Any(n))),
        ]
        .boxed()
    }
}

impl DeviceEvent {
    fn any() -> BoxedStrategy<Self> {
        let mishaps = select(&[Mishap::Before, Mishap::After, Mishap::Defect, Mishap::Twin][..]);
        prop_oneof![
            1 => Just(Self::Down),
            1 => Just(Self::Away),
            3 => (mishaps, 0..4usize).prop_map(|(mishap, after)| Self::Mishap(mishap, after)),
        ]
        .boxed()
    }
}

impl Event {
    /// What may happen next: everything, and more often than not the end of a fault.
    pub(super) fn any(circumstances: &Circumstances) -> BoxedStrategy<Self> {
        let ticks = select(&[250, 500, 1000, 2500, 5000][..]);
        let run = (a_while(), ticks).prop_map(|(seconds, tick)| Self::Run { seconds, tick });
        let down =
            (a_while(), any::<bool>(), any::<bool>(), proptest::option::weighted(0.2, clock()))
                .prop_map(|(seconds, crash, reboot, clock)| Self::Down {
                    seconds,
                    crash,
                    reboot,
                    clock,
                });
        let device = (select(&["a", "b"][..]), DeviceEvent::any());
        let habit = (1..=100u64, -100..=100i64, 0..=100u64, any::<bool>()).prop_map(
            |(keeps, skew, lag, asks_on_unknown)| Habit { keeps, skew, lag, asks_on_unknown },
        );
        let put_back = (any::<bool>(), a_while())
            .prop_map(|(emptied, downtime)| Self::PutBack { emptied, downtime });
        let all = prop_oneof![
            20 => run,
            2 => (6..60u64).prop_map(|seconds| Self::Stall { seconds }),
            4 => down,
            4 => (cut(), a_while()).prop_map(|(cut, seconds)| Self::PowerCut { cut, seconds }),
            2 => (cut(), a_while()).prop_map(|(cut, seconds)| Self::StoreFails { cut, seconds }),
            4 => (any::<bool>(), a_while())
                .prop_map(|(done, seconds)| Self::KilledInCall { done, seconds }),
            1 => Just(Self::Slow(true)),
            2 => clock().prop_map(Self::Clock),
            4 => device.prop_map(|(device, event)| Self::Device(device, event)),
            12 => Order::any().prop_map(Self::Order),
            1 => (0..2usize).prop_map(|n| Self::SignedWrong(Pick::Active(n))),
            4 => Change::any().prop_map(Self::Configure),
            1 => Just(Self::Copy),
            1 => put_back,
            3 => habit.prop_map(Self::Join),
        ];
        let faults = circumstances.mendings();
        match faults.is_empty() {
            true => all.boxed(),
            false => prop_oneof![4 => all, 1 => select(faults)].boxed(),
        }
    }
}

/// The longest step of time that counts as served, for R + P + S as they are.
pub(super) fn longest_tick(policy: &Policy) -> Duration {
    (policy.maturity() / 10).clamp(Duration::from_secs(1), Duration::from_secs(5))
}
