//! Connections: TLS over TCP or a unix socket, with one connector, and HTTP/2 on top.

use std::{
    io,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport;
use tower::{Service, service_fn};

use crate::{endpoint::Endpoint, tls::Tls};

/// Larger than the answer to the largest batch, so that flow control never stops one.
const WINDOW: u32 = 8 * 1024 * 1024;
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How to get a connection.
#[derive(Debug)]
pub(crate) enum Target {
    Tls { host: String, port: u16, tls: Box<Tls> },
    Unix(PathBuf),
}

impl Target {
    async fn connect(self: Arc<Self>) -> io::Result<TokioIo<Io>> {
        let io = match &*self {
            Self::Tls { host, port, tls } => {
                let tcp = TcpStream::connect((host.as_str(), *port)).await?;
                tcp.set_nodelay(true)?;
                let connector = TlsConnector::from(tls.config());
                let mut stream = connector.connect(tls.server_name(), tcp).await?;
                // In TLS 1.3 the server looks at our certificate after our side is done. It speaks
                // first in HTTP/2, or refuses: so that a refusal is known as what it is.
                if stream.fill_buf().await?.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Io::Tls(Box::new(stream))
            }
            Self::Unix(path) => Io::Unix(UnixStream::connect(path).await?),
        };
        Ok(TokioIo::new(io))
    }
}

/// The connector, as tonic wants it. The URI that tonic passes says nothing that `target` does not.
pub(crate) fn connector(
    target: Target,
) -> impl Service<Uri, Response = TokioIo<Io>, Error = io::Error, Future: Send> + Send + 'static {
    let target = Arc::new(target);
    service_fn(move |_: Uri| target.clone().connect())
}

/// HTTP/2 as it suits signing: few large messages, and a dead peer is found out.
pub(crate) fn http2(endpoint: &Endpoint, connect_timeout: Duration) -> transport::Endpoint {
    // The scheme is http, since tonic itself is not to do TLS; the requests carry the true origin.
    transport::Endpoint::from_static("http://localhost")
        .origin(endpoint.origin())
        .connect_timeout(connect_timeout)
        .http2_adaptive_window(false)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
}

/// A connection of either kind.
pub(crate) enum Io {
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(io) => Pin::new(io).poll_read(cx, buf),
            Self::Unix(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tls(io) => Pin::new(io).poll_write(cx, buf),
            Self::Unix(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tls(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::Unix(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tls(io) => io.is_write_vectored(),
            Self::Unix(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(io) => Pin::new(io).poll_flush(cx),
            Self::Unix(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(io) => Pin::new(io).poll_shutdown(cx),
            Self::Unix(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
