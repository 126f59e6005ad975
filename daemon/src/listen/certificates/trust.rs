//! How long a peer's certificate chain is trusted: checked again for as long as its connection lasts.

use std::{sync::Arc, time::Duration};

use rustls::{
    CertificateError, Error,
    pki_types::{self, CertificateDer},
};
use tokio::sync::watch;

use super::Certificates;
use crate::{
    clock::{self, UnixTime},
    listen::causes::End,
};

/// A chain is checked again at least so often: the wall clock may be set, an intermediate may end.
const CHECK_EVERY: u64 = 60;

/// The chain of a peer that was let in.
pub(in crate::listen) struct PeerTrust {
    chain: Vec<CertificateDer<'static>>,
    /// When its first certificate ends, where that is known.
    until: Option<UnixTime>,
    /// From before the handshake on: a change during it is noticed right after it.
    certificates: watch::Receiver<Arc<Certificates>>,
}

impl PeerTrust {
    pub(in crate::listen) fn new(
        chain: Vec<CertificateDer<'static>>,
        until: Option<UnixTime>,
        certificates: watch::Receiver<Arc<Certificates>>,
    ) -> Self {
        Self { chain, until, certificates }
    }

    /// Waits until the chain would not be let in any more.
    pub(in crate::listen) async fn lost(mut self) -> End {
        loop {
            let now = clock::wall();
            if let Err(end) = self.check(now) {
                return end;
            }
            let left = self.until.map_or(CHECK_EVERY, |until| {
                u64::try_from(until.0 - now.0).unwrap_or(0).saturating_add(1).min(CHECK_EVERY)
            });
            let changed = async {
                if self.certificates.changed().await.is_err() {
                    std::future::pending::<()>().await; // Nobody changes them any more.
                }
            };
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(left)) => {}
                () = changed => {}
            }
        }
    }

    fn check(&mut self, now: UnixTime) -> Result<(), End> {
        // Its last second included, as at the handshake (RFC 5280 section 4.1.2.5): whoever is put out is not let
        // in again.
        if self.until.is_some_and(|until| until < now) {
            return Err(End::CertificateExpired);
        }
        let Some((leaf, intermediates)) = self.chain.split_first() else {
            return Err(End::AuthorityGone);
        };
        let at = Duration::from_secs(u64::try_from(now.0).unwrap_or(0));
        let at = pki_types::UnixTime::since_unix_epoch(at);
        let verifier = Arc::clone(&self.certificates.borrow_and_update().verifier);
        match verifier.verify_client_cert(leaf, intermediates, at) {
            Ok(_) => Ok(()),
            Err(Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            )) => Err(End::CertificateExpired),
            Err(_) => Err(End::AuthorityGone),
        }
    }
}
