//! A keyset, clocks and a configuration that a test changes as it likes, around the real functions.

use std::{path::Path, time::Duration};

use mintwarden_worker::{Algorithm, device::KeyHandle, jwk::PublicJwk};

use crate::{
    access::{Access, Custodian, Custodians},
    clock::{Lapse, Moment, Reading, Timekeeper, Tolerance, UnixTime, WallTime},
    config::Config,
    identity::Caller,
    keyset::{
        Key, KeyState, Keyset, MadeKey, Phase, Signatures,
        act::CustodianAct,
        change::Context,
        proposal::{Approved, Present, ProposalId, ProposalRefusal, Proposals, Quorum},
        sim::{issuer, policy},
    },
    record::Event,
};

pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(in crate::keyset) const IDENTITIES: [&str; 6] =
    ["ada.example", "ada2.example", "bob.example", "bob2.example", "cleo.example", "dan.example"];
const EPOCH: i64 = 1_700_000_000_000;

/// The configuration in force: which identities are granted, and how many persons each act needs.
pub(in crate::keyset) fn config(granted: &[&str], needed: usize) -> Config {
    let person = |identity: &str| identity.split(['.', '2']).next().expect("a name").to_owned();
    let grants: String = granted
        .iter()
        .map(|identity| {
            format!(
                "[[grant]]\nrole = \"custodian\"\nperson = {:?}\nto = [{identity:?}]\n",
                person(identity)
            )
        })
        .collect();
    let text = format!(
        r#"
        state_dir = "/nonexistent"
        listen = {{ unix = "s" }}
        [[device]]
        name = "a"
        kind = "pkcs11"
        model = "softhsm2"
        token_label = "t"
        pin = {{ file = "pin" }}
        [[issuer]]
        name = "{}"
        iss = "https://a.example"
        devices = ["a"]
        audience = ["x"]
        {grants}
        [approvals]
        init = {needed}
        recover = {needed}
        rotate = {needed}
        activate = {needed}
        activate_immature = {needed}
        resume = {needed}
        revoke = {needed}
        destroy = {needed}
        "#,
        issuer()
    );
    Config::parse(&text, Path::new("/nonexistent/mintwarden.toml")).expect("a configuration")
}

/// Somebody who calls by this identity, as authenticated while it was granted.
pub(in crate::keyset) fn caller(identity: &str) -> Custodian {
    let caller = Caller::parse(identity).expect("an identity");
    Access::new(&config(&IDENTITIES, 1)).person(&caller).expect("a custodian")
}

pub(super) struct World {
    pub(super) keyset: Option<Keyset>,
    pub(super) proposals: Proposals,
    pub(super) quorum: Quorum,
    pub(super) record: Vec<Event>,
    pub(super) wall: i64,
    pub(super) boot: Duration,
    pub(super) starts: u32,
}

fn key(number: u8, device: &str, state: KeyState) -> Key {
    let modulus: Vec<u8> = [0xff, number].into_iter().chain([0xff; 254]).collect();
    let jwk = PublicJwk::from_rsa(Algorithm::PS256, &modulus, &[1, 0, 1]).expect("a key");
    let handle = KeyHandle::new(vec![number; 16]);
    let signed = matches!(state, KeyState::Active | KeyState::Suspended | KeyState::Deactivated);
    let at = Moment::default();
    Key {
        state,
        made: Some(MadeKey::from(jwk)),
        published: Some(at),
        mature: true,
        activated: signed.then_some(at),
        signatures: signed.then_some(Signatures { max_lifetime: HOUR, stopped: None }),
        ..Key::intended(device, handle, Algorithm::PS256, UnixTime(0))
    }
}

impl World {
    /// Device `a` has an active key (0) and two standbys (1, 2), `b` an active one (3), and `c` one
    /// that is suspended (4) beside one that had its time (5). All acts need `needed` persons.
    pub(super) fn new(needed: usize) -> Self {
        let keys = vec![
            key(0, "a", KeyState::Active),
            key(1, "a", KeyState::PreActive),
            key(2, "a", KeyState::PreActive),
            key(3, "b", KeyState::Active),
            key(4, "c", KeyState::Suspended),
            key(5, "c", KeyState::Deactivated),
        ];
        let wait = policy(&["a"]).maturity();
        let keyset = Keyset::new(issuer(), Phase::Published, wait, Default::default());
        let mut world = Self {
            keyset: Some(Keyset { keys, ..keyset }),
            proposals: Proposals::none(issuer()),
            quorum: Quorum::default(),
            record: vec![],
            wall: EPOCH,
            boot: HOUR,
            starts: 1,
        };
        world.configure(&IDENTITIES, needed);
        let (reading, boot_id) = (world.reading(), world.boot_id());
        world.proposals.lapse = Lapse::start(reading, boot_id);
        world
    }

    pub(super) fn configure(&mut self, granted: &[&str], needed: usize) {
        let config = config(granted, needed);
        let custodians = Custodians::of(&config, &issuer());
        self.quorum = Quorum { approvals: config.approvals, custodians };
    }

    pub(super) fn kid(&self, number: usize) -> String {
        self.keyset.as_ref().expect("keys").keys[number].name()
    }

    pub(super) fn change(&mut self, number: usize, state: KeyState) {
        self.keyset.as_mut().expect("keys").keys[number].state = state;
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.wall += i64::try_from(time.as_millis()).expect("short");
        self.boot += time;
    }

    fn reading(&self) -> Reading {
        Reading { wall: WallTime(self.wall), boot: self.boot }
    }

    fn boot_id(&self) -> String {
        format!("start-{}", self.starts)
    }

    /// Does something with the proposals by the present, settled before, and stores them.
    pub(super) fn with<T>(&mut self, work: impl FnOnce(&mut Proposals, Present<'_>) -> T) -> T {
        let second = Duration::from_secs(1);
        let tolerance = Tolerance { skew: second, settle: second, gap: second };
        let time = Timekeeper::start(None, self.reading(), self.boot_id(), tolerance);
        let (now, clock, policy) = (time.now(), time.checkpoint(), policy(&["a", "b", "c"]));
        let cx = Context { now: &now, clock: &clock, policy: &policy };
        let lapse = self.proposals.lapse.at(self.reading(), &self.boot_id());
        let mut proposals = self.proposals.clone();
        let (keyset, wall) = (self.keyset.as_ref(), self.reading().wall);
        let present = Present { keyset, cx, wall, lapse: &lapse, quorum: &self.quorum };
        self.record.extend(proposals.settle(present));
        assert!(proposals.is_settled(present));
        let done = work(&mut proposals, present);
        self.proposals = Proposals { version: self.proposals.version + 1, lapse, ..proposals };
        done
    }

    pub(super) fn settle(&mut self) {
        self.with(|_, _| {});
    }

    pub(super) fn propose(
        &mut self,
        who: &str,
        act: &CustodianAct,
    ) -> Result<ProposalId, ProposalRefusal> {
        let id = ProposalId::random();
        let event = self
            .with(|proposals, now| proposals.propose(id.clone(), &caller(who), act, "why", now))?;
        self.record.push(event);
        Ok(id)
    }

    pub(super) fn approve(
        &mut self,
        who: &str,
        id: &ProposalId,
    ) -> Result<Approved, ProposalRefusal> {
        let (event, approved) =
            self.with(|proposals, now| proposals.approve(id, &caller(who), "yes", now))?;
        self.record.push(event);
        Ok(approved)
    }

    pub(super) fn reject(&mut self, who: &str, id: &ProposalId) -> Result<(), ProposalRefusal> {
        let event = self.with(|proposals, now| proposals.reject(id, &caller(who), "no", now))?;
        self.record.push(event);
        Ok(())
    }
}
