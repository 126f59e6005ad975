//! Endorsement keys and their certificates (TCG EK Credential Profile for TPM Family 2.0).

use std::{collections::BTreeMap, time::Duration};

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime, pem::PemObject as _};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer as _,
    public_key::PublicKey,
};

use crate::tpm::{Curve, Key, Public};

/// tcg-kp-EKCertificate, 2.23.133.8.1: the extended key usage of endorsement keys' certificates.
const EK_CERTIFICATE: &[u8] = &[0x67, 0x81, 0x05, 0x08, 0x01];

/// Attributes of a TPM that the subject alternative name tells, by their ids.
const TOLD: [(&str, &str); 3] =
    [("2.23.133.2.1", "manufacturer"), ("2.23.133.2.2", "model"), ("2.23.133.2.3", "version")];

/// A certificate, or a chain of them, that is not good for an endorsement key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EkError {
    /// Not a certificate.
    #[error("not an X.509 certificate in PEM or DER")]
    NotACertificate,
    /// A key that no template here is for.
    #[error(
        "its key is none of RSA 2048 and P-256, which the EK credential profile's templates L-1 and L-2 are for"
    )]
    NoTemplate,
    /// The manufacturer certified it for something else.
    #[error(
        "it is no endorsement key's: its extended key usage is not tcg-kp-EKCertificate, or, where it has none, \
         its key usage neither keyEncipherment nor keyAgreement"
    )]
    Usage,
    /// Authorities without a root.
    #[error("the file of authorities has no self-issued certificate to trust")]
    NoRoot,
    /// The chain does not lead there.
    #[error("no chain to the given authorities: {0}")]
    Chain(String),
}

/// An endorsement key's certificate, not verified.
#[derive(Clone, Debug)]
pub struct EkCertificate {
    der: CertificateDer<'static>,
    public: Public,
    told: BTreeMap<&'static str, String>,
    is_for_ek: bool,
}

impl EkCertificate {
    /// Reads a certificate, DER or PEM.
    ///
    /// # Errors
    /// [`EkError::NotACertificate`], [`EkError::NoTemplate`].
    pub fn parse(bytes: &[u8]) -> Result<Self, EkError> {
        let der = if bytes.starts_with(b"0") {
            CertificateDer::from(bytes.to_vec())
        } else {
            CertificateDer::from_pem_slice(bytes).map_err(|_| EkError::NotACertificate)?
        };
        let (rest, parsed) =
            X509Certificate::from_der(&der).map_err(|_| EkError::NotACertificate)?;
        if !rest.is_empty() {
            return Err(EkError::NotACertificate);
        }
        let key = match parsed.public_key().parsed() {
            Ok(PublicKey::RSA(rsa)) => {
                let number = |bytes: &[u8]| -> Vec<u8> {
                    bytes.iter().copied().skip_while(|byte| *byte == 0).collect()
                };
                let modulus = number(rsa.modulus);
                if number(rsa.exponent) != [1, 0, 1] {
                    return Err(EkError::NoTemplate);
                }
                Key::Rsa { modulus, exponent: 65537 }
            }
            Ok(PublicKey::EC(point)) => match point.data() {
                [4, point @ ..] if point.len() == 64 => {
                    let (x, y) = point.split_at(32);
                    Key::Ecc { curve: Curve::P256, x: x.to_vec(), y: y.to_vec() }
                }
                _ => return Err(EkError::NoTemplate),
            },
            _ => return Err(EkError::NoTemplate),
        };
        let public = Public::endorsement(&key).map_err(|_| EkError::NoTemplate)?;
        let (told, is_for_ek) = (told(&parsed), is_for_ek(&parsed));
        drop(parsed);
        Ok(Self { der, public, told, is_for_ek })
    }

    /// The public area that its key has in its TPM, by template L-1 or L-2.
    #[must_use]
    pub fn public(&self) -> &Public {
        &self.public
    }

    /// What it says of the TPM: manufacturer, model, version.
    #[must_use]
    pub fn told(&self) -> &BTreeMap<&'static str, String> {
        &self.told
    }

    /// Verifies the chain to `authorities` at the time `now`, Unix time.
    ///
    /// # Errors
    /// [`EkError::Usage`], [`EkError::Chain`].
    pub fn verify(&self, authorities: &Authorities, now: Duration) -> Result<(), EkError> {
        if !self.is_for_ek {
            return Err(EkError::Usage);
        }
        let chain = |error: webpki::Error| EkError::Chain(format!("{error:?}"));
        let anchors: Vec<TrustAnchor<'_>> = authorities
            .roots
            .iter()
            .map(|root| anchor_from_trusted_cert(root))
            .collect::<Result<_, _>>()
            .map_err(chain)?;
        EndEntityCert::try_from(&self.der)
            .map_err(chain)?
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &anchors,
                &authorities.intermediates,
                UnixTime::since_unix_epoch(now),
                // Certificates from before the profile have no extended key usage: see `is_for_ek`.
                KeyUsage::required_if_present(EK_CERTIFICATE),
                None,
                None,
            )
            .map_err(chain)?;
        Ok(())
    }
}

/// Whether it says that its key is an endorsement key. Certificates from before the profile have no extended key
/// usage; for what the key is used they still say.
fn is_for_ek(certificate: &X509Certificate<'_>) -> bool {
    match certificate.extended_key_usage() {
        Ok(Some(usage)) => usage.value.other.iter().any(|id| id.as_bytes() == EK_CERTIFICATE),
        Ok(None) => certificate.key_usage().is_ok_and(|usage| {
            usage.is_some_and(|usage| usage.value.key_encipherment() || usage.value.key_agreement())
        }),
        Err(_) => false,
    }
}

fn told(certificate: &X509Certificate<'_>) -> BTreeMap<&'static str, String> {
    let mut told = BTreeMap::new();
    for extension in certificate.extensions() {
        let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
            continue;
        };
        for name in &names.general_names {
            let GeneralName::DirectoryName(name) = name else { continue };
            for attribute in name.iter_attributes() {
                let id = attribute.attr_type().to_id_string();
                let known = TOLD.iter().find(|(told, _)| *told == id);
                if let (Some((_, word)), Ok(text)) = (known, attribute.as_str()) {
                    told.insert(*word, text.chars().take(64).collect());
                }
            }
        }
    }
    told
}

/// Who is believed to certify endorsement keys.
#[derive(Clone, Debug)]
pub struct Authorities {
    roots: Vec<CertificateDer<'static>>,
    intermediates: Vec<CertificateDer<'static>>,
}

impl Authorities {
    /// Reads a PEM file: self-issued certificates are trusted, others may be used on the way to them.
    ///
    /// # Errors
    /// [`EkError::NotACertificate`], [`EkError::NoRoot`].
    pub fn parse(pem: &[u8]) -> Result<Self, EkError> {
        let (mut roots, mut intermediates) = (Vec::new(), Vec::new());
        for der in CertificateDer::pem_slice_iter(pem) {
            let der = der.map_err(|_| EkError::NotACertificate)?;
            let (_, parsed) =
                X509Certificate::from_der(&der).map_err(|_| EkError::NotACertificate)?;
            let self_issued = parsed.subject() == parsed.issuer();
            drop(parsed);
            if self_issued { &mut roots } else { &mut intermediates }.push(der);
        }
        if roots.is_empty() { Err(EkError::NoRoot) } else { Ok(Self { roots, intermediates }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::{NOW, authorities, vector};

    fn changed(changes: &[(&[u8], &[u8])]) -> Result<(), EkError> {
        let mut der = vector!("ek-rsa.der").to_vec();
        for (from, to) in changes {
            let at = der.windows(from.len()).position(|found| found == *from).expect("it is there");
            der[at..at + to.len()].copy_from_slice(to);
        }
        EkCertificate::parse(&der).expect("still a certificate").verify(&authorities(), NOW)
    }

    #[test]
    fn a_certificate_for_something_else_is_refused() {
        assert_eq!(changed(&[]), Ok(()));
        let server: (&[u8], &[u8]) = (EK_CERTIFICATE, &[0x67, 0x81, 0x05, 0x08, 0x03]);
        assert_eq!(changed(&[server]), Err(EkError::Usage));
        // Another extension in place of the extended key usage: then the key usage has to say it.
        let none: (&[u8], &[u8]) = (&[6, 3, 0x55, 0x1d, 0x25], &[6, 3, 0x55, 0x1d, 0x7f]);
        assert!(matches!(changed(&[none]), Err(EkError::Chain(_))), "its signature alone is wrong");
        let signs: (&[u8], &[u8]) = (&[4, 4, 3, 2, 5, 0x20], &[4, 4, 3, 2, 5, 0x80]);
        assert_eq!(changed(&[none, signs]), Err(EkError::Usage));
    }
}
