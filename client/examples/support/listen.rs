//! A listener with mutual TLS whose requests know who sent them. Everything in it is bounded.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Extension, Router};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use spiffe::{SpiffeId, TrustDomain};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time,
};
use tokio_rustls::TlsAcceptor;

use super::{Failure, asked_to_end, tls};

const MAX_CONNECTIONS: u32 = 1024;
const MAX_STREAMS: u32 = 256;
/// How long a TLS handshake, or a request's header, may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection lives: a certificate's end is noticed by then.
const MAX_AGE: Duration = Duration::from_secs(300);
/// How long requests under way may take once the program is asked to end.
const DRAIN: Duration = Duration::from_secs(10);
/// What to wait when there is no descriptor left for a connection.
const BREATHER: Duration = Duration::from_millis(50);

/// Who sent a request, from the certificate; or why that names nobody.
#[derive(Clone, Debug)]
pub(crate) struct Peer(pub(crate) Result<SpiffeId, &'static str>);

/// Opens the listener, and says where.
pub(crate) async fn open(name: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    let wrong = |error| Failure::other(format!("cannot listen on {address}: {error}"));
    let listener = TcpListener::bind(address).await.map_err(wrong)?;
    let address = listener.local_addr().map_err(wrong)?;
    eprintln!("{name}: serving https://{address}");
    Ok(listener)
}

/// Serves until the program is asked to end, and what was accepted a little longer.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: ServerConfig,
    trust_domain: TrustDomain,
    router: Router,
) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS as usize));
    let (stop, stopped) = watch::channel(());
    let server = Arc::new(Server { tls: Arc::new(tls).into(), trust_domain, router });
    let asked = asked_to_end();
    tokio::pin!(asked);
    loop {
        let accept = async {
            // The permit first: beyond the bound connections wait in the kernel.
            let permit = permits.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accept => accepted,
            () = &mut asked => break,
        };
        let Ok((stream, _)) = accepted else {
            time::sleep(BREATHER).await;
            continue;
        };
        let (server, stopped) = (server.clone(), stopped.clone());
        tokio::spawn(async move {
            if let Err(error) = server.connection(stream, stopped).await {
                tracing::debug!(%error, "connection");
            }
            drop(permit);
        });
    }
    drop((listener, stop));
    // All permits are back when all connections have ended.
    let _cut_off = time::timeout(DRAIN, permits.acquire_many(MAX_CONNECTIONS)).await;
}

struct Server {
    tls: TlsAcceptor,
    trust_domain: TrustDomain,
    router: Router,
}

impl Server {
    async fn connection(
        &self,
        stream: TcpStream,
        mut stopped: watch::Receiver<()>,
    ) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let stream = time::timeout(HANDSHAKE, self.tls.accept(stream)).await??;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let peer = certificate.map_or(Err("there is no certificate"), |certificate| {
            tls::spiffe_id(certificate, &self.trust_domain)
        });
        let router = self.router.clone().layer(Extension(Peer(peer)));
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE);
        builder.http2().timer(TokioTimer::new()).max_concurrent_streams(MAX_STREAMS);
        let connection =
            builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
        tokio::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return ended.map_err(io::Error::other),
            // The sender is dropped: nothing is ever sent.
            _ = stopped.changed() => {}
            () = time::sleep(MAX_AGE) => {}
        }
        connection.as_mut().graceful_shutdown();
        time::timeout(DRAIN, connection).await?.map_err(io::Error::other)
    }
}
