//! What custodians say, over the real keeper: stored whole or not at all, and in the record.

use futures_util::FutureExt as _;

use super::*;
use crate::{
    access::Custodians,
    keyset::{
        KeyState, Keyset, Pairs, Phase,
        proposal::{
            Quorum,
            tests::world::{IDENTITIES, caller, config},
        },
        sim::{Cut, Devices, Memory, SimClock, issuer, policy},
    },
    record::{Book, Entry},
};

/// The simulated futures never wait.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nothing in the simulation waits")
}

struct Office {
    store: Memory,
    devices: Devices,
    clock: SimClock,
    keeper: Keeper<Memory, SimClock>,
}

fn quorum(granted: &[&str], needed: usize) -> Quorum {
    let config = config(granted, needed);
    let custodians = Custodians::of(&config, &issuer());
    Quorum { approvals: config.approvals, custodians }
}

impl Office {
    /// With keys in two devices. All acts need two persons.
    fn new() -> Self {
        let mut office = Self::empty();
        let id = office.proposed("ada.example", CustodianAct::Init);
        office.approve("bob.example", &id).expect("init is agreed");
        office.work();
        assert_eq!(office.keyset().phase, Phase::Published);
        office
    }

    fn empty() -> Self {
        let (store, clock) = (Memory::new(None, Box::new(|_, _| {})), SimClock::new());
        let devices = Devices::default();
        let keeper = Self::open(&store, &clock);
        let mut office = Self { store, devices, clock, keeper };
        office.keeper.tick(true, &office.devices);
        office
    }

    fn open(store: &Memory, clock: &SimClock) -> Keeper<Memory, SimClock> {
        let (policy, pairs) = (policy(&["a", "b"]), Pairs::default());
        let show = Box::new(|_: &Keyset| {});
        let keeper = Keeper::open(issuer(), policy, pairs, store.clone(), clock.clone(), show);
        let keeper = now(keeper).expect("the store is well");
        keeper.staffed(quorum(&IDENTITIES, 2), Book::of_digest("digest"))
    }

    /// As after a crash.
    fn restart(&mut self) {
        self.store.cut(None);
        self.keeper = Self::open(&self.store, &self.clock);
        self.keeper.tick(true, &self.devices);
    }

    fn work(&mut self) {
        loop {
            let calls = now(self.keeper.work(&self.devices));
            if calls.is_empty() {
                return;
            }
            for call in calls {
                let answer = now(call.make(&issuer(), &self.devices));
                now(self.keeper.finish(&call, answer));
            }
        }
    }

    fn say(&mut self, who: &str, request: Request) -> Result<Heard, OrderError> {
        now(self.keeper.hear(&caller(who), &request, &self.devices))
    }

    fn act(&mut self, who: &str, act: CustodianAct) -> Result<Heard, OrderError> {
        self.say(who, Request::Act { act, reason: "because".into() })
    }

    fn proposed(&mut self, who: &str, act: CustodianAct) -> ProposalId {
        match self.act(who, act).expect("proposed") {
            Heard::Waits(id) => id,
            other => panic!("{other:?}"),
        }
    }

    fn approve(&mut self, who: &str, id: &ProposalId) -> Result<Heard, OrderError> {
        self.say(who, Request::Approve { id: id.clone(), reason: "agreed".into() })
    }

    fn keyset(&self) -> Keyset {
        self.store.stored().expect("a keyset")
    }

    fn kid(&self, device: &str) -> String {
        self.keyset().active(device).expect("an active key").1.kid.to_string()
    }

    fn ending(&self, id: &ProposalId) -> Option<Ending> {
        let proposals = now(self.store.proposals(&issuer())).expect("readable");
        proposals.closed(id).map(|closed| closed.ending.clone())
    }

    fn words(&self) -> Vec<&'static str> {
        self.store.entries().iter().map(|entry| entry.event.word()).collect()
    }
}

fn revoke(kid: String) -> CustodianAct {
    CustodianAct::Revoke { kid, fallback: None }
}

fn state(keyset: &Keyset, kid: &str) -> KeyState {
    keyset.by_kid(kid).expect("a record").state
}

#[test]
fn i8_a_crash_at_any_write_leaves_a_proposal_or_the_act_and_never_half_of_it() {
    for after in 0..4 {
        for stored in [false, true] {
            let mut office = Office::new();
            let kid = office.kid("a");
            // Mature standbys take over.
            office.clock.advance(std::time::Duration::from_secs(1));
            let act = CustodianAct::Revoke {
                kid: kid.clone(),
                fallback: Some(crate::keyset::act::Fallback::DangerImmature),
            };
            office.store.cut(Some(Cut { after, stored, unreadable: false }));
            let mut rounds = 0;
            loop {
                rounds += 1;
                assert!(rounds < 9, "it never comes to an end");
                let acted = |entry: &Entry| match &entry.event {
                    Event::Acted { act: done, by, .. } => *done == act && by.len() == 2,
                    _ => false,
                };
                let times = office.store.entries().iter().filter(|entry| acted(entry)).count();
                let revoked = state(&office.keyset(), &kid) == KeyState::Compromised;
                assert_eq!(times, usize::from(revoked), "the record tells what is stored");
                let open = office.keeper.proposals().open.clone();
                assert!(!revoked || open.is_empty(), "a proposal outlived its act");
                if revoked {
                    break;
                }
                let said = match open.first() {
                    None => office.act("ada.example", act.clone()),
                    Some(proposal) => office.approve("bob.example", &proposal.id.clone()),
                };
                if said.is_err() {
                    office.restart();
                }
            }
            office.restart();
            let mut opened = office.keeper.proposals().closed.iter();
            let carried_out = opened
                .any(|closed| closed.proposal.act == act && closed.ending == Ending::CarriedOut {});
            assert!(carried_out);
        }
    }
}

#[test]
fn a_change_of_its_key_voids_a_proposal_in_the_same_write() {
    let mut office = Office::new();
    let standby = |office: &Office, device: &str| {
        let keyset = office.keyset();
        let mut standbys = keyset.keys.iter().filter(|key| key.is_standby());
        standbys.find(|key| key.device == device).expect("a standby").name()
    };
    let (mine, elsewhere) = (standby(&office, "a"), standby(&office, "b"));
    let of = |kid: &str| CustodianAct::Activate { kid: kid.into(), danger_immature: true };
    let (here, there) =
        (office.proposed("ada.example", of(&mine)), office.proposed("ada.example", of(&elsewhere)));
    office.act("cleo.example", CustodianAct::Suspend { kid: mine.clone() }).expect("at once");
    assert!(matches!(office.ending(&here), Some(Ending::Void { .. })));
    assert_eq!(office.ending(&there), None, "nothing changed there");
    let refused = office.approve("bob.example", &here).expect_err("void");
    assert!(matches!(refused, OrderError::Proposal(ProposalRefusal::Void(_))), "{refused}");
    let tail = ["proposed", "proposed", "acted", "closed", "refused"];
    assert!(office.words().ends_with(&tail), "{:?}", office.words());
    assert_eq!(state(&office.keyset(), &mine), KeyState::Suspended);
}

#[test]
fn one_person_alone_changes_nothing_but_by_suspend() {
    let mut office = Office::new();
    let (kid, before) = (office.kid("a"), office.keyset());
    for act in [
        revoke(kid.clone()),
        CustodianAct::Rotate { device: None },
        CustodianAct::Destroy { kid: kid.clone() },
        CustodianAct::Recover { danger_immature: true },
        CustodianAct::Init,
    ] {
        for who in ["ada.example", "ada2.example"] {
            if let Ok(Heard::Waits(id)) = office.act(who, act.clone()) {
                office.approve("ada2.example", &id).expect_err("the same person");
                office.approve("ada.example", &id).expect_err("the same identity");
            }
        }
    }
    assert_eq!(office.keyset().keys, before.keys);
    assert_eq!(office.keyset().revision, before.revision, "proposals change no key");
    office.act("ada.example", CustodianAct::Suspend { kid: kid.clone() }).expect("the brake");
    assert_eq!(state(&office.keyset(), &kid), KeyState::Suspended);
    let id = office.proposed("ada.example", CustodianAct::Resume { kid: kid.clone() });
    office.approve("ada2.example", &id).expect_err("the same person");
    assert_eq!(state(&office.keyset(), &kid), KeyState::Suspended);
}

#[test]
fn what_would_be_refused_anyway_bothers_nobody_else() {
    let mut office = Office::new();
    let keyset = office.keyset();
    let standby = keyset.keys.iter().find(|key| key.is_standby()).expect("a standby").name();
    let hasty = CustodianAct::Activate { kid: standby, danger_immature: false };
    let refused = office.act("ada.example", hasty).expect_err("too young");
    assert!(matches!(refused, OrderError::Refused(Refusal::Immature { .. })), "{refused}");
    assert!(office.keeper.proposals().open.is_empty());
    assert!(office.words().ends_with(&["refused"]));
}

#[test]
fn an_act_that_is_refused_at_the_end_closes_its_proposal_and_changes_nothing() {
    let mut office = Office::new();
    let kid = office.kid("a");
    // As long as the other device signs, no choice has to be made.
    let id = office.proposed("ada.example", revoke(kid));
    let elsewhere = office.kid("b");
    office.act("cleo.example", CustodianAct::Suspend { kid: elsewhere }).expect("at once");
    let before = office.keyset();
    let refused = office.approve("bob.example", &id).expect_err("nothing can take over");
    assert!(matches!(refused, OrderError::Refused(Refusal::NoMatureStandby { .. })), "{refused}");
    assert_eq!(office.keyset(), before);
    let ending = office.ending(&id).expect("closed");
    assert!(matches!(ending, Ending::Refused { refusal, .. } if refusal == "NO_MATURE_STANDBY"));
    assert!(office.words().ends_with(&["approved", "closed", "refused"]), "{:?}", office.words());
    let again = office.approve("cleo.example", &id).expect_err("closed");
    assert!(matches!(again, OrderError::Proposal(ProposalRefusal::Closed(_))), "{again}");
}

#[test]
fn who_is_gone_from_the_configuration_does_not_count_after_a_restart() {
    let mut office = Office::new();
    let kid = office.kid("a");
    let act = CustodianAct::Rotate { device: Some("a".into()) };
    let id = office.proposed("ada.example", act);
    office.restart();
    let left = quorum(&["bob.example", "cleo.example"], 2);
    let keeper = Office::open(&office.store, &office.clock);
    office.keeper = keeper.staffed(left, Book::of_digest("another"));
    assert_eq!(office.approve("bob.example", &id), Ok(Heard::Waits(id.clone())));
    assert_eq!(office.kid("a"), kid);
    let done = office.approve("cleo.example", &id).expect("two of those who are there");
    assert!(matches!(done, Heard::Done { .. }));
    let by = office.store.entries().into_iter().rev().find_map(|entry| match entry.event {
        Event::Acted { by, .. } => Some((by, entry.config)),
        _ => None,
    });
    let (by, digest) = by.expect("it is in the record");
    let persons: Vec<_> = by.iter().map(|by| by.person.as_str()).collect();
    assert_eq!((persons, digest.as_str()), (vec!["bob", "cleo"], "another"));
}

#[test]
fn i9_one_person_fills_no_disk_and_is_always_heard_with_suspend() {
    let mut office = Office::new();
    let before = office.store.entries().len();
    let (kid, mut refused) = (office.kid("a"), 0);
    for _ in 0..400 {
        match office.act("ada.example", CustodianAct::Rotate { device: None }) {
            Ok(Heard::Waits(id)) => {
                let reason = String::new();
                office.say("ada.example", Request::Reject { id, reason }).ok();
            }
            Err(OrderError::Proposal(ProposalRefusal::TooOften)) => refused += 1,
            other => panic!("{other:?}"),
        }
        office.keeper.tick(true, &office.devices);
    }
    // One was used for init.
    assert!(refused > 200, "{refused}");
    let entries = office.store.entries().len() - before;
    assert!(entries <= 240 + 60, "{entries}");
    office.act("ada.example", CustodianAct::Suspend { kid: kid.clone() }).expect("the brake");
    assert_eq!(state(&office.keyset(), &kid), KeyState::Suspended);
    let id = office.proposed("bob.example", CustodianAct::Resume { kid });
    office.approve("cleo.example", &id).expect("each person for itself");
    office.clock.advance(std::time::Duration::from_secs(3600));
    office.proposed("ada.example", CustodianAct::Rotate { device: None });
}

#[test]
fn i9_refusals_of_one_person_fill_no_disk() {
    let mut office = Office::new();
    let before = office.store.entries().len();
    for _ in 0..500 {
        // Refused as unknown at first, then for being too many.
        let unknown = "x".repeat(43);
        office.act("ada.example", CustodianAct::Destroy { kid: unknown }).expect_err("no key");
    }
    assert_eq!(office.store.entries().len() - before, 60);
    office.clock.advance(std::time::Duration::from_secs(3600));
    office.act("ada.example", CustodianAct::Destroy { kid: "x".repeat(43) }).expect_err("no key");
    let last = office.store.entries().pop().expect("an entry");
    assert!(matches!(last.event, Event::Refused { left_out: 440, .. }), "{last:?}");
    assert_eq!(last.at, office.clock.reading().wall);
}
