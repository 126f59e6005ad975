//! Chains as operators get them wrong.

use std::fs;

use mintwarden_worker::finding::Verdict;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::*;

struct Files {
    directory: tempfile::TempDir,
    root: CertifiedIssuer<'static, KeyPair>,
    between: CertifiedIssuer<'static, KeyPair>,
}

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

impl Files {
    fn new() -> Self {
        let root = CertifiedIssuer::self_signed(ca("root"), key()).expect("a root");
        let between = CertifiedIssuer::signed_by(ca("between"), key(), &root).expect("between");
        Self { directory: tempfile::tempdir().expect("a directory"), root, between }
    }

    fn leaf(&self, params: CertificateParams) -> String {
        params.signed_by(&key(), &self.between).expect("a leaf").pem()
    }

    fn localhost(&self) -> CertificateParams {
        CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).expect("names")
    }

    fn found(&self, chain: &[&str], authorities: &[&str]) -> Vec<Finding> {
        let path = |name: &str, text: &[&str]| {
            let path = self.directory.path().join(name);
            fs::write(&path, text.concat()).expect("a file");
            path
        };
        examine(&Tls {
            certificate: path("tls.crt", chain),
            private_key: path("tls.key", &[]),
            client_ca: path("ca.crt", authorities),
            trust_domain: spiffe::TrustDomain::new("trust-domain.example").expect("a domain"),
        })
    }

    fn chain(&self, chain: &[&str], authorities: &[&str]) -> (Verdict, String) {
        let found = self.found(chain, authorities);
        let found = found.into_iter().find(|f| f.check == Check::TlsChain).expect("told");
        (found.verdict, found.found)
    }
}

#[test]
fn a_chain_leads_to_the_callers_authority_or_to_its_own_end() {
    let files = Files::new();
    let (leaf, between, root) =
        (files.leaf(files.localhost()), files.between.pem(), files.root.pem());
    let other = CertifiedIssuer::self_signed(ca("other"), key()).expect("another root").pem();
    for (chain, authorities, verdict, said) in [
        (&[&*leaf, &between][..], &[&*root][..], Verdict::Ok, "tls.client_ca"),
        (&[&leaf], &[&*between], Verdict::Ok, "tls.client_ca"),
        (&[&leaf, &between], &[&*other], Verdict::Ok, "leads to CN=between, issued by CN=root"),
        (&[&leaf], &[&*root], Verdict::Warning, "only the server's own certificate"),
        (&[&leaf], &[&*other], Verdict::Warning, "issued by CN=between"),
        (&[&leaf, &other], &[&*root], Verdict::Fault, "do not follow one another"),
        (&[&leaf, &root], &[&*other], Verdict::Fault, "do not follow one another"),
    ] {
        let (found, text) = files.chain(chain, authorities);
        assert_eq!(found, verdict, "{said}: {text}");
        assert!(text.contains(said), "{said:?} is not in: {text}");
    }
}

#[test]
fn days_left_are_told_of_each_certificate() {
    let files = Files::new();
    let hour = std::time::Duration::from_secs(3600);
    let day = 24 * hour;
    let now = time::OffsetDateTime::from_unix_timestamp(clock::wall().0).expect("now");
    let dated = |from, until| {
        let mut params = files.localhost();
        (params.not_before, params.not_after) = (from, until);
        files.leaf(params)
    };
    for (leaf, verdict, said) in [
        (dated(now - 10 * day, now + 90 * day + hour), Verdict::Ok, "90 days left"),
        (dated(now - 80 * day, now + 10 * day + hour), Verdict::Warning, "10 days left"),
        (dated(now - 80 * day, now - day), Verdict::Fault, "has ended"),
        (dated(now + day, now + 80 * day), Verdict::Fault, "does not hold before"),
    ] {
        let found = files.found(&[&leaf, &files.between.pem()], &[&files.root.pem()]);
        let leaf = &found[0];
        assert_eq!((leaf.check, leaf.verdict), (Check::TlsCertificate, verdict), "{leaf:?}");
        assert!(leaf.found.contains(said), "{leaf:?}");
        assert!(leaf.verdict == Verdict::Fault || leaf.found.contains("localhost, 127.0.0.1"));
        let authority = found.last().expect("the authority comes last");
        assert_eq!((authority.check, authority.verdict), (Check::TlsAuthority, Verdict::Ok));
        assert_eq!(authority.subject, "CN=root");
    }
}

#[test]
fn a_certificate_without_a_name_and_a_file_without_a_certificate_are_told() {
    let files = Files::new();
    let nameless = files.leaf(CertificateParams::default());
    let found = files.found(&[&nameless, &files.between.pem()], &["no PEM"]);
    let told = |check| found.iter().find(|finding| finding.check == check).expect("told");
    let leaf = told(Check::TlsCertificate);
    assert_eq!(leaf.verdict, Verdict::Warning, "{leaf:?}");
    assert!(leaf.found.contains("no DNS name"), "{leaf:?}");
    let authority = told(Check::TlsAuthority);
    assert_eq!(authority.verdict, Verdict::Fault);
    assert!(authority.found.contains("holds no PEM certificate"), "{authority:?}");
}
