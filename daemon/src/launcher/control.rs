//! The control socket between launcher and server: one message a packet (SOCK_SEQPACKET), JSON,
//! with at most one descriptor beside it.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

/// Why a device is parked of which its worker says so: it gives the reason itself.
pub const WORKER_PARKED: &str = "WORKER_PARKED";

/// Bound on a message, bytes: the configuration's text in JSON is the largest.
const MAX_MESSAGE: usize = 192 * 1024;

/// From launcher to server.
#[derive(Debug)]
pub enum Downward {
    /// The first message: the configuration's text, and the path that it was read from.
    Config {
        /// The path.
        path: String,
        /// The text.
        text: String,
    },
    /// The server's end of a fresh wire.
    Wire {
        /// The device behind it.
        device: String,
        /// Which start of the device's worker this is.
        start: u64,
        /// The wire.
        socket: OwnedFd,
    },
    /// A wire whose descriptor did not arrive, as when this process has no room for one: the worker
    /// ends with it and is started again.
    WireLost {
        /// The device.
        device: String,
    },
    /// A device's worker ended and is not started again without an operator.
    Parked {
        /// The device.
        device: String,
        /// Which start of the device's worker it was.
        start: u64,
        /// Of the server's requests to resume the device, the latest that was heard by then; 0: none was.
        heard: u64,
        /// Why, as a stable reason: [`WORKER_PARKED`], where the worker says so itself.
        reason: String,
        /// What the operator has to do.
        detail: String,
    },
    /// A device's worker ended, and is started again.
    Ended {
        /// The device.
        device: String,
        /// How it ended, as a stable reason.
        reason: String,
        /// The same for the operator.
        detail: String,
        /// When it is started again, in milliseconds from now.
        wait_ms: u64,
    },
}

/// From server to launcher.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToLauncher {
    /// The server serves.
    Ready(Addresses),
    /// An operator wants a parked device tried again.
    Resume {
        /// The device.
        device: String,
        /// Which start of its worker is parked, by the launcher's count.
        start: u64,
        /// Which of this server's requests to resume it this is, from 1.
        number: u64,
    },
    /// A worker's signatures are right.
    Proved {
        /// The device.
        device: String,
        /// Which start of its worker is meant.
        start: u64,
    },
    /// A worker's wire has ended, and the worker should.
    Discard {
        /// The device.
        device: String,
        /// Which start of its worker is meant.
        start: u64,
        /// Whether it hangs: it is no use waiting for it to end by itself.
        hangs: bool,
    },
}

/// Where the server listens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// gRPC over mutual TLS.
    pub grpc: Option<SocketAddr>,
    /// gRPC over a unix socket.
    pub unix: Option<PathBuf>,
    /// The JWKS.
    pub jwks: Option<SocketAddr>,
    /// `https`, or `http` where plain text is allowed.
    pub jwks_scheme: String,
    /// Health, readiness and metrics over HTTP.
    pub ops: Option<SocketAddr>,
}

#[derive(Serialize, Deserialize)]
enum Packet {
    Config { path: String, text: String },
    Wire { device: String, start: u64 },
    Parked { device: String, start: u64, heard: u64, reason: String, detail: String },
    Ended { device: String, reason: String, detail: String, wait_ms: u64 },
}

/// A pair of connected control sockets: launcher's, server's.
///
/// # Errors
/// The system's.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends a message to the server.
///
/// # Errors
/// The socket's; `EMSGSIZE` for a message beyond its bound.
pub fn send_downward(socket: &OwnedFd, message: &Downward) -> io::Result<()> {
    let (packet, descriptor) = match message {
        Downward::Config { path, text } => {
            (Packet::Config { path: path.clone(), text: text.clone() }, None)
        }
        Downward::Wire { device, start, socket } => {
            (Packet::Wire { device: device.clone(), start: *start }, Some(socket.as_fd()))
        }
        Downward::WireLost { .. } => return Err(io::Error::other("nothing to send")),
        Downward::Parked { device, start, heard, reason, detail } => {
            let (device, reason, detail) = (device.clone(), reason.clone(), detail.clone());
            (Packet::Parked { device, start: *start, heard: *heard, reason, detail }, None)
        }
        Downward::Ended { device, reason, detail, wait_ms } => {
            let (device, reason, detail) = (device.clone(), reason.clone(), detail.clone());
            (Packet::Ended { device, reason, detail, wait_ms: *wait_ms }, None)
        }
    };
    send(socket.as_fd(), &packet, descriptor)
}

/// Receives a message from the launcher; `None` once it is gone.
///
/// # Errors
/// The socket's, or a message that is none.
pub fn receive_downward(socket: &OwnedFd) -> io::Result<Option<Downward>> {
    let Some((packet, descriptor)) = receive(socket.as_fd())? else { return Ok(None) };
    Ok(Some(match (packet, descriptor) {
        (Packet::Config { path, text }, None) => Downward::Config { path, text },
        (Packet::Wire { device, start }, Some(socket)) => Downward::Wire { device, start, socket },
        (Packet::Wire { device, .. }, None) => Downward::WireLost { device },
        (Packet::Parked { device, start, heard, reason, detail }, None) => {
            Downward::Parked { device, start, heard, reason, detail }
        }
        (Packet::Ended { device, reason, detail, wait_ms }, None) => {
            Downward::Ended { device, reason, detail, wait_ms }
        }
        _ => {
            return Err(io::Error::other("a control message with a descriptor too many"));
        }
    }))
}

/// Receives a message from the server; `None` once it is gone.
///
/// # Errors
/// The socket's, or a message that is none.
pub fn receive_upward(socket: &OwnedFd) -> io::Result<Option<ToLauncher>> {
    Ok(receive(socket.as_fd())?.map(|(message, _)| message))
}

/// The way from the server up to its launcher.
#[derive(Clone, Debug)]
pub struct Upward(Arc<OwnedFd>);

impl Upward {
    /// Over this control socket.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        Self(Arc::new(socket))
    }

    /// Says that the server serves.
    ///
    /// # Errors
    /// The socket's.
    pub fn ready(&self, addresses: &Addresses) -> io::Result<()> {
        send(self.0.as_fd(), &ToLauncher::Ready(addresses.clone()), None)
    }

    /// Asks for a device to be tried again whose `start`th worker is parked; it is the `number`th time.
    ///
    /// # Errors
    /// The socket's.
    pub fn resume(&self, device: &str, start: u64, number: u64) -> io::Result<()> {
        let device = device.to_owned();
        send(self.0.as_fd(), &ToLauncher::Resume { device, start, number }, None)
    }

    /// Says that a worker's signatures are right. Where that cannot be said, its next start waits longer.
    pub fn proved(&self, device: &str, start: u64) {
        let message = ToLauncher::Proved { device: device.to_owned(), start };
        if let Err(error) = send(self.0.as_fd(), &message, None) {
            tracing::warn!(device, %error, "the launcher cannot be told that a worker is well");
        }
    }

    /// Says that a worker should be gone. Where that cannot be said, the launcher is on its end too.
    pub fn discard(&self, device: &str, start: u64, hangs: bool) {
        let message = ToLauncher::Discard { device: device.to_owned(), start, hangs };
        if let Err(error) = send(self.0.as_fd(), &message, None) {
            tracing::warn!(device, %error, "the launcher cannot be told to discard a worker");
        }
    }
}

fn send(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    if body.len() > MAX_MESSAGE {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a control message beyond its bound",
        ));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<_> = descriptor.into_iter().collect();
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("no room for one descriptor"));
    }
    rustix::io::retry_on_intr(|| {
        // Never waited for: neither side may be stopped by the other.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(socket, &[IoSlice::new(&body)], &mut control, flags)
    })?;
    Ok(())
}

fn receive<T: for<'de> Deserialize<'de>>(
    socket: BorrowedFd<'_>,
) -> io::Result<Option<(T, Option<OwnedFd>)>> {
    let mut body = vec![0; MAX_MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut [IoSliceMut::new(&mut body)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let message = serde_json::from_slice(&body[..received.bytes])?;
    Ok(Some((message, descriptor)))
}
