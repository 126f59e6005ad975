//! Certificates: whose, for how long, and where their chain leads.

use std::path::Path;

use mintwarden_worker::finding::{Check, Finding};
use rustls::{
    CertificateError, Error, RootCertStore,
    client::verify_server_cert_signed_by_trust_anchor,
    crypto::aws_lc_rs,
    pki_types::{self, CertificateDer},
    server::ParsedCertificate,
};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::system::date;
use crate::{
    clock::{self, UnixTime},
    config::Tls,
    listen::certificates::files::{self, Validity},
};

const DAY: i64 = 24 * 3600;

/// What there is to say about the certificate files.
pub(super) fn examine(tls: &Tls) -> Vec<Finding> {
    let read = |key, path: &Path| {
        let pem = files::read(key, path)?;
        files::certificates(key, path, &pem)
    };
    let mut findings = Vec::new();
    let remedy = "name PEM files: a certificate chain, its private key, the callers' CAs";
    let authorities = read("client_ca", &tls.client_ca).unwrap_or_else(|error| {
        findings.push(Finding::fault(Check::TlsAuthority, tls.client_ca.display(), error, remedy));
        vec![]
    });
    let chain = read("certificate", &tls.certificate).unwrap_or_else(|error| {
        findings.push(Finding::fault(
            Check::TlsCertificate,
            tls.certificate.display(),
            error,
            remedy,
        ));
        vec![]
    });
    let now = clock::wall();
    findings.extend(chain.iter().enumerate().map(|(at, der)| certificate(der, at == 0, now)));
    if !chain.is_empty() {
        findings.push(leads(&chain, &authorities, now));
    }
    findings.extend(authorities.iter().map(|der| authority(der, now)));
    findings
}

fn certificate(der: &[u8], leaf: bool, now: UnixTime) -> Finding {
    let check = Check::TlsCertificate;
    let (_, parsed) = match X509Certificate::from_der(der) {
        Ok(parsed) => parsed,
        Err(error) => return unreadable(check, &error),
    };
    let subject = parsed.subject().to_string();
    let renew = "renew it; the files are taken over as soon as they change";
    let finding = dated(check, &subject, Validity::of_parsed(&parsed), now, renew);
    if !leaf {
        return finding;
    }
    let names = names(&parsed);
    if names.is_empty() {
        let found = format!(
            "{}; it has no DNS name and no IP address, by which clients know it",
            finding.found
        );
        return Finding::warning(check, subject, found, "issue it with subjectAltName");
    }
    Finding { found: format!("{}; for {}", finding.found, names.join(", ")), ..finding }
}

fn authority(der: &[u8], now: UnixTime) -> Finding {
    let check = Check::TlsAuthority;
    let (_, parsed) = match X509Certificate::from_der(der) {
        Ok(parsed) => parsed,
        Err(error) => return unreadable(check, &error),
    };
    let subject = parsed.subject().to_string();
    let validity = Validity::of_parsed(&parsed);
    let remedy = "replace it in tls.client_ca; what it vouches for is still let in after its end";
    dated(check, &subject, validity, now, remedy)
}

fn unreadable(check: Check, error: &impl std::fmt::Display) -> Finding {
    let found = format!("is no X.509 certificate: {error}");
    Finding::fault(check, "", found, "replace the file")
}

fn dated(check: Check, subject: &str, validity: Validity, now: UnixTime, remedy: &str) -> Finding {
    let Validity { not_before, not_after } = validity;
    let until = date(not_after);
    if now < not_before {
        let found = format!("does not hold before {}", date(not_before));
        return Finding::fault(check, subject, found, "set the clock, or take one that holds");
    }
    if now > not_after {
        return Finding::fault(check, subject, format!("has ended ({until})"), remedy);
    }
    let days = not_after.0.saturating_sub(now.0) / DAY;
    let found = format!("{days} days left (until {until})");
    if validity.ends_soon(now) {
        return Finding::warning(check, subject, found, remedy);
    }
    Finding::ok(check, subject, found)
}

/// The DNS names and IP addresses of a certificate.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return vec![] };
    let names = extension.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(v4) => Some(std::net::Ipv4Addr::from(v4).to_string()),
            Err(_) => {
                Some(std::net::Ipv6Addr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string())
            }
        },
        _ => None,
    });
    names.collect()
}

/// Where the server's chain leads. Which authorities the clients trust is not known here: the callers'
/// own is tried first, then the last certificate of the file.
fn leads(
    chain: &[CertificateDer<'_>],
    authorities: &[CertificateDer<'_>],
    now: UnixTime,
) -> Finding {
    let check = Check::TlsChain;
    let names = |der: &CertificateDer<'_>| {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        Some((parsed.subject().to_string(), parsed.issuer().to_string()))
    };
    let (leaf, rest) = chain.split_first().expect("only asked of a chain");
    if verify(leaf, rest, authorities, now).is_ok() {
        return Finding::ok(check, "", "leads to an authority of tls.client_ca");
    }
    let last = chain.last().expect("it has a first");
    let (subject, issuer) = names(last).unwrap_or_default();
    let Some((_, intermediates)) = rest.split_last() else {
        let found = if subject == issuer {
            "the certificate is its own issuer: clients have to trust this very certificate"
                .to_owned()
        } else {
            format!("the file has only the server's own certificate, issued by {issuer}")
        };
        let remedy =
            "add the certificates in between to the file, unless clients trust its issuer itself";
        return Finding::warning(check, "", found, remedy);
    };
    match verify(leaf, intermediates, std::slice::from_ref(last), now) {
        Ok(()) => Finding::ok(check, "", format!("leads to {subject}, issued by {issuer}")),
        Err(Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => Finding::fault(check, "", "one of its certificates has ended", "renew it"),
        Err(error) => Finding::fault(
            check,
            "",
            format!("the certificates of the file do not follow one another: {error}"),
            "order them: the server's own, then each one's issuer",
        ),
    }
}

fn verify(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    anchors: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(), Error> {
    let mut roots = RootCertStore::empty();
    for anchor in anchors {
        roots.add(anchor.clone().into_owned())?;
    }
    let since = std::time::Duration::from_secs(u64::try_from(now.0).unwrap_or(0));
    verify_server_cert_signed_by_trust_anchor(
        &ParsedCertificate::try_from(leaf)?,
        &roots,
        intermediates,
        pki_types::UnixTime::since_unix_epoch(since),
        aws_lc_rs::default_provider().signature_verification_algorithms.all,
    )
}

#[cfg(all(test, feature = "dev"))]
mod tests;
