//! One connection: handshake, identity, requests, end.

use std::{future::pending, io, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use http::Request;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::Notify,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tower::ServiceExt as _;

use super::{
    Drain,
    certificates::PeerTrust,
    socket::{Accepted, Endpoint},
};
use crate::{
    api::Peer,
    config::Limits,
    identity::{self, Caller, IdentityError},
};

/// Bound on the header of a request, bytes.
const MAX_HEADER: u32 = 16 * 1024;
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long requests may go on once their connection has to end.
const GRACE: Duration = Duration::from_secs(1);
/// How long a reader of keys may keep a connection: anyone may open one, and there are not endless many.
const MAX_PUBLIC_AGE: Duration = Duration::from_secs(300);

/// How long, and for how many reads, a refused peer may still send.
const LINGER: Duration = Duration::from_secs(1);
const MAX_UNREAD: usize = 64;

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2 only.
    Grpc,
    /// HTTP/1.1 and HTTP/2.
    Http,
}

/// Why the server ends a connection that its peer would have kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A certificate of the peer's chain has ended.
    CertificateExpired,
    /// No authority that is trusted now vouches for the peer.
    AuthorityGone,
    /// A reader of keys has had its time.
    Age,
}

#[derive(Clone)]
pub(super) struct Settings {
    builder: Builder<TokioExecutor>,
    handshake: Duration,
    max_age: Option<Duration>,
}

impl Settings {
    pub(super) fn new(protocol: Protocol, limits: &Limits) -> Self {
        let mut builder = Builder::new(TokioExecutor::new());
        if protocol == Protocol::Grpc {
            builder = builder.http2_only();
        }
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.handshake)
            .max_buf_size(MAX_HEADER as usize);
        let grpc = protocol == Protocol::Grpc;
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.max_streams)
            .max_header_list_size(MAX_HEADER)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            // A batch of 4 MiB should not wait for window updates; a reader of keys sends nothing.
            .initial_stream_window_size(if grpc { 1 << 20 } else { 1 << 16 })
            .initial_connection_window_size(if grpc { 4 << 20 } else { 1 << 16 });
        Self { builder, handshake: limits.handshake, max_age: (!grpc).then_some(MAX_PUBLIC_AGE) }
    }
}

/// Serves one connection until it ends, its peer is no longer trusted, or the drain begins.
pub(super) async fn serve(
    accepted: Accepted,
    endpoint: &Endpoint,
    settings: &Settings,
    router: Router,
    drain: &Drain,
) -> io::Result<()> {
    match (accepted, endpoint) {
        (Accepted::Tcp(stream), Endpoint::Mutual { certificates, trust_domain, .. }) => {
            let mut certificates = certificates.follow();
            let tls = Arc::clone(&certificates.borrow_and_update().mutual);
            let stream = handshake(tls, stream, settings.handshake).await?;
            let chain = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
            let certified = chain
                .first()
                .ok_or(IdentityError::Malformed)
                .and_then(|certificate| identity::certified(certificate, trust_domain));
            let until = certified.as_ref().ok().map(|certified| certified.not_after);
            let peer = Peer(certified.map(|certified| certified.caller));
            let trust = PeerTrust::new(chain, until, certificates);
            requests(stream, settings, router, Some(peer), trust.lost(), drain).await
        }
        (Accepted::Tcp(stream), Endpoint::Public { certificates, .. }) => {
            let tls = Arc::clone(&certificates.now().public);
            let stream = handshake(tls, stream, settings.handshake).await?;
            requests(stream, settings, router, None, pending(), drain).await
        }
        (Accepted::Tcp(stream), _) => {
            requests(stream, settings, router, None, pending(), drain).await
        }
        (Accepted::Unix(stream), _) => {
            let peer = Peer(Ok(Caller::Unix(stream.peer_cred()?.uid())));
            requests(stream, settings, router, Some(peer), pending(), drain).await
        }
    }
}

/// The TLS handshake. A peer that is refused gets to read why: closing a socket with unread data would
/// reset the connection, and the alert would be lost on its way.
async fn handshake(
    tls: Arc<ServerConfig>,
    stream: TcpStream,
    limit: Duration,
) -> io::Result<TlsStream<TcpStream>> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long");
    let shaken = tokio::time::timeout(limit, TlsAcceptor::from(tls).accept(stream).into_fallible());
    match shaken.await.map_err(|_| late())? {
        Ok(stream) => Ok(stream),
        Err((error, mut refused)) => {
            let mut unread = [0; 1024];
            let linger = async {
                refused.shutdown().await?;
                for _ in 0..MAX_UNREAD {
                    if refused.read(&mut unread).await? == 0 {
                        break;
                    }
                }
                io::Result::Ok(())
            };
            let _best_effort = tokio::time::timeout(LINGER, linger).await;
            Err(error)
        }
    }
}

async fn requests<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    settings: &Settings,
    router: Router,
    peer: Option<Peer>,
    untrusted: impl Future<Output = End>,
    drain: &Drain,
) -> io::Result<()> {
    let spoken = Arc::new(Notify::new());
    let service = {
        let (spoken, calls) = (Arc::clone(&spoken), drain.calls.clone());
        hyper::service::service_fn(move |mut request: Request<Incoming>| {
            spoken.notify_one();
            let under_way = calls.token();
            if let Some(peer) = &peer {
                request.extensions_mut().insert(peer.clone());
            }
            let answer = router.clone().oneshot(request.map(Body::new));
            async move {
                let answer = answer.await;
                drop(under_way);
                answer
            }
        })
    };
    let connection = settings.builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => ended.map_err(io::Error::other),
        () = drain.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await.map_err(io::Error::other)
        }
        // HTTP has no limit of its own on a peer that says nothing at all.
        () = silence(settings.handshake, &spoken) => {
            Err(io::Error::new(io::ErrorKind::TimedOut, "no request came"))
        }
        why = end(untrusted, settings.max_age) => {
            tracing::debug!(?why, "a connection is ended");
            connection.as_mut().graceful_shutdown();
            // What still runs gets a moment, then the connection is cut.
            let _cut = tokio::time::timeout(GRACE, connection).await;
            Ok(())
        }
    }
}

/// Waits as long as a first request may take; for ever once there is one.
async fn silence(limit: Duration, spoken: &Notify) {
    if tokio::time::timeout(limit, spoken.notified()).await.is_ok() {
        pending::<()>().await;
    }
}

/// The end of a connection: that of its peer's trust, or of its time.
async fn end(untrusted: impl Future<Output = End>, max_age: Option<Duration>) -> End {
    let age = async {
        match max_age {
            Some(age) => tokio::time::sleep(age).await,
            None => pending().await,
        }
    };
    tokio::select! {
        why = untrusted => why,
        () = age => End::Age,
    }
}
