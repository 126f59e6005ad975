//! The certificates in use.

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::{Labels, gauges};
use crate::listen::LiveCertificates;

#[derive(Debug)]
pub(super) struct Files {
    pub(super) certificates: LiveCertificates,
}

impl Collector for Files {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let now = self.certificates.now();
        let ends = [("server", now.server_until()), ("client_ca", now.authorities_until())];
        gauges(
            &mut encoder,
            "certificate_not_after_timestamp_seconds",
            "When a certificate ends: the server's, and of the callers' authorities the first",
            ends.map(|(which, end)| -> (Labels, i64) {
                (vec![("certificate", which.to_owned())], end.0)
            }),
        )?;
        gauges(
            &mut encoder,
            "certificate_files_usable",
            "1 while the certificate files can be used; 0 while older certificates are in use because they cannot",
            [(Labels::new(), i64::from(self.certificates.problem().is_none()))],
        )
    }
}
