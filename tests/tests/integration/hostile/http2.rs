//! Frames that no library sends.

use std::time::{Duration, Instant};

use mintwarden_proto::v1::SignBatchRequest;
use mintwarden_tests::{
    Appliance, ISSUER, PATIENCE, claims,
    http2::{self, Connection, Frame, INITIAL_WINDOW_SIZE, PREFACE, flag, kind},
};
use prost::Message as _;
use toml::toml;

const SIGN_BATCH: &str = "/mintwarden.v1.SigningService/SignBatch";

/// An error code (RFC 9113 section 7).
const ENHANCE_YOUR_CALM: u32 = 11;

async fn open(appliance: &Appliance) -> Connection {
    Connection::open(&appliance.unix(), &[]).await
}

/// Waits for the end of a connection; the code that it was given.
async fn ended(mut connection: Connection, what: &str) -> Option<u32> {
    let ended = tokio::time::timeout(PATIENCE, connection.goaway()).await;
    ended.unwrap_or_else(|_| panic!("the connection is still there: {what}"))
}

async fn signs(appliance: &Appliance) {
    appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
}

#[tokio::test]
async fn frames_that_are_none_end_their_connection_alone() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let mut too_large = Frame::new(kind::DATA, 0, 1, vec![0; 9]).encode();
    too_large[..3].copy_from_slice(&[0xff; 3]);
    for (what, bytes) in [
        ("a frame of 16 MiB", too_large),
        ("DATA of the connection", Frame::new(kind::DATA, 0, 0, *b"x").encode()),
        ("DATA of no stream", Frame::new(kind::DATA, 0, 1, *b"x").encode()),
        ("a stream of the server's", Frame::request(2, "/").encode()),
        (
            "CONTINUATION of nothing",
            Frame::new(kind::CONTINUATION, flag::END_HEADERS, 1, *b"").encode(),
        ),
        (
            "another frame inside of a header",
            [
                Frame::new(kind::HEADERS, 0, 1, http2::fields("/")).encode(),
                Frame::new(kind::PING, 0, 0, [0; 8]).encode(),
            ]
            .concat(),
        ),
        ("a PING of 7 bytes", Frame::new(kind::PING, 0, 0, [0; 7]).encode()),
        (
            "a window beyond its bound",
            Frame::new(kind::WINDOW_UPDATE, 0, 0, 0x7fff_ffff_u32.to_be_bytes()).encode(),
        ),
        (
            "a header that is no HPACK",
            Frame::new(kind::HEADERS, flag::END_HEADERS, 1, [0xff; 32]).encode(),
        ),
        (
            "a stream below the last one",
            [Frame::request(3, "/").encode(), Frame::request(1, "/").encode()].concat(),
        ),
    ] {
        let mut connection = open(&appliance).await;
        connection.write(&bytes).await.unwrap();
        let code = ended(connection, what).await;
        assert!(code.is_some_and(|code| code != 0), "{what}: {code:?}");
    }
    let zeros = [0; 4096];
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01", &zeros, PREFACE] {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut socket = tokio::net::UnixStream::connect(appliance.unix()).await.unwrap();
        let _may_be_gone = socket.write_all(&[garbage, garbage].concat()).await;
        let mut heard = Vec::new();
        let ended = socket.read_to_end(&mut heard);
        tokio::time::timeout(PATIENCE, ended).await.expect("it is put out").ok();
    }
    signs(&appliance).await;
}

#[tokio::test]
async fn i9_headers_without_end_are_cut_off() {
    let appliance = Appliance::softhsm().start_initialised().await;
    // CVE-2024-27316 and its like: CONTINUATION frames for ever.
    let mut connection = open(&appliance).await;
    connection.send(&Frame::new(kind::HEADERS, 0, 1, http2::fields("/"))).await.unwrap();
    let mut more = vec![];
    (0..64).for_each(|n| http2::field(&mut more, &format!("x-{n}"), &"x".repeat(100)));
    let more = Frame::new(kind::CONTINUATION, 0, 1, more).encode();
    let mut sent = 0;
    while sent < 64 << 20 && connection.write(&more).await.is_ok() {
        sent += more.len();
    }
    assert!(sent < 64 << 20, "64 MiB of header were taken");
    let code = ended(connection, "CONTINUATION").await;
    assert!(code.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{code:?}");

    // A list that is too large, but ends.
    let mut connection = open(&appliance).await;
    let mut large = http2::fields("/");
    (0..12).for_each(|n| http2::field(&mut large, &format!("x-{n}"), &"x".repeat(2000)));
    let (first, rest) = large.split_at(16_384);
    connection.send(&Frame::new(kind::HEADERS, flag::END_STREAM, 1, first)).await.unwrap();
    let last = Frame::new(kind::CONTINUATION, flag::END_HEADERS, 1, rest);
    connection.send(&last).await.unwrap();
    let refused = async {
        loop {
            let frame = connection.read().await.expect("an answer");
            if frame.stream == 1 {
                return frame;
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await.expect("an answer");
    // 431 (Request Header Fields Too Large) in HPACK's Huffman code.
    let says_431 = refused.payload.windows(3).any(|bytes| bytes == [0x69, 0x90, 0xff]);
    assert!(refused.kind == kind::RST_STREAM || says_431, "{refused:?}");
    signs(&appliance).await;
}

#[tokio::test]
async fn i9_a_peer_that_resets_what_it_asks_for_is_put_out() {
    let appliance = Appliance::softhsm().start_initialised().await;
    // CVE-2023-44487: the request and its reset in one go, so that it was never looked at. And
    // CVE-2025-8671: the peer makes the server do the reset.
    let rapid = |stream| Frame::new(kind::RST_STREAM, 0, stream, 8_u32.to_be_bytes());
    let made_you =
        |stream| Frame::new(kind::WINDOW_UPDATE, 0, stream, 0x7fff_ffff_u32.to_be_bytes());
    for (what, reset) in
        [("rapid reset", &rapid as &dyn Fn(u32) -> Frame), ("made you reset", &made_you)]
    {
        let mut connection = open(&appliance).await;
        for first in (0..100_000).step_by(100) {
            let streams = (first..first + 100).map(|n| 2 * n + 1);
            let pair =
                |stream| [Frame::request(stream, "/x").encode(), reset(stream).encode()].concat();
            let frames: Vec<u8> = streams.flat_map(pair).collect();
            if connection.write(&frames).await.is_err() {
                break;
            }
        }
        let code = ended(connection, what).await;
        assert!(code.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{what}: {code:?}");
    }
    signs(&appliance).await;
}

#[tokio::test]
async fn i9_a_peer_that_never_takes_its_answers_is_put_out() {
    let mut appliance = Appliance::softhsm().start_initialised().await;
    appliance.restart_with_limits(toml! { max_deadline = "2s" }).await;
    // Few bytes, of which each answer makes many.
    let batch = SignBatchRequest { issuer: ISSUER.into(), claims: vec!["{}".into(); 1024] };
    let batch = batch.encode_to_vec();
    // One keeps its windows shut; the other opens them wide and does not read its socket.
    for (what, window) in [("no window", 0), ("a window, and no reading", 0x7fff_ffff)] {
        let settings = [(INITIAL_WINDOW_SIZE, window)];
        let mut connection = Connection::open(&appliance.unix(), &settings).await;
        let start = Instant::now();
        for n in 0..12 {
            let stream = 2 * n + 1;
            connection.send(&Frame::request(stream, SIGN_BATCH)).await.unwrap();
            connection.send(&Frame::message(stream, &batch)).await.unwrap();
        }
        if window > 0 {
            let wide = Frame::new(kind::WINDOW_UPDATE, 0, 0, 0x7000_0000_u32.to_be_bytes());
            connection.send(&wide).await.unwrap();
        }
        let open = async {
            // Alive, by its own account, all the time.
            while connection.send(&Frame::new(kind::PING, 0, 0, [0; 8])).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(PATIENCE, open).await.unwrap_or_else(|_| panic!("{what}"));
        assert!(
            start.elapsed() >= Duration::from_secs(1),
            "{what}: it was put out for another reason"
        );
    }
    signs(&appliance).await;
}
