use std::path::Path;

use mintwarden::config::{Config, fixed};

/// A configuration is refused with file and remedy, or keeps what the rest relies on.
///
/// # Panics
/// Where that does not hold.
pub fn configuration(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    match Config::parse(text, Path::new("/nonexistent/mintwarden.toml")) {
        Ok(config) => {
            assert!(config.listen.grpc.is_some() || config.listen.unix.is_some());
            assert!(config.listen.grpc.is_none() || config.tls.is_some());
            assert!(!config.devices.is_empty());
            for issuer in &config.issuers {
                let profile = &issuer.profile;
                assert!(!issuer.devices.is_empty() && !profile.audience.is_empty());
                assert!((1..=3).contains(&issuer.standbys));
                assert!((64..=65_536).contains(&profile.max_claims_bytes));
                assert!(profile.max_token_lifetime.as_secs() > 0);
                let known = |name: &String| config.devices.iter().any(|d| d.name.as_str() == name);
                assert!(issuer.devices.iter().all(known));
            }
            for grant in &config.grants {
                let known = |name| config.issuers.iter().any(|issuer| issuer.name() == name);
                assert!(!grant.to.is_empty() && grant.issuers.iter().all(known));
            }
            let limits = &config.limits;
            assert!(limits.max_inflight_bytes >= fixed::MAX_BATCH_BYTES);
            assert!(limits.max_caller_bytes >= fixed::MAX_MESSAGE_BYTES);
            assert!(limits.default_deadline <= limits.max_deadline);
        }
        Err(error) => {
            assert!(!error.what.is_empty() && !error.remedy.is_empty());
            assert!(error.to_string().starts_with("/nonexistent/"));
        }
    }
}
