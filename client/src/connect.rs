//! Byte streams to an appliance: TLS over TCP, or a unix socket.

use std::{
    io,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    sync::oneshot,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{address::Address, tls::Tls};

/// An appliance, and how to get a connection to it.
#[derive(Debug)]
pub(crate) struct Target {
    /// For messages.
    pub(crate) name: Arc<str>,
    /// Scheme and authority of the requests.
    pub(crate) origin: Uri,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Tls { host: String, port: u16, tls: Box<Tls> },
    Unix(PathBuf),
}

impl Target {
    pub(crate) fn tls(address: &Address, host: String, port: u16, tls: Tls) -> Self {
        Self::new(address, Way::Tls { host, port, tls: Box::new(tls) })
    }

    pub(crate) fn unix(address: &Address, path: PathBuf) -> Self {
        Self::new(address, Way::Unix(path))
    }

    fn new(address: &Address, way: Way) -> Self {
        Self { name: address.to_string().into(), origin: address.origin(), way }
    }

    /// Connects. What comes second is told when the peer has said something.
    pub(crate) async fn connect(&self) -> io::Result<(Io, oneshot::Receiver<()>)> {
        let stream = match &self.way {
            Way::Tls { host, port, tls } => {
                let tcp = TcpStream::connect((host.as_str(), *port)).await?;
                tcp.set_nodelay(true)?;
                let connector = TlsConnector::from(tls.config());
                let mut stream = connector.connect(tls.server_name(), tcp).await?;
                // In TLS 1.3 the server looks at our certificate after our side is done. It speaks
                // first in HTTP/2, or refuses: so that a refusal is known as what it is.
                if stream.fill_buf().await?.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Stream::Tls(Box::new(stream))
            }
            Way::Unix(path) => Stream::Unix(UnixStream::connect(path).await?),
        };
        let (speaks, spoken) = oneshot::channel();
        Ok((Io { stream, speaks: Some(speaks) }, spoken))
    }
}

/// A connection of either kind, which tells when its peer speaks for the first time.
pub(crate) struct Io {
    stream: Stream,
    speaks: Option<oneshot::Sender<()>>,
}

enum Stream {
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = match &mut this.stream {
            Stream::Tls(io) => Pin::new(io).poll_read(cx, buf),
            Stream::Unix(io) => Pin::new(io).poll_read(cx, buf),
        };
        if this.speaks.is_some() && buf.filled().len() > before {
            // Whoever connected may have given up meanwhile.
            let _ = this.speaks.take().map(|speaks| speaks.send(()));
        }
        read
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Tls(io) => Pin::new(io).poll_write(cx, buf),
            Stream::Unix(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Tls(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Stream::Unix(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Tls(io) => io.is_write_vectored(),
            Stream::Unix(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Tls(io) => Pin::new(io).poll_flush(cx),
            Stream::Unix(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Tls(io) => Pin::new(io).poll_shutdown(cx),
            Stream::Unix(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
