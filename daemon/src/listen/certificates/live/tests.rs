//! Files that change, look by look.

use std::fs;

use rcgen::CertificateParams;
use tempfile::TempDir;

use super::*;
use crate::{
    dev::pki::{Identity, Pki},
    keyset::steward::Serving,
};

const DAY: i64 = 24 * 3600;

struct Files {
    directory: TempDir,
    pki: Pki,
    tls: Tls,
}

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let pki = Pki::new(directory.path()).expect("an authority");
        let Identity { certificate, private_key } = pki.server("server", &[]).expect("a server's");
        let trust_domain = spiffe::TrustDomain::new("trust-domain.example").expect("a domain");
        let tls = Tls { certificate, private_key, client_ca: pki.ca(), trust_domain };
        Self { directory, pki, tls }
    }

    fn watched(&self) -> (LiveCertificates, Watcher) {
        let first = Certificates::load(&self.tls).expect("good files");
        let metrics = crate::telemetry::metrics::example().certificates.clone();
        LiveCertificates::watched(self.tls.clone(), first, metrics)
    }

    /// A server's certificate that holds between these times.
    fn dated(&self, from: i64, until: i64) -> Identity {
        let mut params = CertificateParams::new(vec!["localhost".into()]).expect("a DNS name");
        let time = |at| time::OffsetDateTime::from_unix_timestamp(at).expect("a time");
        (params.not_before, params.not_after) = (time(from), time(until));
        self.pki.issue("dated", params).expect("a certificate")
    }

    fn install(&self, identity: &Identity) {
        fs::copy(&identity.certificate, &self.tls.certificate).expect("a copy");
        fs::copy(&identity.private_key, &self.tls.private_key).expect("a copy");
    }
}

/// Looks until everything that stands still has been judged.
fn settle(watcher: &mut Watcher) {
    (0..3).for_each(|_| watcher.look(clock::wall()));
}

#[test]
fn what_has_changed_is_taken_once_it_stands_still() {
    let files = Files::new();
    let (live, mut watcher) = files.watched();
    settle(&mut watcher);
    let first = live.now();
    files.install(&files.pki.server("next", &[]).expect("a certificate"));
    watcher.look(clock::wall());
    assert!(Arc::ptr_eq(&first, &live.now()), "it is not read while it may still be written");
    watcher.look(clock::wall());
    assert!(!live.now().same_as(&first));
    assert_eq!(live.alarms(), [""; 0]);
}

#[test]
fn i4_nobody_is_served_under_a_certificate_that_does_not_hold() {
    let files = Files::new();
    let now = clock::wall().0;
    files.install(&files.dated(now - DAY, now + DAY));
    let (live, _watcher) = files.watched();
    let serving = Serving::by(Some(live));
    let served = |at: i64| serving.at(UnixTime(at));
    assert!(!served(now), "no listener accepts");
    serving.set(true);
    assert!(served(now) && served(now - DAY) && served(now + DAY));
    assert!(!served(now + DAY + 1) && !served(now - DAY - 1));
    let plain = Serving::by(None);
    plain.set(true);
    assert!(plain.at(UnixTime(now + DAY + 1)), "no certificate is needed");
    files.install(&files.dated(now + DAY, now + 2 * DAY));
    let (early, _watcher) = files.watched();
    assert!(early.alarms()[0].contains("not valid yet"), "{:?}", early.alarms());
}

#[test]
fn the_same_content_written_anew_is_no_other_certificate() {
    let files = Files::new();
    let (live, mut watcher) = files.watched();
    settle(&mut watcher);
    let first = live.now();
    let content = fs::read(&files.tls.certificate).expect("the file");
    fs::remove_file(&files.tls.certificate).expect("the file");
    fs::write(&files.tls.certificate, content).expect("the file");
    settle(&mut watcher);
    assert!(Arc::ptr_eq(&first, &live.now()));
}

#[test]
fn files_that_cannot_be_used_change_nothing_and_are_an_alarm_until_they_can() {
    let files = Files::new();
    let (live, mut watcher) = files.watched();
    settle(&mut watcher);
    let first = live.now();
    let next = files.pki.server("next", &[]).expect("a certificate");
    let whole = fs::read(&next.certificate).expect("the file");
    let (now, tls) = (clock::wall().0, &files.tls);
    let write = |path, content: &[u8]| fs::write(path, content).expect("written");
    let cases: [(&str, &str, &dyn Fn()); 7] = [
        ("tls.certificate", "section end", &|| write(&tls.certificate, &whole[..whole.len() / 2])),
        ("tls.certificate", "holds no PEM certificate", &|| write(&tls.certificate, b"")),
        ("tls.private_key", "does not fit", &|| write(&tls.certificate, &whole)),
        ("tls.private_key", "cannot be read", &|| {
            fs::remove_file(&tls.private_key).expect("it is there");
        }),
        ("tls.certificate", "has ended", &|| files.install(&files.dated(now - 2 * DAY, now - DAY))),
        ("tls.certificate", "not valid yet", &|| {
            files.install(&files.dated(now + DAY, now + 2 * DAY));
        }),
        ("tls.client_ca", "holds no PEM certificate", &|| {
            files.install(&next);
            write(&tls.client_ca, b"soon");
        }),
    ];
    for (key, what, spoil) in cases {
        spoil();
        settle(&mut watcher);
        let problem = live.problem().unwrap_or_else(|| panic!("{what}: taken"));
        let text = problem.to_string();
        assert!(text.starts_with(key) && text.contains(what), "{what}: {text}");
        assert!(live.alarms()[0].contains(&text), "{:?}", live.alarms());
        assert!(Arc::ptr_eq(&first, &live.now()), "{what}: all three or none");
    }
    fs::remove_file(&tls.client_ca).expect("it is there");
    let other = files.directory.path().join("other");
    fs::create_dir(&other).expect("a directory");
    fs::copy(Pki::new(&other).expect("an authority").ca(), &tls.client_ca).expect("a copy");
    settle(&mut watcher);
    assert_eq!(live.alarms(), [""; 0]);
    assert!(!live.now().same_as(&first));
}

#[test]
fn the_servers_certificate_is_an_alarm_before_it_ends() {
    let files = Files::new();
    let now = clock::wall().0;
    // Long-lived: from a fortnight on. Short-lived: from the last fifth on.
    for (from, until, words) in [
        (now - 300 * DAY, now + 15 * DAY, None),
        (now - 300 * DAY, now + 13 * DAY, Some("ends in 1")),
        (now - 1800, now + 1800, None),
        (now - 3000, now + 600, Some("ends in ")),
        (now - 3600, now - 1, Some("has ended")),
    ] {
        files.install(&files.dated(from, until));
        let alarm = Certificates::load(&files.tls).expect("good files").ends_soon(clock::wall());
        match (&alarm, words) {
            (None, None) => {}
            (Some(alarm), Some(words)) => assert!(alarm.contains(words), "{alarm}"),
            _ => panic!("{until}: {alarm:?}"),
        }
    }
}
