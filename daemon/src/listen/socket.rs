//! Sockets that listen, and what they know of who connects.

use std::{
    io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::Path,
};

use spiffe::TrustDomain;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::LiveCertificates;

/// A socket that listens.
pub enum Endpoint {
    /// TLS with client certificates.
    Mutual {
        /// The socket.
        listener: TcpListener,
        /// TLS.
        certificates: LiveCertificates,
        /// Whose SPIFFE IDs count.
        trust_domain: TrustDomain,
    },
    /// TLS without client certificates.
    Public {
        /// The socket.
        listener: TcpListener,
        /// TLS.
        certificates: LiveCertificates,
    },
    /// No TLS.
    Plain(TcpListener),
    /// A unix socket: callers by peer credentials.
    Unix(UnixListener),
}

/// A connection before its handshake.
pub(super) enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Endpoint {
    /// Listens for mutual TLS.
    ///
    /// # Errors
    /// The socket's.
    pub async fn mutual(
        address: SocketAddr,
        certificates: LiveCertificates,
        trust_domain: TrustDomain,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self::Mutual { listener, certificates, trust_domain })
    }

    /// Listens for TLS, or for plain TCP where there are no certificates.
    ///
    /// # Errors
    /// The socket's.
    pub async fn public(
        address: SocketAddr,
        certificates: Option<LiveCertificates>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(match certificates {
            Some(certificates) => Self::Public { listener, certificates },
            None => Self::Plain(listener),
        })
    }

    /// Listens on a unix socket that everyone may connect to: who may do what, grants decide. A
    /// socket that an earlier server left behind is replaced, any other file is not.
    ///
    /// # Errors
    /// The socket's.
    pub fn unix(path: &Path) -> io::Result<Self> {
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
            Ok(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "it exists and is not a socket",
                ));
            }
            Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
        Ok(Self::Unix(listener))
    }

    /// The TCP address that it listens on.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Mutual { listener, .. }
            | Self::Public { listener, .. }
            | Self::Plain(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        Ok(match self {
            Self::Mutual { listener, .. }
            | Self::Public { listener, .. }
            | Self::Plain(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Accepted::Tcp(stream)
            }
            Self::Unix(listener) => Accepted::Unix(listener.accept().await?.0),
        })
    }
}
