//! A worker that lies, on a real wire to the real server's end of it: nothing that it says is released,
//! and a true one is served afterwards (I2).

use std::{
    io::Read as _,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use bytes::Bytes;
use mintwarden::{
    access::{Access, Custodians},
    admission::Admission,
    clock::Deadline,
    config::Config,
    identity::Caller,
    keyset::{
        Pairs,
        act::CustodianAct,
        apply::Request,
        live::LiveIssuer,
        proposal::Quorum,
        steward::{Serving, Steward},
    },
    launcher::control::{self, Upward},
    record::Book,
    signer::{Batch, Outcome, SignError, Signer},
    store::Redb,
    telemetry::metrics::Registered,
    workers::{State, Workers},
};
use mintwarden_attestation::{Challenge, Evidence};
use mintwarden_tests::{DEVICE, PATIENCE, claims, eventually};
use mintwarden_worker::{
    IssuerName,
    device::KeyHandle,
    jwk::PublicJwk,
    jws::{ProtectedHeader, signing_input},
    wire::{
        Answer, Ask, Attested, BUILD, Facts, FromWorker, KeyFitness, KeyReport, Listed, MAX_FRAME,
        Probed, PulseTaken, Refusal, Sign, SignItem, SignOutcome, Signature, Signed, ToWorker,
        WorkerHello, read_frame, write_frame,
    },
};
use prost::Message as _;

const CONFIG: &str = r#"
state_dir = "/nonexistent"
listen = { unix = "api.sock" }
[[device]]
name = "hsm-a"
kind = "pkcs11"
model = "softhsm2"
token_label = "tts"
pin = { file = "pin" }
[[issuer]]
name = "payments-tts"
iss = "https://tts.trust-domain.example"
devices = ["hsm-a"]
audience = ["trust-domain.example"]
[[grant]]
role = "signer"
to = ["unix:uid=0"]
issuers = ["payments-tts"]
[[grant]]
role = "custodian"
person = "ada"
to = ["ada.example"]
"#;

/// A key such as a device would have.
struct Key {
    pair: EcdsaKeyPair,
    jwk: PublicJwk,
}

impl Key {
    fn generate() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let jwk = PublicJwk::from_sec1(pair.public_key().as_ref()).unwrap();
        Self { pair, jwk }
    }

    fn header(&self) -> ProtectedHeader {
        ProtectedHeader::new(self.jwk.algorithm(), &self.jwk.kid())
    }

    fn item(&self, payload: &[u8]) -> SignItem {
        let input = signing_input(self.header().encoded(), payload);
        let signature = self.pair.sign(&aws_lc_rs::rand::SystemRandom::new(), &input).unwrap();
        let signature = Bytes::copy_from_slice(signature.as_ref());
        let facts = Facts::default();
        item(SignOutcome::Signature(Signature { signature, token_sha256: Bytes::new(), facts }))
    }

    fn signed(&self, claims: &[Bytes]) -> Signed {
        Signed {
            kid: self.jwk.kid().to_string(),
            protected_header: self.header().encoded().to_owned(),
            items: claims.iter().map(|payload| self.item(payload)).collect(),
            ..Signed::default()
        }
    }
}

fn item(outcome: SignOutcome) -> SignItem {
    SignItem { outcome: Some(outcome) }
}

/// What a worker writes when it is asked to sign: bytes, framed or not.
type Lie = Box<dyn Fn(u64, &Sign, &[Key]) -> Vec<u8> + Send>;

/// Serves a wire as a worker does: true in everything but what `lie` says of batches.
fn work(mut wire: UnixStream, keys: &[Key], handles: &mut Vec<Bytes>, lie: &Lie) {
    let fitness = |handle: &Bytes| KeyFitness { handle: handle.clone(), unfit: None };
    let hello = WorkerHello {
        build: BUILD.into(),
        sessions: 1,
        keys: handles.iter().map(fitness).collect(),
        ..WorkerHello::default()
    };
    let mut said = framed(0, Answer::Hello(hello));
    let mut buffer = Vec::new();
    loop {
        if std::io::Write::write_all(&mut wire, &said).is_err() {
            return;
        }
        if read_frame(&mut wire, MAX_FRAME, &mut buffer).is_err() {
            return;
        }
        let ToWorker { id, ask } = ToWorker::decode(&buffer[..]).unwrap();
        let shown = |handle: &Bytes, handles: &[Bytes]| {
            let at = handles.iter().position(|known| known == handle);
            let report = |at: usize| KeyReport {
                handle: handle.clone(),
                issuer: "payments-tts".into(),
                public: serde_json::to_string(&keys[at].jwk).unwrap(),
                ..KeyReport::default()
            };
            framed(id, Answer::Listed(Listed { keys: at.map(report).into_iter().collect() }))
        };
        said = match ask.unwrap() {
            Ask::Hello(_) => vec![],
            Ask::Sign(sign) => lie(id, &sign, keys),
            Ask::Generate(generate) => {
                handles.push(generate.handle.clone());
                shown(&generate.handle, handles)
            }
            Ask::List(list) => shown(&list.handle, handles),
            Ask::Attest(_) => {
                let evidence = vec![b' '; Evidence::MAX + 1].into();
                framed(id, Answer::Attested(Attested { evidence }))
            }
            Ask::Pulse(_) => framed(id, Answer::Pulse(PulseTaken::default())),
            _ => framed(id, Answer::Probed(Probed {})),
        };
    }
}

fn framed(id: u64, answer: Answer) -> Vec<u8> {
    let mut frame = Vec::new();
    write_frame(&mut frame, &FromWorker { id, answer: Some(answer) }.encode_to_vec()).unwrap();
    frame
}

/// The server's side of one issuer, without a network.
struct Server {
    signer: Signer,
    issuer: Arc<LiveIssuer>,
    workers: Arc<Workers>,
    keys: Arc<Vec<Key>>,
    handles: Vec<Bytes>,
    _launcher: OwnedFd,
    _directory: tempfile::TempDir,
}

impl Server {
    async fn initialised() -> Self {
        let config = Config::parse(CONFIG, Path::new("/nonexistent/mintwarden.toml")).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let [path, anchor] =
            ["keysets.redb", "anchor.json"].map(|name| directory.path().join(name));
        let store = Redb::open(&path, &anchor, &Book::new(&config)).unwrap();
        let (launcher, to_launcher) = control::pair().unwrap();
        let workers = Arc::new(Workers::new(&config.devices, &Upward::new(to_launcher)));
        let custodians = Custodians::of(&config, config.issuers[0].name());
        let quorum = Quorum { approvals: config.approvals.clone(), custodians };
        let issuer = Arc::new(LiveIssuer::new(config.issuers[0].clone(), quorum));
        let (admission, metrics) =
            (Arc::new(Admission::new(&config)), Registered::new(&config).metrics);
        let signer = Signer::new(admission, Arc::clone(&workers), metrics);
        let keys = Arc::new((0..3).map(|_| Key::generate()).collect::<Vec<_>>());
        let mut this = Self {
            signer,
            issuer,
            workers,
            keys,
            handles: vec![],
            _launcher: launcher,
            _directory: directory,
        };
        let working = this.attach(truth());
        let (issuer, workers) = (Arc::clone(&this.issuer), Arc::clone(&this.workers));
        let (pairs, serving, book) = (Pairs::default(), Serving::default(), Book::new(&config));
        let steward = Steward::start(issuer, pairs, store, workers, serving, book).await.unwrap();
        let ada = Access::new(&config).person(&Caller::parse("ada.example").unwrap()).unwrap();
        let request = Request::Act { act: CustodianAct::Init, reason: "a test".into() };
        steward.order(ada, request).await.unwrap();
        this.detach(working).await;
        this
    }

    /// A worker that says this of batches. Returns what it has learned when its wire has ended.
    fn attach(&self, lie: Lie) -> thread::JoinHandle<Vec<Bytes>> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (keys, mut handles) = (Arc::clone(&self.keys), self.handles.clone());
        let working = thread::spawn(move || {
            work(ours, &keys, &mut handles, &lie);
            handles
        });
        self.workers.get(DEVICE).unwrap().attach(1, OwnedFd::from(theirs)).unwrap();
        working
    }

    /// Has a fresh wire take the place of the last one, as a launcher would.
    async fn detach(&mut self, working: thread::JoinHandle<Vec<Bytes>>) {
        let (_ended, theirs) = UnixStream::pair().unwrap();
        self.workers.get(DEVICE).unwrap().attach(1, OwnedFd::from(theirs)).unwrap();
        let cut = async || working.is_finished().then_some(());
        eventually("the worker's wire is cut", cut).await;
        self.handles = working.join().unwrap();
    }

    async fn ready(&self) {
        let ready =
            async || matches!(self.workers.get(DEVICE)?.state(), State::Ready(_)).then_some(());
        eventually("the worker is ready", ready).await;
    }

    async fn sign(&self, within: Duration) -> Result<Vec<Outcome>, SignError> {
        let batch = Batch {
            issuer: Arc::clone(&self.issuer),
            claims: (0..3).map(|n| claims::trade(n).to_json()).collect(),
            caller: Caller::Unix(0),
            deadline: Deadline::within(within),
        };
        self.signer.sign(batch).await.map(|signed| signed.outcomes)
    }
}

fn truth() -> Lie {
    Box::new(|id, sign, keys| framed(id, Answer::Signed(keys[0].signed(&sign.claims))))
}

/// A lie about an answer that is true otherwise.
fn changed(change: impl Fn(&mut Signed, &Sign, &[Key]) + Send + 'static) -> Lie {
    Box::new(move |id, sign, keys| {
        let mut signed = keys[0].signed(&sign.claims);
        change(&mut signed, sign, keys);
        framed(id, Answer::Signed(signed))
    })
}

fn signature(item: &mut SignItem) -> &mut Bytes {
    match &mut item.outcome {
        Some(SignOutcome::Signature(signature)) => &mut signature.signature,
        other => panic!("{other:?}"),
    }
}

fn refusal(reason: &str, rule: &str, message: String) -> SignItem {
    let (reason, rule) = (reason.into(), rule.into());
    item(SignOutcome::Refusal(Refusal { reason, claim: "sub".into(), rule, message }))
}

fn lies() -> Vec<(&'static str, Lie)> {
    vec![
        ("another kid", changed(|s, _, k| s.kid = k[1].jwk.kid().to_string())),
        ("no kid", changed(|s, _, _| s.kid.clear())),
        (
            "another key's header",
            changed(|s, _, k| s.protected_header = k[1].header().encoded().into()),
        ),
        (
            "another key's signatures",
            changed(|s, sign, k| s.items = k[1].signed(&sign.claims).items),
        ),
        ("another key in everything", changed(|s, sign, k| *s = k[1].signed(&sign.claims))),
        ("one item less", changed(|s, _, _| drop(s.items.pop()))),
        ("one item more", changed(|s, _, _| s.items.push(s.items[0].clone()))),
        ("no items", changed(|s, _, _| s.items.clear())),
        ("a million items", changed(|s, _, _| s.items = vec![SignItem::default(); 1 << 20])),
        ("items in another order", changed(|s, _, _| s.items.swap(0, 2))),
        ("another payload signed", changed(|s, _, k| s.items[1] = k[0].item(b"{}"))),
        ("an item without outcome", changed(|s, _, _| s.items[1].outcome = None)),
        ("a signature of nothing", changed(|s, _, _| *signature(&mut s.items[2]) = Bytes::new())),
        (
            "a signature in DER's length",
            changed(|s, _, _| *signature(&mut s.items[2]) = Bytes::from(vec![0x30; 71])),
        ),
        (
            "a flipped bit",
            changed(|s, _, _| {
                let mut flipped = signature(&mut s.items[2]).to_vec();
                flipped[63] ^= 1;
                *signature(&mut s.items[2]) = flipped.into();
            }),
        ),
        ("a refusal by no rule", changed(|s, _, _| s.items[0] = refusal("X", "y", String::new()))),
        (
            "a refusal with a reason of another rule",
            changed(|s, _, _| s.items[0] = refusal("CLAIM_REFUSED", "utf8", String::new())),
        ),
        (
            "a refusal without an end",
            changed(|s, _, _| {
                s.items[0] = refusal("CLAIM_REFUSED", "required", "x".repeat(1 << 20));
            }),
        ),
        (
            "an id that was not asked",
            Box::new(|id, sign, k| framed(id + 1000, Answer::Signed(k[0].signed(&sign.claims)))),
        ),
        (
            "keys where signatures were asked for",
            Box::new(|id, _, _| framed(id, Answer::Listed(Listed::default()))),
        ),
        ("a second hello", Box::new(|_, _, _| framed(0, Answer::Hello(WorkerHello::default())))),
        (
            "an answer of no kind",
            Box::new(|id, _, _| {
                let mut frame = Vec::new();
                write_frame(&mut frame, &FromWorker { id, answer: None }.encode_to_vec()).unwrap();
                frame
            }),
        ),
        ("a frame of 4 GiB", Box::new(|_, _, _| vec![0xff; 64])),
        (
            "garbage in a frame",
            Box::new(|_, _, _| [&64_u32.to_be_bytes()[..], &[0xff; 64]].concat()),
        ),
        (
            "half a frame",
            Box::new(|_, _, _| {
                // And then nothing more: the next thing it writes is read as the rest.
                [&12_u32.to_be_bytes()[..], &[0; 12]].concat()
            }),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_nothing_that_a_lying_worker_says_is_released() {
    for (what, lie) in lies() {
        // Each its own: what a device's faults add up to is another subject.
        let mut server = Server::initialised().await;
        let lying = server.attach(lie);
        server.ready().await;
        // Its wire is cut, and with it whatever is behind it.
        let cut = async || {
            eventually(&format!("{what}: it is cut"), async || lying.is_finished().then_some(()))
                .await;
        };
        // A lie may only be told to somebody who still waits; who does so goes on waiting for another worker.
        tokio::select! {
            biased;
            outcome = server.sign(PATIENCE) => assert!(outcome.is_err(), "{what}: {outcome:?}"),
            () = cut() => {}
        }
        cut().await;
        lying.join().unwrap();
        // And whoever takes its place is believed.
        let honest = server.attach(truth());
        server.ready().await;
        let outcomes = server.sign(PATIENCE).await.unwrap();
        let signed = |outcome: &_| matches!(outcome, Outcome::Signature(_));
        assert!(outcomes.iter().all(signed), "{what}: {outcomes:?}");
        server.detach(honest).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i9_a_worker_that_never_answers_is_not_waited_for() {
    let mut server = Server::initialised().await;
    let silent = server.attach(Box::new(|_, _, _| vec![]));
    server.ready().await;
    let outcome = server.sign(Duration::from_millis(100)).await;
    assert_eq!(outcome.map(|outcomes| outcomes.len()), Err(SignError::Deadline));
    server.detach(silent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_begins_with_anything_but_a_hello_is_none() {
    let server = Server::initialised().await;
    let worker = server.workers.get(DEVICE).unwrap();
    let hello = |build: &str| WorkerHello { build: build.into(), ..WorkerHello::default() };
    for begin in [
        framed(0, Answer::Probed(Probed {})),
        framed(7, Answer::Signed(Signed::default())),
        framed(0, Answer::Hello(hello("another build"))),
        framed(0, Answer::Hello(hello(&"x".repeat(4 << 20)))),
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        vec![],
    ] {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        worker.attach(1, OwnedFd::from(theirs)).unwrap();
        let lying = thread::spawn(move || {
            let _may_be_cut = std::io::Write::write_all(&mut ours, &begin);
            let _ends = ours.shutdown(std::net::Shutdown::Write);
            let _until_cut = ours.read_to_end(&mut Vec::new());
        });
        eventually("its wire is cut", async || lying.is_finished().then_some(())).await;
        let State::Down(why) = worker.state() else { panic!("{:?}", worker.state()) };
        assert!(why.detail.len() < 2048, "{}", why.detail.len());
    }
}

#[tokio::test]
async fn i9_evidence_beyond_its_bound_costs_a_worker_its_wire() {
    let server = Server::initialised().await;
    let working = server.attach(truth());
    server.ready().await;
    let (handle, challenge) = (KeyHandle::new(server.handles[0].to_vec()), Challenge::plain());
    let issuer = IssuerName::parse("payments-tts").unwrap();
    let asked = server.workers.attest(DEVICE, &issuer, &handle, &challenge.unwrap()).await;
    let refused = asked.unwrap_err().to_string();
    assert!(refused.contains("WORKER_BROKEN"), "{refused}");
    let cut = async || working.is_finished().then_some(());
    eventually("the worker's wire is cut", cut).await;
}
