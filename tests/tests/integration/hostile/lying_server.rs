//! A server that lies, on a real wire to a real worker with a real device: it gets signatures of what the
//! profile allows, and nothing else (I3); what it cannot do is fill or stop the device for good.

use std::{
    io::{self, Write as _},
    net::Shutdown,
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Child, Command, Stdio},
    thread,
};

use bytes::Bytes;
use mintwarden::config::Config;
use mintwarden_attestation::Challenge;
use mintwarden_tests::{Appliance, ISSUER, PATIENCE, claims, programs};
use mintwarden_worker::{
    device::KeyHandle,
    setup::Setup,
    wire::{
        Answer, Ask, Attest, BUILD, FromWorker, Generate, List, MAX_FRAME, Probe, ServerHello,
        Sign, SignOutcome, ToWorker, read_frame, write_frame,
    },
};
use prost::Message as _;
use toml::toml;

/// The server's end of the wire of a worker that a launcher has set up.
struct Wire {
    socket: UnixStream,
    worker: Option<Child>,
    next: u64,
}

impl Wire {
    /// A worker on the first device of an appliance that does not run.
    fn begin(appliance: &Appliance) -> Self {
        let config = Config::load(&appliance.config()).unwrap();
        let device = config.devices[0].clone();
        let (socket, theirs) = UnixStream::pair().unwrap();
        let mut command = Command::new(programs::path(programs::WORKER));
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        command.env_clear().envs(&device.environment);
        let worker = command.spawn().unwrap();
        let state_dir = appliance.file("worker-state");
        std::fs::create_dir_all(&state_dir).unwrap();
        let profiles = config.profiles_on(device.name.as_str());
        let setup = Setup { device, state_dir, profiles, resume: false };
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut this = Self { socket, worker: Some(worker), next: 1 };
        write_frame(&mut this.socket, &serde_json::to_vec(&setup).unwrap()).unwrap();
        this
    }

    /// The same, and both have said hello.
    fn open(appliance: &Appliance) -> Self {
        let mut this = Self::begin(appliance);
        this.say(0, Ask::Hello(ServerHello { build: BUILD.into(), kept: vec![] })).unwrap();
        let Some(Answer::Hello(hello)) = this.hear().unwrap().answer else { panic!("no hello") };
        assert_eq!(hello.unusable, None);
        this
    }

    fn say(&mut self, id: u64, ask: Ask) -> io::Result<()> {
        let message = ToWorker { id, ask: Some(ask) }.encode_to_vec();
        write_frame(&mut self.socket, &message).map_err(io::Error::other)
    }

    fn hear(&mut self) -> io::Result<FromWorker> {
        let mut buffer = Vec::new();
        read_frame(&mut self.socket, MAX_FRAME, &mut buffer).map_err(io::Error::other)?;
        FromWorker::decode(&buffer[..]).map_err(io::Error::other)
    }

    fn ask(&mut self, ask: Ask) -> Answer {
        let id = self.next;
        self.next += 1;
        self.say(id, ask).unwrap();
        let heard = self.hear().unwrap();
        assert_eq!(heard.id, id);
        heard.answer.unwrap()
    }

    fn refusal(&mut self, ask: Ask) -> String {
        match self.ask(ask) {
            Answer::Refused(refused) => refused.reason,
            other => panic!("it was not refused: {other:?}"),
        }
    }

    /// A key for an issuer; its handle.
    fn generate(&mut self, issuer: &str, id: u8) -> Bytes {
        let handle = Bytes::from(vec![id; KeyHandle::RANDOM_LEN]);
        let generate = Generate { issuer: issuer.into(), handle: handle.clone() };
        let Answer::Listed(listed) = self.ask(Ask::Generate(generate)) else { panic!("no key") };
        assert_eq!(listed.keys[0].handle, handle);
        handle
    }

    /// What becomes of one payload: signed or refused with this rule.
    fn sign(&mut self, issuer: &str, handle: &Bytes, payload: Bytes) -> Result<(), String> {
        let sign = sign(issuer, handle, vec![payload]);
        let Answer::Signed(mut signed) = self.ask(Ask::Sign(sign)) else { panic!("no batch") };
        match signed.items.remove(0).outcome.unwrap() {
            SignOutcome::Signature(_) => Ok(()),
            SignOutcome::Refusal(refusal) => Err(refusal.rule),
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the worker has closed its end, whatever it had still to say.
    fn ended(mut self) {
        while self.hear().is_ok() {}
        self.worker.as_mut().unwrap().wait().unwrap();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Some(worker) = &mut self.worker {
            let _gone = worker.kill();
            let _reaped = worker.wait();
        }
    }
}

fn sign(issuer: &str, handle: &Bytes, claims: Vec<Bytes>) -> Sign {
    Sign { issuer: issuer.into(), handle: handle.clone(), claims, within_ms: 60_000, caller: 0 }
}

fn two_issuers() -> Appliance {
    Appliance::softhsm()
        .with_issuer(toml! { name = "payments-tts" })
        .with_issuer(toml! { name = "other"
        audience = ["elsewhere.example"] })
        .prepare()
}

#[test]
fn i3_a_lying_server_gets_only_what_the_profile_of_the_keys_issuer_allows() {
    let appliance = two_issuers();
    let mut wire = Wire::open(&appliance);
    let (ours, theirs) = (wire.generate(ISSUER, 1), wire.generate("other", 2));
    let good = || claims::trade(1).to_json();
    let elsewhere = || claims::trade(1).audience("elsewhere.example").to_json();
    assert_eq!(wire.sign(ISSUER, &ours, good()), Ok(()));
    assert_eq!(wire.sign("other", &theirs, elsewhere()), Ok(()));
    // The profile is the key's, whichever issuer the server names.
    for (issuer, handle, reason) in [
        ("other", &ours, "WRONG_ISSUER"),
        (ISSUER, &theirs, "WRONG_ISSUER"),
        ("no-such-issuer", &ours, "UNKNOWN_ISSUER"),
        ("", &ours, "UNKNOWN_ISSUER"),
        (ISSUER, &Bytes::from_static(&[3; 16]), "KEY_ABSENT"),
        (ISSUER, &Bytes::new(), "KEY_ABSENT"),
        (ISSUER, &Bytes::from(vec![0; 1 << 20]), "KEY_ABSENT"),
    ] {
        let refused = wire.refusal(Ask::Sign(sign(issuer, handle, vec![good()])));
        assert_eq!(refused, reason, "{issuer:?} {:.20?}", handle);
    }
    assert_eq!(wire.sign(ISSUER, &ours, elsewhere()), Err("audience".into()));
    assert_eq!(wire.sign(ISSUER, &ours, claims::too_long(1).to_json()), Err("lifetime".into()));
    assert_eq!(wire.sign(ISSUER, &ours, Bytes::new()), Err("json".into()));
    assert_eq!(wire.sign(ISSUER, &ours, vec![b' '; 7 << 20].into()), Err("size".into()));
    assert_eq!(wire.refusal(Ask::Sign(sign(ISSUER, &ours, vec![]))), "MALFORMED");
    // Time that is over, and time that never is.
    let late = Sign { within_ms: 0, ..sign(ISSUER, &ours, vec![good()]) };
    let Answer::Signed(signed) = wire.ask(Ask::Sign(late)) else { panic!("no batch") };
    assert!(matches!(signed.items[0].outcome, Some(SignOutcome::Expired(_))));
    let ever = Sign { within_ms: u32::MAX, ..sign(ISSUER, &ours, vec![good()]) };
    let Answer::Signed(signed) = wire.ask(Ask::Sign(ever)) else { panic!("no batch") };
    assert!(matches!(signed.items[0].outcome, Some(SignOutcome::Signature(_))));
    // The worker was well all the time.
    let Answer::Listed(all) = wire.ask(Ask::List(List::default())) else { panic!("no keys") };
    assert_eq!(all.keys.len(), 2);
}

#[test]
fn i3_a_lying_server_is_shown_a_key_as_its_own_issuers_alone() {
    let appliance = two_issuers();
    let mut wire = Wire::open(&appliance);
    let handle = wire.generate(ISSUER, 1);
    let good = Bytes::from(Challenge::plain().unwrap().to_json());
    let attest = |issuer: &str, handle: &Bytes, challenge: &Bytes| {
        let (issuer, handle, challenge) = (issuer.into(), handle.clone(), challenge.clone());
        Ask::Attest(Attest { issuer, handle, challenge })
    };
    for (issuer, handle, challenge, reason) in [
        ("other", &handle, &good, "WRONG_ISSUER"),
        ("", &handle, &good, "WRONG_ISSUER"),
        (ISSUER, &Bytes::from_static(&[3; 16]), &good, "KEY_ABSENT"),
        (ISSUER, &handle, &Bytes::new(), "MALFORMED"),
        (ISSUER, &handle, &Bytes::from(vec![b' '; 1 << 20]), "MALFORMED"),
    ] {
        assert_eq!(wire.refusal(attest(issuer, handle, challenge)), reason, "{issuer:?}");
    }
    let shown = wire.ask(attest(ISSUER, &handle, &good));
    assert!(matches!(shown, Answer::Attested(_)), "{shown:?}");
    assert_eq!(wire.sign(ISSUER, &handle, claims::trade(1).to_json()), Ok(()));
}

#[test]
fn i7_a_lying_server_replaces_no_key() {
    let appliance = two_issuers();
    let mut wire = Wire::open(&appliance);
    // A handle that is none, or one that is taken: nothing is replaced (I7).
    let handle = wire.generate(ISSUER, 0);
    for bad in [&[][..], &[1], &[1; 17], &[1; 4096]] {
        let generate = Generate { issuer: ISSUER.into(), handle: Bytes::from(bad.to_vec()) };
        assert_eq!(wire.refusal(Ask::Generate(generate)), "MALFORMED");
    }
    let again = Generate { issuer: ISSUER.into(), handle: handle.clone() };
    wire.refusal(Ask::Generate(again));
    assert_eq!(wire.sign(ISSUER, &handle, claims::trade(1).to_json()), Ok(()));
}

#[test]
fn i9_what_waits_in_a_worker_is_bounded() {
    let appliance = two_issuers();
    let mut wire = Wire::open(&appliance);
    let handle = wire.generate(ISSUER, 1);
    // More than 64 MiB of batches, faster than any device: the rest is refused at once.
    let payload = Bytes::from(vec![b' '; 2000]);
    let batch = sign(ISSUER, &handle, vec![payload; 1024]);
    // From a thread of its own: a worker whose answers nobody reads does not read either.
    let mut saying = Wire { socket: wire.socket.try_clone().unwrap(), worker: None, next: 0 };
    let saying = thread::spawn(move || {
        (100..200).for_each(|id| saying.say(id, Ask::Sign(batch.clone())).unwrap());
    });
    // Each is answered: refused by the profile item by item, or as a whole.
    for _ in 100..200 {
        match wire.hear().unwrap().answer.unwrap() {
            Answer::Signed(signed) => assert_eq!(signed.items.len(), 1024),
            Answer::Refused(refused) => assert_eq!(refused.reason, "OVERLOADED"),
            other => panic!("{other:?}"),
        }
    }
    saying.join().unwrap();
    assert_eq!(wire.sign(ISSUER, &handle, claims::trade(1).to_json()), Ok(()));
}

#[test]
fn a_wire_that_carries_nonsense_ends_its_worker() {
    let appliance = two_issuers();
    let hello = |build: &str| {
        let ask = Some(Ask::Hello(ServerHello { build: build.into(), kept: vec![] }));
        framed(&ToWorker { id: 0, ask }.encode_to_vec())
    };
    let many = Ask::Sign(sign(ISSUER, &Bytes::new(), vec![Bytes::new(); 1 << 20]));
    let many = framed(&ToWorker { id: 1, ask: Some(many) }.encode_to_vec());
    let ask = |ask| framed(&ToWorker { id: 1, ask: Some(ask) }.encode_to_vec());
    for (what, said) in [
        ("another build", hello("another")),
        ("a probe before any hello", ask(Ask::Probe(Probe {}))),
        ("a second hello", [hello(BUILD), hello(BUILD)].concat()),
        ("a frame of 4 GiB", [hello(BUILD), vec![0xff; 16]].concat()),
        ("garbage in a frame", [hello(BUILD), framed(&[0xff; 64])].concat()),
        ("a question of no kind", [hello(BUILD), framed(b"\x08\x01")].concat()),
        ("a million items", [hello(BUILD), many].concat()),
        ("half a frame", [hello(BUILD), 64_u32.to_be_bytes().to_vec()].concat()),
    ] {
        let mut wire = Wire::begin(&appliance);
        wire.socket.write_all(&said).unwrap_or_else(|error| panic!("{what}: {error}"));
        wire.socket.shutdown(Shutdown::Write).unwrap();
        wire.ended();
    }
    // The device is none the worse for it.
    let mut wire = Wire::open(&appliance);
    let handle = wire.generate(ISSUER, 1);
    assert_eq!(wire.sign(ISSUER, &handle, claims::trade(1).to_json()), Ok(()));
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    write_frame(&mut frame, body).unwrap();
    frame
}
