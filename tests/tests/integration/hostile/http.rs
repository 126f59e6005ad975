//! HTTP/1.1 as no browser speaks it, against the HTTPS port that is open to anyone.

use mintwarden_tests::{Appliance, PATIENCE, eventually};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;
use toml::toml;

const JWKS: &str = "/issuers/payments-tts/jwks.json";

/// Writes bytes on a connection of their own; the status line and body of the first answer, nothing where
/// the connection ends without one.
async fn say(appliance: &Appliance, bytes: impl AsRef<[u8]>) -> (u16, String) {
    let address = appliance.url("").trim_start_matches("https://").to_owned();
    say_on(appliance.https_stream(&address, &[b"http/1.1"]).await, bytes).await
}

async fn say_on(mut stream: TlsStream<TcpStream>, bytes: impl AsRef<[u8]>) -> (u16, String) {
    let _may_be_refused_early = stream.write_all(bytes.as_ref()).await;
    let mut answer = Vec::new();
    let heard = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    // A connection that is cut while we still write ends with an error; what was said before counts.
    let _maybe_reset = heard.expect("the connection ends");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    (status.unwrap_or(0), body.unwrap_or_default())
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
}

#[tokio::test]
async fn no_path_leads_anywhere_else() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let long = format!("/{}", "a".repeat(60_000));
    for (target, expected) in [
        (JWKS, 200),
        // The absolute form has to be understood (RFC 9112 section 3.2.2), and names encode (RFC 3986).
        ("https://localhost/issuers/payments-tts/jwks.json", 200),
        ("/issuers/%70ayments-tts/jwks.json", 200),
        ("/issuers/payments-tts/jwks.json?x=../../etc", 200),
        ("/../etc/passwd", 404),
        ("/issuers/../issuers/payments-tts/jwks.json", 404),
        ("/issuers/payments-tts/../payments-tts/jwks.json", 404),
        ("/issuers/%2e%2e/jwks.json", 404),
        ("/issuers/..%2f..%2fserver%2fkeysets.redb/jwks.json", 404),
        ("/issuers/payments-tts%00/jwks.json", 404),
        ("/issuers/payments-tts%0d%0ax:1/jwks.json", 404),
        ("/issuers//jwks.json", 404),
        ("//issuers/payments-tts/jwks.json", 404),
        ("/issuers/payments-tts//jwks.json", 404),
        ("/issuers/payments-tts/jwks.json/", 404),
        ("/ISSUERS/payments-tts/jwks.json", 404),
        ("/issuers/%ff/jwks.json", 400),
        ("/issuers/payments-tts/jwks.json#x", 400),
        ("issuers/payments-tts/jwks.json", 400),
        ("/issuers/payments-tts/jwks.json HTTP/1.1 x", 400),
        ("/\0", 400),
        ("/\u{7f}", 400),
        (" ", 400),
        (&long, 431),
    ] {
        let (status, body) = say(&appliance, get(target)).await;
        // Fragments are not part of what is sent; a parser may drop or refuse them.
        let dropped = target.contains('#') && status == 200;
        assert!(status == expected || dropped, "{target:.60}: {status}");
        assert!(status == 200 || body.is_empty() || status == 400, "{target:.60}: {body}");
    }
}

#[tokio::test]
async fn no_method_does_anything_but_read() {
    let appliance = Appliance::softhsm().start_initialised().await;
    for (method, expected) in [
        ("GET", 200),
        ("HEAD", 200),
        ("POST", 405),
        ("PUT", 405),
        ("PATCH", 405),
        ("DELETE", 405),
        ("OPTIONS", 405),
        ("TRACE", 405),
        ("BREW", 405),
        ("get", 405),
        ("PRI", 405),
        ("X-THIRTY-LETTERS-ARE-A-LONG-METHOD", 405),
        ("G\u{e4}T", 400),
        ("", 400),
    ] {
        let (status, _) = say(&appliance, get(JWKS).replacen("GET", method, 1)).await;
        assert_eq!(status, expected, "{method}");
    }
    let (status, _) = say(&appliance, get("*").replacen("GET", "OPTIONS", 1)).await;
    assert!((400..500).contains(&status), "{status}");
    let (status, _) = say(&appliance, get("localhost:22").replacen("GET", "CONNECT", 1)).await;
    assert!((400..500).contains(&status), "{status}");
    // A body that is never sent is not waited for.
    let declared =
        format!("POST {JWKS} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000000\r\n\r\n");
    assert_eq!(say(&appliance, declared).await.0, 405);
}

#[tokio::test]
async fn i9_headers_are_bounded() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let with = |headers: &str| get(JWKS).replacen("host", &format!("{headers}host"), 1);
    let many = |count| (0..count).map(|n| format!("x-{n}: 1\r\n")).collect::<String>();
    let long = |size| format!("x: {}\r\n", "x".repeat(size));
    for (what, request, expected) in [
        ("50 fields", with(&many(50)), 200),
        ("200 fields", with(&many(200)), 431),
        ("8 KiB", with(&long(8 << 10)), 200),
        ("17 KiB", with(&long(17 << 10)), 431),
        ("1 MiB", with(&long(1 << 20)), 431),
        ("a name of 20 KiB", with(&format!("{}: x\r\n", "x".repeat(20 << 10))), 431),
        ("no colon", with("x\r\n"), 400),
        ("a space before the colon", with("x : 1\r\n"), 400),
        ("a folded line", with("x: 1\r\n 2\r\n"), 400),
        ("a NUL", with("x: \0\r\n"), 400),
        ("two lengths", with("content-length: 1\r\ncontent-length: 2\r\n"), 400),
        ("a length that is none", with("content-length: -1\r\n"), 400),
        ("HTTP/9.9", get(JWKS).replacen("HTTP/1.1", "HTTP/9.9", 1), 400),
        ("no version", format!("GET {JWKS}\r\n\r\n"), 400),
        ("TLS in TLS", "\u{16}\u{3}\u{1}\u{2}\0\u{1}".to_owned(), 400),
    ] {
        let (status, _) = say(&appliance, request).await;
        assert_eq!(status, expected, "{what}");
    }
    // Of two framings that contradict each other the connection does not outlive the first (RFC 9112
    // section 6.1): what looks like a second request is none.
    let smuggled = format!(
        "GET {JWKS} HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n\
         GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"
    );
    let (status, body) = say(&appliance, smuggled).await;
    assert!(status == 400 || !body.contains("404"), "{status}: {body}");
}

#[tokio::test]
async fn i9_a_header_that_never_ends_is_not_waited_for() {
    let mut appliance = Appliance::softhsm().start_initialised().await;
    appliance.restart_with_limits(toml! { handshake = "500ms" }).await;
    let address = appliance.url("").trim_start_matches("https://").to_owned();
    for half in ["GET /issuers", "GET /issuers HTTP/1.1\r\nhost: x\r\n"] {
        // The handshake may have been too slow.
        let stream = eventually("a handshake", async || {
            appliance.try_https_stream(&address, &[b"http/1.1"]).await.ok()
        });
        let (status, _) = say_on(stream.await, half).await;
        // A peer that waits for more may say that it did.
        assert!([0, 408].contains(&status), "{half:?}: {status}");
    }
}
