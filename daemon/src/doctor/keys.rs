//! Records against objects (I7), and what follows for each issuer.

use std::collections::BTreeSet;

use mintwarden_worker::finding::{Check, Finding, Verdict};

use super::account::{DeviceAccount, IssuerAccount, KeyObject, KeyRecord, KeysetAccount};
use crate::keyset::KeyState;

/// What there is to say about all recorded keys and all objects of ours.
pub(super) fn examine(issuers: &[IssuerAccount], devices: &[DeviceAccount]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut known = BTreeSet::new();
    for account in issuers {
        let Some(keyset) = &account.keyset else {
            findings.push(not_initialised(&account.issuer));
            continue;
        };
        let mut signing = false;
        for record in &keyset.keys {
            known.insert((record.device.as_str(), record.handle.as_str()));
            let finding = recorded(&account.issuer, record, devices);
            let good = finding.verdict <= Verdict::Warning;
            signing |= good && record.state == KeyState::Active && is_there(record, devices);
            findings.push(finding);
        }
        findings.push(signs(account, keyset, signing));
        for left in &keyset.leftovers {
            known.insert((&left.device, &left.handle));
            let object = object(devices, &left.device, &left.handle);
            let there = match object {
                Some(Some(_)) => "the device shows an object of it",
                Some(None) => "the device shows nothing of it",
                None => "the device was not asked",
            };
            findings.push(Finding::warning(
                Check::KeyLeftover,
                format!("{} in {}", left.handle, left.device),
                format!("an attempt at a key was given up: {}; {there}", left.reason),
                "Mintwarden never deletes it (I7); it is never used",
            ));
        }
    }
    for device in devices {
        let strays = device.keys.iter().flatten();
        let strays = strays.filter(|key| !known.contains(&(&*device.device, &*key.handle)));
        findings.extend(strays.map(|key| stray(&device.device, key)));
    }
    findings
}

fn not_initialised(issuer: &str) -> Finding {
    Finding::warning(
        Check::IssuerSigns,
        issuer,
        "nothing was ever published: it signs nothing",
        format!("a custodian says `mintwardenctl init {issuer}`"),
    )
}

/// The object in a device; the outer `None` where the device could not be asked.
fn object<'a>(
    devices: &'a [DeviceAccount],
    device: &str,
    handle: &str,
) -> Option<Option<&'a KeyObject>> {
    let keys = devices.iter().find(|account| account.device == device)?.keys.as_ref()?;
    Some(keys.iter().find(|key| key.handle == handle))
}

fn is_there(record: &KeyRecord, devices: &[DeviceAccount]) -> bool {
    matches!(object(devices, &record.device, &record.handle), Some(Some(_)))
}

fn recorded(issuer: &str, record: &KeyRecord, devices: &[DeviceAccount]) -> Finding {
    let check = Check::KeyRecorded;
    let state = serde_json::to_value(record.state).unwrap_or_default();
    let state = state.as_str().unwrap_or_default();
    let name = record.kid.as_deref().unwrap_or(&record.handle);
    let subject = format!("{name} of {issuer} in {}", record.device);
    if !devices.iter().any(|account| account.device == record.device) {
        let found = format!("{state}, and the configuration has no such device");
        let remedy = "put the [[device]] back: the keyset still needs it";
        return Finding::fault(check, subject, found, remedy);
    }
    let Some(object) = object(devices, &record.device, &record.handle) else {
        let found = format!("{state}; its device could not be asked");
        return Finding::skipped(check, subject, found, "");
    };
    let Some(object) = object else {
        if record.state == KeyState::Generating {
            let found = "an attempt at a key is under way, and the device shows nothing of it yet";
            return Finding::warning(check, subject, found, "it goes on by itself; look again");
        }
        return Finding::fault(
            check,
            subject,
            format!("{state}, but the device shows no object with its handle {}", record.handle),
            "find out who deleted it, or whether this is another PKCS#11 token; the record stays (I7), \
             a key that is gone cannot come back",
        );
    };
    let mut problems = object.defects.clone();
    if object.issuer.as_deref() != Some(issuer) {
        problems.push("its label names another issuer (I3)".to_owned());
    }
    if record.kid.is_some() && record.kid != object.kid {
        problems.push("its public key is not the recorded one".to_owned());
    }
    if problems.is_empty() && !object.unproven.is_empty() {
        return Finding::warning(
            check,
            subject,
            format!(
                "{state}; the device does not prove everything (I1): {}",
                object.unproven.join("; ")
            ),
            "its quirks excuse that: make sure of it by the vendor's own tools",
        );
    }
    if problems.is_empty() {
        let found = format!("{state}; made inside, sensitive, never extractable");
        return Finding::ok(check, subject, found);
    }
    Finding::fault(
        check,
        subject,
        format!("{state}; it must not be used (I1): {}", problems.join("; ")),
        "it is not used; replace it, and find out how it came to be so",
    )
}

fn signs(account: &IssuerAccount, keyset: &KeysetAccount, signing: bool) -> Finding {
    let issuer = &account.issuer;
    if keyset.restored {
        return Finding::fault(
            Check::IssuerSigns,
            issuer,
            "its store was put back from a copy: it signs and publishes nothing",
            format!("a custodian says `mintwardenctl recover {issuer}`"),
        );
    }
    if account.jwks.is_none() {
        return Finding::warning(
            Check::IssuerSigns,
            issuer,
            "its first keys are still being made",
            "it goes on by itself once its devices can be used; then nothing is to do",
        );
    }
    let revision = keyset.revision;
    if signing {
        let found = format!("an active key is usable; keyset revision {revision}");
        return Finding::ok(Check::IssuerSigns, issuer, found);
    }
    Finding::fault(
        Check::IssuerSigns,
        issuer,
        format!("no active key can be used now; keyset revision {revision}"),
        "mend what is said of its devices and keys",
    )
}

fn stray(device: &str, key: &KeyObject) -> Finding {
    let issuer =
        key.issuer.as_deref().map_or_else(|| "no issuer".to_owned(), |i| format!("issuer {i}"));
    let defects = if key.defects.is_empty() {
        String::new()
    } else {
        format!(" ({})", key.defects.join("; "))
    };
    Finding::warning(
        Check::KeyStray,
        format!("{} in {device}", key.handle),
        format!("an object for {issuer} that no record names{defects}"),
        "it is never used and never deleted by Mintwarden (I7): find out whose it is; after a restored \
         store it may be a key that verifiers still trust",
    )
}

#[cfg(test)]
mod tests {
    use super::{
        super::account::{JwksAccount, LeftoverRecord},
        *,
    };

    fn record(handle: &str, state: KeyState) -> KeyRecord {
        let kid = (state != KeyState::Generating).then(|| format!("kid-{handle}"));
        KeyRecord { device: "hsm-a".into(), handle: handle.into(), state, kid, kept: None }
    }

    fn issuer(keys: Vec<KeyRecord>) -> IssuerAccount {
        let leftovers = vec![LeftoverRecord {
            device: "hsm-a".into(),
            handle: "99".into(),
            reason: "half a pair".into(),
        }];
        IssuerAccount {
            issuer: "payments".into(),
            keyset: Some(KeysetAccount { revision: 7, restored: false, keys, leftovers }),
            jwks: Some(JwksAccount { revision: 7, etag: String::new(), max_age: 600 }),
        }
    }

    fn object(handle: &str) -> KeyObject {
        KeyObject {
            handle: handle.into(),
            issuer: Some("payments".into()),
            kid: Some(format!("kid-{handle}")),
            defects: vec![],
            unproven: vec![],
        }
    }

    fn device(keys: Option<Vec<KeyObject>>) -> DeviceAccount {
        DeviceAccount { device: "hsm-a".into(), findings: vec![], keys }
    }

    fn verdicts(keys: Vec<KeyRecord>, device: DeviceAccount) -> Vec<(Check, Verdict)> {
        let found = examine(&[issuer(keys)], &[device]);
        found.into_iter().map(|finding| (finding.check, finding.verdict)).collect()
    }

    #[test]
    fn i7_records_and_objects_are_held_against_each_other() {
        let keys = || vec![record("01", KeyState::Active), record("02", KeyState::PreActive)];
        let objects = vec![object("01"), object("03")];
        assert_eq!(
            verdicts(keys(), device(Some(objects))),
            [
                (Check::KeyRecorded, Verdict::Ok),
                (Check::KeyRecorded, Verdict::Fault),
                (Check::IssuerSigns, Verdict::Ok),
                (Check::KeyLeftover, Verdict::Warning),
                (Check::KeyStray, Verdict::Warning),
            ]
        );
        // The leftover's own object is no stray; the active key is gone.
        assert_eq!(
            verdicts(keys(), device(Some(vec![object("02"), object("99")]))),
            [
                (Check::KeyRecorded, Verdict::Fault),
                (Check::KeyRecorded, Verdict::Ok),
                (Check::IssuerSigns, Verdict::Fault),
                (Check::KeyLeftover, Verdict::Warning),
            ]
        );
        let unasked = verdicts(keys(), device(None));
        assert_eq!(unasked[..2], [(Check::KeyRecorded, Verdict::Skipped); 2]);
        assert_eq!(unasked[2], (Check::IssuerSigns, Verdict::Fault));
    }

    #[test]
    fn i1_i3_a_key_that_is_not_what_was_recorded_is_a_fault() {
        let keys = || vec![record("01", KeyState::Active)];
        let good = object("01");
        for bad in [
            KeyObject { defects: vec!["CKA_EXTRACTABLE is true".into()], ..good.clone() },
            KeyObject { issuer: Some("other".into()), ..good.clone() },
            KeyObject { issuer: None, ..good.clone() },
            KeyObject { kid: Some("kid-02".into()), ..good.clone() },
            KeyObject { kid: None, ..good },
        ] {
            let found = verdicts(keys(), device(Some(vec![bad])));
            assert_eq!(found[0], (Check::KeyRecorded, Verdict::Fault));
            assert_eq!(found[1], (Check::IssuerSigns, Verdict::Fault));
        }
    }

    #[test]
    fn what_a_quirk_excuses_is_told() {
        let unproven = vec!["private half: CKA_LOCAL is not shown by the device".to_owned()];
        let key = KeyObject { unproven, ..object("01") };
        let found = verdicts(vec![record("01", KeyState::Active)], device(Some(vec![key])));
        assert_eq!(found[0], (Check::KeyRecorded, Verdict::Warning));
        assert_eq!(found[1], (Check::IssuerSigns, Verdict::Ok));
    }

    #[test]
    fn a_record_of_a_device_that_is_not_configured_is_a_fault() {
        let elsewhere = KeyRecord { device: "hsm-b".into(), ..record("01", KeyState::Active) };
        let found = examine(&[issuer(vec![elsewhere])], &[device(Some(vec![]))]);
        assert_eq!(found[0].verdict, Verdict::Fault);
        assert!(found[0].found.contains("no such device"), "{:?}", found[0]);
    }
}
