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
    sync::watch,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tower::ServiceExt as _;

use super::{
    Drain,
    answer::{Answer, Untaken},
    causes::{End, NotLetIn},
    certificates::PeerTrust,
    door::{LetIn, Newcomer},
    socket::{Accepted, Endpoint},
};
use crate::{
    access::Access,
    api::Peer,
    config::Limits,
    identity::{self, Caller, IdentityError},
    telemetry::metrics,
};

/// Bound on the header of a request, bytes.
const MAX_HEADER: u32 = 16 * 1024;
/// Bound on the bytes of one answer that wait in HTTP/2 before more of it is asked for.
const MAX_SEND_BUFFER: usize = 64 * 1024;
/// Bound on streams that a peer reset before they were looked at (CVE-2023-44487, rapid reset): beyond it
/// the connection ends.
const MAX_RESETS: usize = 32;
/// Bound on streams that we reset because of what the peer sent (CVE-2025-8671). Honest peers get there too:
/// with what they still send to streams that were refused.
const MAX_OWN_RESETS: usize = 1024;
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long requests may go on once their connection has to end.
const GRACE: Duration = Duration::from_secs(1);
/// Bound on the requests of one connection whose peer may be anyone: what their answers hold is nobody's
/// room.
const MAX_PUBLIC_STREAMS: u32 = 8;
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

#[derive(Clone)]
pub(super) struct Settings {
    builder: Builder<TokioExecutor>,
    handshake: Duration,
    /// How long an answer may wait for its peer.
    take: Duration,
    max_age: Option<Duration>,
    access: Arc<Access>,
    pub(super) metrics: Arc<metrics::Listener>,
}

impl Settings {
    pub(super) fn new(
        protocol: Protocol,
        limits: &Limits,
        access: &Arc<Access>,
        metrics: Arc<metrics::Listener>,
    ) -> Self {
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
        let streams = if grpc { u32::MAX } else { MAX_PUBLIC_STREAMS };
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.max_streams.min(streams))
            .max_header_list_size(MAX_HEADER)
            .max_send_buf_size(MAX_SEND_BUFFER)
            .max_pending_accept_reset_streams(MAX_RESETS)
            .max_local_error_reset_streams(MAX_OWN_RESETS)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            // A batch of 4 MiB should not wait for window updates; a reader of keys sends nothing.
            .initial_stream_window_size(if grpc { 1 << 20 } else { 1 << 16 })
            .initial_connection_window_size(if grpc { 4 << 20 } else { 1 << 16 });
        let (handshake, take) = (limits.handshake, limits.max_deadline);
        let max_age = (!grpc).then_some(MAX_PUBLIC_AGE);
        Self { builder, handshake, take, max_age, access: Arc::clone(access), metrics }
    }
}

impl Settings {
    /// Counts who is not let in.
    fn refusing<T>(&self, entering: io::Result<T>) -> io::Result<T> {
        entering.inspect_err(|error| self.metrics.refused(NotLetIn::of(error)))
    }

    /// Lets a newcomer in. `peer`: who it is, where it says so.
    async fn enter(&self, newcomer: Newcomer, peer: Option<&Peer>) -> io::Result<LetIn> {
        let caller = peer.and_then(|Peer(caller)| caller.as_ref().ok());
        let granted = caller.filter(|caller| self.access.knows(caller)).cloned();
        self.refusing(newcomer.enter(granted, self.handshake).await)
    }
}

/// Serves one connection until it ends, its peer is no longer trusted, or the drain begins.
pub(super) async fn serve(
    accepted: Accepted,
    newcomer: Newcomer,
    endpoint: &Endpoint,
    settings: &Settings,
    router: Router,
    drain: &Drain,
) -> io::Result<()> {
    let limit = settings.handshake;
    match (accepted, endpoint) {
        (Accepted::Tcp(stream), Endpoint::Mutual { certificates, trust_domain, .. }) => {
            let mut certificates = certificates.follow();
            let tls = Arc::clone(&certificates.borrow_and_update().mutual);
            let stream =
                settings.refusing(newcomer.shaking(limit, handshake(tls, stream)).await)?;
            let chain = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
            let certified = chain
                .first()
                .ok_or(IdentityError::Malformed)
                .and_then(|certificate| identity::certified(certificate, trust_domain));
            let until = certified.as_ref().ok().map(|certified| certified.not_after);
            let peer = Peer(certified.map(|certified| certified.caller));
            let let_in = settings.enter(newcomer, Some(&peer)).await?;
            let trust = PeerTrust::new(chain, until, certificates);
            requests(stream, settings, router, Some(peer), let_in, trust.lost(), drain).await
        }
        (Accepted::Tcp(stream), Endpoint::Public { certificates, .. }) => {
            let tls = Arc::clone(&certificates.now().public);
            let stream =
                settings.refusing(newcomer.shaking(limit, handshake(tls, stream)).await)?;
            let let_in = settings.enter(newcomer, None).await?;
            requests(stream, settings, router, None, let_in, pending(), drain).await
        }
        (Accepted::Tcp(stream), _) => {
            let let_in = settings.enter(newcomer, None).await?;
            requests(stream, settings, router, None, let_in, pending(), drain).await
        }
        (Accepted::Unix(stream), _) => {
            let peer = Peer(Ok(Caller::Unix(stream.peer_cred()?.uid())));
            let let_in = settings.enter(newcomer, Some(&peer)).await?;
            requests(stream, settings, router, Some(peer), let_in, pending(), drain).await
        }
    }
}

/// The TLS handshake. A peer that is refused gets to read why: closing a socket with unread data would
/// reset the connection, and the alert would be lost on its way.
async fn handshake(tls: Arc<ServerConfig>, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    match TlsAcceptor::from(tls).accept(stream).into_fallible().await {
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
    let_in: LetIn,
    untrusted: impl Future<Output = End>,
    drain: &Drain,
) -> io::Result<()> {
    let (open, opened) = watch::channel(0_usize);
    let untaken = Untaken::default();
    let service = {
        let (open, calls, untaken) = (Arc::new(open), drain.calls.clone(), untaken.clone());
        hyper::service::service_fn(move |mut request: Request<Incoming>| {
            let under_way = (calls.token(), Open::one_more(&open));
            let untaken = untaken.clone();
            if let Some(peer) = &peer {
                request.extensions_mut().insert(peer.clone());
            }
            let answer = router.clone().oneshot(request.map(Body::new));
            async move {
                let answer = answer.await;
                drop(under_way);
                answer.map(|answer| Answer::watched(answer, &untaken))
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
        () = silence(settings.handshake, opened, settings.max_age.is_some()) => {
            settings.metrics.ended(End::Silent);
            Err(io::Error::new(io::ErrorKind::TimedOut, "no request came"))
        }
        () = untaken.overdue(settings.take) => {
            settings.metrics.ended(End::Untaken);
            Err(io::Error::new(io::ErrorKind::TimedOut, "an answer was not taken"))
        }
        why = end(untrusted, &let_in, settings.max_age) => {
            tracing::debug!(?why, "a connection is ended");
            settings.metrics.ended(why);
            connection.as_mut().graceful_shutdown();
            // What still runs gets a moment, then the connection is cut.
            let _cut = tokio::time::timeout(GRACE, connection).await;
            Ok(())
        }
    }
}

/// One more request that has no answer yet, until this is dropped.
struct Open(Arc<watch::Sender<usize>>);

impl Open {
    fn one_more(open: &Arc<watch::Sender<usize>>) -> Self {
        open.send_modify(|open| *open += 1);
        Self(Arc::clone(open))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

/// Waits until no request has come for `limit`: no first one, or, of a peer that may be anyone, no next
/// one either.
async fn silence(limit: Duration, mut open: watch::Receiver<usize>, anyone: bool) {
    loop {
        let waits = *open.borrow_and_update() == 0;
        let limit = if waits { limit } else { Duration::MAX };
        let spoke = match tokio::time::timeout(limit, open.changed()).await {
            Ok(changed) => changed.is_ok(),
            Err(_) => {
                // What has come already is read before its absence is held against the peer.
                tokio::task::yield_now().await;
                match open.has_changed() {
                    Ok(false) => return,
                    changed => changed.is_ok(),
                }
            }
        };
        if !spoke || !anyone {
            return pending().await; // The connection is about to end, or its peer has spoken.
        }
    }
}

/// The end of a connection: that of its peer's trust, of its place, or of its time.
async fn end(
    untrusted: impl Future<Output = End>,
    let_in: &LetIn,
    max_age: Option<Duration>,
) -> End {
    let age = async {
        match max_age {
            Some(age) => tokio::time::sleep(age).await,
            None => pending().await,
        }
    };
    tokio::select! {
        why = untrusted => why,
        () = let_in.gives_way() => End::GaveWay,
        () = age => End::Age,
    }
}
