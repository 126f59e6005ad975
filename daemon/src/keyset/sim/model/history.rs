//! One history: the circumstances as they are drawn, and the world that they happen to.

use std::{collections::BTreeSet, time::Duration};

use mintwarden_worker::jwk::Kid;
use proptest::{prelude::*, strategy::BoxedStrategy};

use super::event::{Change, DeviceEvent, Event, Order, Pick, any_policy, longest_tick};
use crate::keyset::{
    Key, KeyState, Keyset, Policy,
    act::CustodianAct,
    precaution::Precaution,
    sim::{seconds, world::World},
};

/// What is known without the appliance: how it is configured at first, and which faults last.
#[derive(Clone, Debug)]
pub(super) struct Circumstances {
    pub(super) policy: Policy,
    slow: bool,
    clock: bool,
    down: BTreeSet<&'static str>,
    away: BTreeSet<&'static str>,
    spoilt: BTreeSet<&'static str>,
}

impl Circumstances {
    pub(super) fn any() -> BoxedStrategy<Self> {
        let fine = |policy| Self {
            policy,
            slow: false,
            clock: false,
            down: BTreeSet::new(),
            away: BTreeSet::new(),
            spoilt: BTreeSet::new(),
        };
        any_policy().prop_map(fine).boxed()
    }

    pub(super) fn follow(&mut self, event: &Event) {
        match *event {
            Event::Slow(slow) => self.slow = slow,
            Event::Clock(by) | Event::Down { clock: Some(by), .. } => self.clock = by != 0,
            Event::Device(device, event) => {
                match event {
                    DeviceEvent::Down => self.down.insert(device),
                    DeviceEvent::Up => self.down.remove(device),
                    DeviceEvent::Away => self.away.insert(device),
                    DeviceEvent::Back => self.away.remove(device),
                    DeviceEvent::Mishap(..) => self.spoilt.insert(device),
                    DeviceEvent::Mended => self.spoilt.remove(device),
                };
            }
            _ => {}
        }
    }

    /// What ends the faults that last.
    pub(super) fn mendings(&self) -> Vec<Event> {
        let of = |devices: &BTreeSet<&'static str>, event: DeviceEvent| {
            devices.iter().map(|&device| Event::Device(device, event)).collect::<Vec<_>>()
        };
        let mut all = of(&self.down, DeviceEvent::Up);
        all.extend(of(&self.away, DeviceEvent::Back));
        all.extend(of(&self.spoilt, DeviceEvent::Mended));
        all.extend(self.slow.then_some(Event::Slow(false)));
        all.extend(self.clock.then_some(Event::Clock(0)));
        all
    }
}

/// A history under way.
pub(super) struct History {
    pub(super) world: World,
    copy: Option<Keyset>,
    events: usize,
}

impl History {
    pub(super) fn begin(world: World) -> Self {
        Self { world, copy: None, events: 0 }
    }

    pub(super) fn happens(&mut self, event: &Event) {
        self.events += 1;
        let world = &mut self.world;
        match event {
            Event::Run { seconds: time, tick } => {
                let tick = Duration::from_millis(*tick).min(longest_tick(&world.policy));
                world.run_by(seconds(*time), tick);
            }
            Event::Stall { seconds: time } => world.stall(seconds(*time)),
            Event::Down { seconds: time, crash, reboot, clock } => {
                if *crash {
                    world.crash();
                } else {
                    world.stop();
                }
                self.pass(*time);
                if *reboot {
                    self.world.clock.reboot();
                }
                if let Some(by) = clock {
                    self.world.clock.lock().wrong_by = *by;
                }
                self.world.start();
            }
            Event::PowerCut { cut, seconds: time } => {
                world.store.cut(Some(*cut));
                self.pass(*time);
                self.world.crash();
                self.world.store.cut(None);
                self.world.start();
            }
            Event::StoreFails { cut, seconds: time } => {
                world.store.cut(Some(*cut));
                self.pass(*time);
                self.world.store.cut(None);
            }
            Event::KilledInCall { done, seconds: time } => {
                let slow = std::mem::replace(&mut world.slow, true);
                self.pass(*time);
                if *done {
                    self.world.crash_in_call();
                } else {
                    self.world.crash();
                }
                self.world.slow = slow;
                self.world.start();
            }
            Event::Slow(slow) => world.slow = *slow,
            Event::Clock(by) => world.clock.lock().wrong_by = *by,
            Event::Device(device, event) => self.device(device, *event),
            Event::Order(order) => {
                if let Some(act) = self.act(*order) {
                    // Refused, or carried out: both are right.
                    let _answer = self.world.order(&act);
                }
            }
            Event::SignedWrong(pick) => {
                if let Some(kid) = self.pick(*pick) {
                    self.world.precaution(&Precaution::SuspendWrongSigner(kid));
                }
            }
            Event::Configure(change) => self.configure(change),
            Event::Copy => self.copy = world.store.stored(),
            Event::PutBack { emptied, downtime } => {
                let copy = if *emptied { None } else { self.copy.clone() };
                world.put_back(copy.as_ref());
                self.pass(*downtime);
                self.world.start();
            }
            Event::Join(habit) => world.verifiers.join(*habit),
        }
    }

    fn pass(&mut self, time: u64) {
        let tick = longest_tick(&self.world.policy).min(Duration::from_secs(2));
        self.world.run_by(seconds(time), tick);
    }

    fn device(&mut self, device: &str, event: DeviceEvent) {
        let devices = &self.world.devices;
        match event {
            DeviceEvent::Down => devices.with(device, |sim| sim.down = true),
            DeviceEvent::Up => devices.with(device, |sim| {
                sim.down = false;
                sim.starts += 1;
            }),
            DeviceEvent::Away => devices.show(device, false),
            DeviceEvent::Back => devices.show(device, true),
            DeviceEvent::Mishap(mishap, after) => devices.with(device, |sim| {
                sim.mishap = Some(mishap);
                sim.mishap_after = after;
            }),
            DeviceEvent::Mended => devices.with(device, |sim| sim.mishap = None),
        }
    }

    /// What a start refuses is not taken over.
    fn configure(&mut self, change: &Change) {
        let world = &mut self.world;
        let next = change.of(&world.policy);
        if world.fits(&next) {
            world.stop();
            world.configure(next);
            world.start();
        }
    }

    pub(super) fn act(&self, order: Order) -> Option<CustodianAct> {
        let kid = |pick| self.pick(pick).map(|kid| kid.to_string());
        Some(match order {
            Order::Init => CustodianAct::Init,
            Order::Recover { danger } => CustodianAct::Recover { danger_immature: danger },
            Order::Rotate(device) => CustodianAct::Rotate { device: device.map(ToOwned::to_owned) },
            Order::Activate { key, danger } => {
                CustodianAct::Activate { kid: kid(key)?, danger_immature: danger }
            }
            Order::Suspend(key) => CustodianAct::Suspend { kid: kid(key)? },
            Order::Resume(key) => CustodianAct::Resume { kid: kid(key)? },
            Order::Revoke(key, fallback) => CustodianAct::Revoke { kid: kid(key)?, fallback },
            Order::Destroy(key) => CustodianAct::Destroy { kid: kid(key)? },
        })
    }

    fn pick(&self, pick: Pick) -> Option<Kid> {
        let keyset = self.world.store.stored()?;
        let of = |meant: &dyn Fn(&Key) -> bool, n: usize| {
            let found: Vec<_> = keyset.keys.iter().filter(|key| meant(key)).collect();
            let key = found.get(n.checked_rem(found.len())?)?;
            key.kid().cloned()
        };
        match pick {
            Pick::Active(n) => of(&|key| key.state == KeyState::Active, n),
            Pick::Standby(n) => of(&Key::is_standby, n),
            Pick::Suspended(n) => of(&|key| key.state == KeyState::Suspended, n),
            Pick::Any(n) => of(&|_| true, n),
        }
    }

    pub(super) fn events(&self) -> usize {
        self.events
    }
}
