//! Why connections do not begin, and why the server ends them: closed sets, for metrics.

use std::io;

use rustls::{CertificateError, Error};

use super::door::PutOut;

/// Why a connection was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotLetIn {
    /// Its TLS handshake took longer than `limits.handshake`.
    Timeout,
    /// It was the oldest that was not let in yet, and too many newer ones came.
    GaveWay,
    /// There were `limits.max_connections` all the while.
    NoRoom,
    /// The peer was gone in the middle of it.
    Closed,
    /// The peer showed no certificate.
    NoCertificate,
    /// A certificate of the peer's chain has ended, or does not hold yet.
    CertificateExpired,
    /// No trusted authority vouches for the peer.
    UnknownAuthority,
    /// The peer's certificate is no good for another reason.
    BadCertificate,
    /// The peer refuses the server's certificate, or what it offers.
    RefusedByPeer,
    /// What came is no TLS that is spoken here.
    Protocol,
}

impl NotLetIn {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Timeout,
        Self::GaveWay,
        Self::NoRoom,
        Self::Closed,
        Self::NoCertificate,
        Self::CertificateExpired,
        Self::UnknownAuthority,
        Self::BadCertificate,
        Self::RefusedByPeer,
        Self::Protocol,
    ];

    /// The stable word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::GaveWay => "gave_way",
            Self::NoRoom => "no_room",
            Self::Closed => "closed",
            Self::NoCertificate => "no_certificate",
            Self::CertificateExpired => "certificate_expired",
            Self::UnknownAuthority => "unknown_authority",
            Self::BadCertificate => "bad_certificate",
            Self::RefusedByPeer => "refused_by_peer",
            Self::Protocol => "protocol",
        }
    }

    pub(super) fn of(error: &io::Error) -> Self {
        match PutOut::of(error) {
            Some(PutOut::TooLong) => return Self::Timeout,
            Some(PutOut::GaveWay) => return Self::GaveWay,
            Some(PutOut::NoRoom) => return Self::NoRoom,
            None => {}
        }
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            None => Self::Closed,
            Some(Error::NoCertificatesPresented) => Self::NoCertificate,
            Some(Error::AlertReceived(_)) => Self::RefusedByPeer,
            Some(Error::InvalidCertificate(why)) => match why {
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::CertificateExpired,
                // A chain that leads to an authority of the same name and another key.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    Self::UnknownAuthority
                }
                _ => Self::BadCertificate,
            },
            Some(_) => Self::Protocol,
        }
    }
}

/// Why the server ends a connection that its peer would have kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A certificate of the peer's chain has ended.
    CertificateExpired,
    /// No authority that is trusted now vouches for the peer.
    AuthorityGone,
    /// No request came in time.
    Silent,
    /// An answer was not taken in time.
    Untaken,
    /// A reader of keys has had its time.
    Age,
    /// The house was full, and another peer came.
    GaveWay,
}

impl End {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::CertificateExpired,
        Self::AuthorityGone,
        Self::Silent,
        Self::Untaken,
        Self::Age,
        Self::GaveWay,
    ];

    /// The stable word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CertificateExpired => "certificate_expired",
            Self::AuthorityGone => "authority_gone",
            Self::Silent => "silent",
            Self::Untaken => "untaken",
            Self::Age => "age",
            Self::GaveWay => "gave_way",
        }
    }
}
