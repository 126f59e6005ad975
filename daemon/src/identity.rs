//! Who calls: the identity in a verified certificate, or the peer credentials of a unix socket.
//!
//! SPIFFE X.509-SVID section 2: exactly one URI SAN, which is the SPIFFE ID. A certificate without a
//! URI SAN may name its caller by exactly one DNS SAN. Anything else names nobody.

use std::fmt;

use spiffe::{SpiffeId, TrustDomain};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer as _, X509Certificate},
};

use crate::clock::UnixTime;

/// An authenticated client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// By SPIFFE ID of the configured trust domain.
    Spiffe(SpiffeId),
    /// By DNS name, in lower case.
    Dns(String),
    /// By user id, over the unix socket.
    Unix(u32),
}

impl Caller {
    /// Parses a caller as written in a grant: a SPIFFE ID, a DNS name or `unix:uid=N`.
    ///
    /// # Errors
    /// [`IdentityError::Unwritten`] where it is none of these.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        if text.starts_with("spiffe://") {
            return SpiffeId::new(text)
                .map(Self::Spiffe)
                .map_err(|e| IdentityError::Unwritten(format!("not a SPIFFE ID: {e}")));
        }
        if let Some(uid) = text.strip_prefix("unix:uid=") {
            return uid
                .parse()
                .map(Self::Unix)
                .map_err(|_| IdentityError::Unwritten("not a user id".into()));
        }
        dns_name(text)
            .map(Self::Dns)
            .ok_or_else(|| IdentityError::Unwritten("not a DNS name".into()))
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spiffe(id) => id.fmt(f),
            Self::Dns(name) => f.write_str(name),
            Self::Unix(uid) => write!(f, "unix:uid={uid}"),
        }
    }
}

/// A caller's name in its certificate, and until when that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// The caller.
    pub caller: Caller,
    /// The certificate's `notAfter`.
    pub not_after: UnixTime,
}

/// Why a certificate names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Not an X.509 certificate.
    #[error("the certificate does not parse")]
    Malformed,
    /// More than one URI SAN.
    #[error(
        "the certificate has {0} URI SANs; exactly one is allowed (SPIFFE X.509-SVID section 2)"
    )]
    ManyUris(usize),
    /// The URI SAN is no SPIFFE ID.
    #[error("the certificate's URI SAN is not a SPIFFE ID")]
    NotSpiffe,
    /// The SPIFFE ID is of another trust domain.
    #[error("the certificate is of another trust domain")]
    ForeignTrustDomain,
    /// No URI SAN, and not exactly one DNS SAN.
    #[error("the certificate has no URI SAN and {0} DNS SANs; exactly one is needed")]
    NotOneDnsName(usize),
    /// Not a way to write a caller.
    #[error("{0}")]
    Unwritten(String),
}

impl IdentityError {
    /// The stable reason.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Malformed => "CERTIFICATE_MALFORMED",
            Self::ManyUris(_) | Self::NotOneDnsName(_) => "IDENTITY_AMBIGUOUS",
            Self::NotSpiffe => "IDENTITY_NOT_SPIFFE",
            Self::ForeignTrustDomain => "FOREIGN_TRUST_DOMAIN",
            Self::Unwritten(_) => "IDENTITY_MALFORMED",
        }
    }
}

/// Reads the caller from an end-entity certificate (DER) whose chain was verified.
///
/// # Errors
/// [`IdentityError`] where it does not name exactly one caller.
pub fn certified(
    certificate: &[u8],
    trust_domain: &TrustDomain,
) -> Result<Certified, IdentityError> {
    let (rest, certificate) =
        X509Certificate::from_der(certificate).map_err(|_| IdentityError::Malformed)?;
    if !rest.is_empty() {
        return Err(IdentityError::Malformed);
    }
    let names = certificate.subject_alternative_name().map_err(|_| IdentityError::Malformed)?;
    let names = names.map(|extension| &extension.value.general_names[..]).unwrap_or_default();
    let not_after = UnixTime(certificate.validity().not_after.timestamp());
    Ok(Certified { caller: named(names, trust_domain)?, not_after })
}

fn named(names: &[GeneralName<'_>], trust_domain: &TrustDomain) -> Result<Caller, IdentityError> {
    if names.iter().any(|name| matches!(name, GeneralName::Invalid(..))) {
        return Err(IdentityError::Malformed); // It could be a second URI.
    }
    let uris: Vec<&str> = names
        .iter()
        .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
        .collect();
    match uris[..] {
        [] => {}
        [uri] => {
            let id = SpiffeId::new(uri).map_err(|_| IdentityError::NotSpiffe)?;
            if id.trust_domain() != trust_domain {
                return Err(IdentityError::ForeignTrustDomain);
            }
            return Ok(Caller::Spiffe(id));
        }
        _ => return Err(IdentityError::ManyUris(uris.len())),
    }
    let hosts: Vec<&str> = names
        .iter()
        .filter_map(|name| if let GeneralName::DNSName(host) = name { Some(*host) } else { None })
        .collect();
    match hosts[..] {
        [host] => dns_name(host).map(Caller::Dns).ok_or(IdentityError::NotOneDnsName(1)),
        _ => Err(IdentityError::NotOneDnsName(hosts.len())),
    }
}

/// A DNS name in lower case: letters, digits, `-` and `.`, no wildcard (RFC 1123 section 2.1).
fn dns_name(text: &str) -> Option<String> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    (text.len() <= 253 && text.split('.').all(label)).then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain() -> TrustDomain {
        TrustDomain::new("trust-domain.example").expect("a trust domain")
    }

    fn uri(uri: &'static str) -> GeneralName<'static> {
        GeneralName::URI(uri)
    }

    #[test]
    fn one_spiffe_id_of_the_trust_domain_names_the_caller() {
        let names = [uri("spiffe://trust-domain.example/tts"), GeneralName::DNSName("tts.example")];
        let caller = named(&names, &domain()).expect("a caller");
        assert_eq!(caller.to_string(), "spiffe://trust-domain.example/tts");
    }

    #[test]
    fn ambiguous_and_foreign_certificates_name_nobody() {
        let many = [uri("spiffe://trust-domain.example/a"), uri("spiffe://trust-domain.example/b")];
        assert_eq!(named(&many, &domain()), Err(IdentityError::ManyUris(2)));
        let foreign = [uri("spiffe://other.example/a")];
        assert_eq!(named(&foreign, &domain()), Err(IdentityError::ForeignTrustDomain));
        let other = [uri("https://trust-domain.example/a")];
        assert_eq!(named(&other, &domain()), Err(IdentityError::NotSpiffe));
        // A URI SAN that names nobody is not rescued by a DNS SAN.
        let both = [uri("spiffe://other.example/a"), GeneralName::DNSName("tts.example")];
        assert_eq!(named(&both, &domain()), Err(IdentityError::ForeignTrustDomain));
    }

    #[test]
    fn exactly_one_dns_name_names_the_caller() {
        let one = [GeneralName::DNSName("TTS.example")];
        assert_eq!(named(&one, &domain()), Ok(Caller::Dns("tts.example".into())));
        let two = [GeneralName::DNSName("a.example"), GeneralName::DNSName("b.example")];
        assert_eq!(named(&two, &domain()), Err(IdentityError::NotOneDnsName(2)));
        assert_eq!(named(&[], &domain()), Err(IdentityError::NotOneDnsName(0)));
        let wildcard = [GeneralName::DNSName("*.example")];
        assert_eq!(named(&wildcard, &domain()), Err(IdentityError::NotOneDnsName(1)));
    }

    #[test]
    fn callers_are_written_in_three_ways() {
        for text in ["spiffe://trust-domain.example/tts", "tts.example", "unix:uid=1000"] {
            assert_eq!(Caller::parse(text).expect(text).to_string(), text);
        }
        for text in ["", "unix:uid=root", "spiffe://", "*.example", "a b", "unix:gid=0"] {
            assert!(Caller::parse(text).is_err(), "{text:?}");
        }
    }
}
