use mintwarden::identity::{Caller, certified};
use spiffe::TrustDomain;

/// A certificate names one caller, who is written so in a grant, or is refused with a reason.
///
/// # Panics
/// Where that does not hold.
pub fn identity(certificate: &[u8]) {
    let domain = TrustDomain::new("trust-domain.example").expect("a trust domain");
    match certified(certificate, &domain) {
        Ok(certified) => {
            let written = certified.caller.to_string();
            assert_eq!(Caller::parse(&written).as_ref(), Ok(&certified.caller), "{written}");
            match &certified.caller {
                Caller::Spiffe(id) => assert_eq!(*id.trust_domain(), domain),
                Caller::Dns(name) => assert_eq!(*name, name.to_ascii_lowercase()),
                Caller::Unix(_) => panic!("a certificate names no user"),
            }
        }
        Err(error) => assert!(!error.reason().is_empty()),
    }
}
