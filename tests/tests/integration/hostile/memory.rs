//! I9 under abuse: memory and descriptors of every process stay within bounds, and a caller that behaves
//! is served throughout.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use mintwarden_proto::v1::SignBatchRequest;
use mintwarden_tests::{
    Appliance, ISSUER, Process, channel, claims,
    http2::{Connection, Frame, kind},
};
use prost::Message as _;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, task::JoinSet};
use toml::toml;
use tonic::{Code, Status};
use tower::Service as _;

const MIB: usize = 1 << 20;
const SIGN: &str = "/mintwarden.v1.SigningService/Sign";
const SIGN_BATCH: &str = "/mintwarden.v1.SigningService/SignBatch";

/// The room of one caller in these tests: two messages of the largest size, which is the least there is.
const ROOM: usize = 2 * (4 * MIB + 64 * 1024);

/// What one connection costs at most beside its calls: buffers of TLS and HTTP/2, 64 KiB each, and 2 KiB for
/// what HTTP/2 itself remembers of each of its 128 streams, refused ones too.
const CONNECTION: usize = (64 + 64 + 128 * 2) * 1024;

/// What a process has beyond what it had before, and may have: bytes of memory and descriptors.
struct Bounds {
    memory: usize,
    descriptors: usize,
}

/// `VmRSS` of /proc/PID/status, bytes; nothing for a process that has ended.
fn resident(process: &Process) -> Option<usize> {
    let status = String::from_utf8(process.read("status").ok()?).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: usize = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

/// Open descriptors; nothing where only root may look.
fn descriptors(process: &Process) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{}/fd", process.pid)).ok()?.count())
}

/// Watches an appliance while it is abused.
struct Watch {
    before: Vec<(Process, usize, usize)>,
    most: Vec<(usize, usize)>,
}

impl Watch {
    fn begin(appliance: &Appliance) -> Self {
        let before: Vec<_> = appliance
            .processes()
            .into_iter()
            .map(|process| {
                let memory = resident(&process).expect("it runs");
                (process, memory, descriptors(&process).unwrap_or(0))
            })
            .collect();
        let most = vec![(0, 0); before.len()];
        Self { before, most }
    }

    fn look(&mut self) {
        for ((process, memory, open), most) in self.before.iter().zip(&mut self.most) {
            let now = resident(process).expect("none of its processes ended");
            most.0 = most.0.max(now.saturating_sub(*memory));
            let now = descriptors(process).unwrap_or(0);
            most.1 = most.1.max(now.saturating_sub(*open));
        }
    }

    #[track_caller]
    fn end(mut self, what: &str, bounds: &Bounds) {
        self.look();
        for ((process, before, _), (memory, open)) in self.before.iter().zip(&self.most) {
            let role = process.role;
            eprintln!(
                "{what}: {role:?} {} MiB + {} MiB, {open} descriptors",
                before / MIB,
                memory / MIB
            );
            assert!(*memory <= bounds.memory, "{what}: {role:?} grew by {} MiB", memory / MIB);
            assert!(*open <= bounds.descriptors, "{what}: {role:?} has {open} descriptors more");
        }
    }
}

/// Runs abuse while a caller that behaves signs one token after the other; every call has to succeed, and
/// there have to be some.
async fn abused(
    appliance: &Appliance,
    what: &str,
    bounds: Bounds,
    abuse: impl Future<Output = ()>,
) {
    let mut watch = Watch::begin(appliance);
    let stop = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicUsize::new(0));
    let behaves = {
        let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
        let issuer = appliance.client().issuer(ISSUER);
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                issuer.sign(claims::trade(1)).await.expect("it is served throughout");
                served.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    tokio::pin!(abuse);
    loop {
        tokio::select! {
            () = &mut abuse => break,
            () = tokio::time::sleep(Duration::from_millis(20)) => watch.look(),
        }
    }
    // Somebody who comes only now is served too.
    appliance.client().issuer(ISSUER).sign(claims::trade(2)).await.expect("a new connection");
    watch.look();
    stop.store(true, Ordering::Relaxed);
    behaves.await.unwrap();
    assert!(served.load(Ordering::Relaxed) > 0);
    watch.end(what, &bounds);
}

async fn start() -> Appliance {
    Appliance::softhsm()
        .with_limits(toml! { max_caller_bytes = 8519680
        handshake = "2s" })
        .start_initialised()
        .await
}

async fn connections(appliance: &Appliance, count: usize) -> Vec<Connection> {
    let mut open = Vec::new();
    for _ in 0..count {
        open.push(Connection::open(&appliance.unix(), &[]).await);
    }
    open
}

/// Reads what there is to read on all connections, so that only memory is what fills.
async fn drained(connections: Vec<Connection>, until: Duration) {
    let mut reading = JoinSet::new();
    for mut connection in connections {
        reading.spawn(async move { while connection.read().await.is_ok() {} });
    }
    tokio::time::sleep(until).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i9_ten_thousand_idle_streams_cost_no_more_than_their_callers_room() {
    let appliance = start().await;
    let bounds = Bounds { memory: ROOM + 81 * CONNECTION, descriptors: 100 };
    abused(&appliance, "10,000 idle streams", bounds, async {
        let mut all = Vec::new();
        for _ in 0..80 {
            // One that asks for nothing is ended soon.
            let mut connection = Connection::open(&appliance.unix(), &[]).await;
            for n in 0..125 {
                // Refused beyond the room; a refused stream ends, and its connection goes on.
                connection.send(&Frame::request(2 * n + 1, SIGN)).await.unwrap();
            }
            all.push(connection);
        }
        drained(all, Duration::from_secs(2)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i9_messages_that_never_end_cost_no_more_than_their_callers_room() {
    let appliance = start().await;
    // A message is there once as it arrives, and up to twice while its buffer grows.
    let bounds = Bounds { memory: 3 * ROOM + 16 * CONNECTION, descriptors: 32 };
    let half = Frame::message(1, &vec![0; 16_000]).payload;
    let begin = [b"\0\0\x40\0\0", &half[5..]].concat();
    abused(&appliance, "messages that never end", bounds, async {
        let mut all = connections(&appliance, 8).await;
        for connection in &mut all {
            for n in 0..100 {
                let stream = 2 * n + 1;
                // 48 KiB of 4 MiB, within the stream's window; refused once the room is full.
                let _refused = connection.send(&Frame::request(stream, SIGN)).await;
                for at in 0..3 {
                    let bytes = if at == 0 { &begin[..] } else { &half[5..] };
                    let _refused = connection.send(&Frame::new(kind::DATA, 0, stream, bytes)).await;
                }
            }
        }
        drained(all, Duration::from_secs(2)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i9_what_two_bytes_become_is_counted_before_they_become_it() {
    let appliance = start().await;
    let bounds = Bounds { memory: 4 * ROOM, descriptors: 32 };
    let batch = SignBatchRequest { issuer: ISSUER.into(), claims: vec![Bytes::new(); 2_000_000] };
    let batch = batch.encode_to_vec();
    let size = u32::try_from(batch.len()).unwrap();
    let message = Bytes::from([&[0][..], &size.to_be_bytes(), &batch].concat());
    abused(&appliance, "millions of empty items", bounds, async {
        let connection = channel::bare(appliance.unix()).await;
        let mut calls = JoinSet::new();
        for _ in 0..32 {
            let mut connection = connection.clone();
            let body = tonic::body::Body::new(http_body_util::Full::new(message.clone()));
            let request =
                http::Request::post(SIGN_BATCH).header("content-type", "application/grpc");
            let request = request.header("te", "trailers").body(body).unwrap();
            calls.spawn(async move { connection.call(request).await.unwrap() });
        }
        while let Some(answer) = calls.join_next().await {
            let status = Status::from_header_map(answer.unwrap().headers()).expect("a refusal");
            let known = [Code::InvalidArgument, Code::ResourceExhausted];
            assert!(known.contains(&status.code()), "{status}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i9_answers_that_nobody_reads_cost_no_more_than_their_callers_room() {
    let appliance = start().await;
    // A refusal of each item, in the caller's room until it is read, and once in our own list.
    let bounds = Bounds { memory: 4 * ROOM + 16 * CONNECTION, descriptors: 32 };
    let batch = SignBatchRequest { issuer: ISSUER.into(), claims: vec!["{}".into(); 1024] };
    let batch = batch.encode_to_vec();
    abused(&appliance, "answers that nobody reads", bounds, async {
        let mut all = connections(&appliance, 8).await;
        for n in 0..12 {
            for connection in &mut all {
                let stream = 2 * n + 1;
                let _may_be_full = connection.send(&Frame::request(stream, SIGN_BATCH)).await;
                let _may_be_full = connection.send(&Frame::message(stream, &batch)).await;
            }
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        drop(all);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i9_strangers_on_the_open_ports_cost_no_more_than_their_connections() {
    let appliance = start().await;
    let address = appliance.url("").trim_start_matches("https://").to_owned();
    // 512 newcomers and 16 that go at each of two ports, and those that came in.
    let bounds = Bounds { memory: 150 * CONNECTION, descriptors: 2 * (512 + 16) + 120 };
    abused(&appliance, "slow handshakes, headers and readers of keys", bounds, async {
        let mut all = Vec::new();
        // A ClientHello that never ends, on both ports.
        for n in 0..1500 {
            let port = if n % 2 == 0 { appliance.grpc().to_string() } else { address.clone() };
            let mut stream = TcpStream::connect(port).await.unwrap();
            let _gave_way =
                stream.write_all(&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"[..n % 9]).await;
            all.push(stream);
        }
        // A header that never ends.
        let mut slow = Vec::new();
        for _ in 0..50 {
            let mut stream = appliance.https_stream(&address, &[b"http/1.1"]).await;
            stream.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
            stream.write_all(&[b'x'; 8192]).await.unwrap();
            slow.push(stream);
        }
        // Headers beyond every bound.
        for _ in 0..50 {
            let mut stream = appliance.https_stream(&address, &[b"http/1.1"]).await;
            let _cut = stream.write_all(&vec![b'x'; MIB]).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    })
    .await;
}
