//! Published keys, read from a server in this process.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, Response, StatusCode, header},
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mintwarden_client::{
    TrustAnchors,
    verify::{JwksCache, Verifier},
};
use serde_json::json;
use tokio::{net::TcpListener, time};

/// How long anything may take that has to happen.
const PATIENCE: Duration = Duration::from_secs(30);
const OFTEN: Duration = Duration::from_millis(60);

/// What the server says, and what it was asked.
#[derive(Default)]
struct Published {
    body: String,
    etag: Option<&'static str>,
    status: StatusCode,
    /// Entity tags that readers had, in order.
    asked: Vec<Option<String>>,
}

type Shared = Arc<Mutex<Published>>;

async fn serve(published: Published) -> (SocketAddr, Shared) {
    let shared: Shared = Arc::new(Mutex::new(published));
    let router = Router::new().route("/jwks", get(answer)).with_state(shared.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, shared)
}

async fn answer(State(shared): State<Shared>, headers: HeaderMap) -> Response<Body> {
    let mut published = shared.lock().unwrap();
    let asked = headers.get(header::IF_NONE_MATCH).map(|tag| tag.to_str().unwrap().to_owned());
    published.asked.push(asked.clone());
    let mut response = Response::builder();
    if let Some(etag) = published.etag {
        response = response.header(header::ETAG, etag);
        if asked.as_deref() == Some(etag) {
            return response.status(StatusCode::NOT_MODIFIED).body(Body::empty()).unwrap();
        }
    }
    response.status(published.status).body(Body::from(published.body.clone())).unwrap()
}

fn set(kids: &[&str]) -> String {
    let keys = kids.iter().map(|kid| {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let [x, y] =
            [1..33, 33..65].map(|part| URL_SAFE_NO_PAD.encode(&pair.public_key().as_ref()[part]));
        json!({ "kty": "EC", "crv": "P-256", "kid": kid, "x": x, "y": y })
    });
    json!({ "keys": keys.collect::<Vec<_>>() }).to_string()
}

fn kids(cache: &JwksCache) -> BTreeSet<String> {
    cache.keys().unwrap().kids().map(str::to_owned).collect()
}

async fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let wait = async {
        while !happened() {
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("it did not happen: {what}"));
}

fn cache(address: SocketAddr) -> mintwarden_client::verify::CacheBuilder {
    JwksCache::https(format!("http://{address}/jwks")).refresh_every(OFTEN)
}

#[tokio::test]
async fn new_keys_come_and_revoked_ones_go_by_themselves() {
    let (address, published) =
        serve(Published { body: set(&["a", "b"]), ..Default::default() }).await;
    let cache = cache(address).start().await.unwrap();
    assert_eq!(kids(&cache), BTreeSet::from(["a".into(), "b".into()]));
    published.lock().unwrap().body = set(&["b", "c"]);
    eventually("b and c", || kids(&cache) == BTreeSet::from(["b".into(), "c".into()])).await;
    // All revoked is a set as well.
    published.lock().unwrap().body = set(&[]);
    eventually("none", || kids(&cache).is_empty()).await;
}

#[tokio::test]
async fn what_has_not_changed_is_not_sent_again() {
    let etag = Some("\"7\"");
    let (address, published) =
        serve(Published { body: set(&["a"]), etag, ..Default::default() }).await;
    let cache = cache(address).start().await.unwrap();
    eventually("three readings", || published.lock().unwrap().asked.len() >= 3).await;
    let asked = published.lock().unwrap().asked.clone();
    assert_eq!(asked[0], None);
    assert!(asked[1..].iter().all(|tag| tag.as_deref() == etag), "{asked:?}");
    assert_eq!(kids(&cache).len(), 1);
    assert!(cache.failure().is_none());
}

#[tokio::test]
async fn an_unknown_kid_is_no_reason_to_read() {
    let (address, published) = serve(Published { body: set(&["a"]), ..Default::default() }).await;
    let cache = cache(address).refresh_every(Duration::from_secs(3600)).start().await.unwrap();
    let verifier = Verifier::txn_token("trust-domain.example").build(cache);
    let header = URL_SAFE_NO_PAD.encode(r#"{"typ":"txntoken+jwt","alg":"ES256","kid":"new"}"#);
    for _ in 0..1000 {
        let refused = verifier.verify(&format!("{header}.e30.AAAA")).unwrap_err();
        assert_eq!(refused.reason(), "UNKNOWN_KEY");
    }
    assert_eq!(published.lock().unwrap().asked.len(), 1);
}

#[tokio::test]
async fn failures_leave_the_last_good_keys_and_are_told() {
    let (address, published) = serve(Published { body: set(&["a"]), ..Default::default() }).await;
    let cache = cache(address).start().await.unwrap();
    for (status, body, part) in [
        (StatusCode::SERVICE_UNAVAILABLE, String::new(), "503"),
        (StatusCode::MOVED_PERMANENTLY, String::new(), "301"),
        (StatusCode::OK, "no JSON".into(), "JSON"),
        (StatusCode::OK, " ".repeat(256 * 1024 + 1), "longer than"),
    ] {
        *published.lock().unwrap() = Published { status, body, ..Default::default() };
        let told = || cache.failure().is_some_and(|error| error.to_string().contains(part));
        eventually(part, told).await;
        assert_eq!(kids(&cache).len(), 1, "{part}");
    }
    *published.lock().unwrap() = Published { body: set(&["b"]), ..Default::default() };
    eventually("a good set", || cache.failure().is_none()).await;
    assert_eq!(kids(&cache), BTreeSet::from(["b".into()]));
}

#[tokio::test]
async fn keys_that_cannot_be_read_again_are_not_believed_for_ever() {
    let (address, published) = serve(Published { body: set(&["a"]), ..Default::default() }).await;
    let cache = cache(address).max_stale(OFTEN * 4).start().await.unwrap();
    published.lock().unwrap().status = StatusCode::INTERNAL_SERVER_ERROR;
    eventually("they are stale", || cache.keys().is_err()).await;
    assert_eq!(cache.keys().unwrap_err().reason(), "KEYS_STALE");
    published.lock().unwrap().status = StatusCode::OK;
    eventually("they are fresh", || cache.keys().is_ok()).await;
}

#[tokio::test]
async fn nothing_reads_on_once_nobody_needs_it() {
    let (address, published) = serve(Published { body: set(&["a"]), ..Default::default() }).await;
    let cache = cache(address).start().await.unwrap();
    let clone = cache.clone();
    drop(cache);
    let asked = || published.lock().unwrap().asked.len();
    let before = asked();
    eventually("the clone reads", || asked() > before).await;
    drop(clone);
    // The task is gone with its clone: the server's state has no other owner of a connection.
    let metrics = tokio::runtime::Handle::current().metrics();
    eventually("only the server's tasks are left", || metrics.num_alive_tasks() <= 1).await;
}

#[tokio::test]
async fn addresses_that_cannot_work_are_told_at_once() {
    let ca = || TrustAnchors::from_pem("no PEM");
    let start = |url: &str| JwksCache::https(url).ca(ca()).start();
    for (url, part) in [
        ("no address", "relative URL"),
        ("http://192.0.2.1/jwks", "over https"),
        ("http://localhost.example/jwks", "over https"),
        ("file:///etc/passwd", "over https"),
        ("https://localhost/jwks", "no certificate"),
    ] {
        let error = start(url).await.unwrap_err().to_string();
        assert!(error.contains(part), "{url}: {error}");
    }
    let error = JwksCache::https("https://localhost/jwks").start().await.unwrap_err().to_string();
    assert!(error.contains("needs a CA"), "{error}");
    let (address, _) =
        serve(Published { status: StatusCode::NOT_FOUND, ..Default::default() }).await;
    let error = cache(address).start().await.unwrap_err().to_string();
    assert!(error.contains("404"), "{error}");
}
