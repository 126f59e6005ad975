use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::*;

fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn sample_keysets() -> Vec<api::Keyset> {
    let key = |kid: &str, state, jwk: &str| api::Key {
        kid: kid.into(),
        device: "hsm-a".into(),
        state,
        algorithm: "ES256".into(),
        created_at: Some(time(1_700_000_000).into()),
        changed_at: None,
        jwk: jwk.into(),
        published: !jwk.is_empty(),
        mature: state == 3,
        next: if state == 3 { "deactivated".into() } else { String::new() },
        next_at: (state == 3).then(|| time(1_700_086_400).into()),
        outlook: if state == 3 { "signs; replaced in 1day".into() } else { String::new() },
        published_at: Some(time(1_700_000_001).into()),
        activated_at: (state == 3).then(|| time(1_700_000_002).into()),
        stopped_at: None,
        unpublished_at: None,
    };
    vec![
        api::Keyset {
            issuer: "payments-tts".into(),
            revision: 2,
            keys: vec![
                key("abc", 3, r#"{"kty":"EC"}"#),
                key("def", 2, r#"{"kty":"EC"}"#),
                key("", 1, ""),
            ],
        },
        api::Keyset { issuer: "other-tts".into(), revision: 0, keys: vec![] },
    ]
}

fn sample_status() -> api::Status {
    api::Status {
        version: "0.1.0".into(),
        started_at: Some(time(1_700_000_000).into()),
        issuers: vec![api::IssuerStatus {
            name: "payments-tts".into(),
            ready: false,
            reason: "NOT_INITIALISED".into(),
            revision: 0,
            published_keys: 0,
            alarms: vec!["no standby".into()],
        }],
        devices: vec![api::DeviceStatus {
            name: "hsm-a".into(),
            kind: "pkcs11".into(),
            state: 4,
            reason: "LOGIN_FAILED".into(),
            detail: "correct the PIN, then: mintwardenctl device resume hsm-a".into(),
            description: "SoftHSM v2".into(),
            sessions: 4,
            signatures_per_second: 4.25,
            starts: 1,
            last_fault: None,
        }],
        alarms: vec!["the server's certificate ends in 2days".into()],
    }
}

fn printed(print: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    print(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_json_of_keys_is_stable() {
    let text = printed(|out| keysets(out, Format::Json, sample_keysets()));
    let created = "2023-11-14T22:13:20Z";
    let key = |kid, state: &str, jwk| {
        json!({
            "kid": kid, "device": "hsm-a", "state": state, "algorithm": "ES256",
            "created_at": created, "changed_at": null, "jwk": jwk,
            "published": state != "generating", "mature": state == "active",
            "next": (state == "active").then_some("deactivated"),
            "next_at": (state == "active").then_some("2023-11-15T22:13:20Z"),
            "outlook": (state == "active").then_some("signs; replaced in 1day"),
            "published_at": "2023-11-14T22:13:21Z",
            "activated_at": (state == "active").then_some("2023-11-14T22:13:22Z"),
            "stopped_at": null, "unpublished_at": null,
        })
    };
    let keys = json!([
        key(json!("abc"), "active", json!({"kty": "EC"})),
        key(json!("def"), "pre-active", json!({"kty": "EC"})),
        key(Value::Null, "generating", Value::Null),
    ]);
    assert_eq!(
        parsed(&text),
        json!({"keysets": [
            {"issuer": "payments-tts", "revision": 2, "keys": keys},
            {"issuer": "other-tts", "revision": 0, "keys": []},
        ]})
    );
}

#[test]
fn one_key_is_shown_with_its_history() {
    let sample = || api::GetKeyResponse {
        issuer: "payments-tts".into(),
        revision: 2,
        key: Some(sample_keysets().remove(0).keys.remove(0)),
    };
    let text = printed(|out| key(out, Format::Table, sample()));
    for line in ["kid             abc", "activated       2023-11-14T22:13:22Z", "stopped         -"]
    {
        assert!(text.lines().any(|shown| shown == line), "{line} is not in: {text}");
    }
    let shown = parsed(&printed(|out| key(out, Format::Json, sample())));
    let list = parsed(&printed(|out| keysets(out, Format::Json, sample_keysets())));
    assert_eq!(shown["key"], list["keysets"][0]["keys"][0], "the same shape");
    assert_eq!((&shown["issuer"], &shown["revision"]), (&json!("payments-tts"), &json!(2)));
}

#[test]
fn the_json_of_status_is_stable() {
    let text = printed(|out| status(out, Format::Json, sample_status()));
    assert_eq!(
        parsed(&text),
        json!({
            "version": "0.1.0",
            "started_at": "2023-11-14T22:13:20Z",
            "issuers": [{
                "name": "payments-tts", "ready": false, "reason": "NOT_INITIALISED",
                "revision": 0, "published_keys": 0, "alarms": ["no standby"],
            }],
            "devices": [{
                "name": "hsm-a", "kind": "pkcs11", "state": "parked", "reason": "LOGIN_FAILED",
                "detail": "correct the PIN, then: mintwardenctl device resume hsm-a",
                "description": "SoftHSM v2", "sessions": 4, "signatures_per_second": 4.25, "starts": 1,
                "last_fault": null,
            }],
            "alarms": ["the server's certificate ends in 2days"],
        })
    );
}

#[test]
fn tables_have_a_row_for_each_key() {
    let text = printed(|out| keysets(out, Format::Table, sample_keysets()));
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 5, "{text}");
    assert!(lines[0].contains("ISSUER") && lines[0].contains("KID"));
    assert!(lines[2].contains("pre-active") && lines[2].contains("def"));
    assert!(lines[4].contains("other-tts") && lines[4].contains("init"));
    assert!(lines.iter().all(|line| !line.ends_with(' ')));
}

#[test]
fn the_status_table_says_what_to_do() {
    let text = printed(|out| status(out, Format::Table, sample_status()));
    assert!(text.contains("NOT_INITIALISED") && text.contains("parked"), "{text}");
    assert!(text.contains("appliance: the server's certificate ends in 2days"));
    assert!(text.contains("payments-tts: no standby"));
    assert!(text.contains("hsm-a: correct the PIN, then: mintwardenctl device resume hsm-a"));
}

fn sample_proposal() -> api::Proposal {
    let person =
        |name: &str| api::Person { name: name.into(), identity: format!("{name}.example") };
    api::Proposal {
        id: "0123456789abcdef0123456789abcdef".into(),
        issuer: "payments-tts".into(),
        act: Some(api::Act {
            name: "revoke".into(),
            kid: "abc".into(),
            fallback: 2,
            ..api::Act::default()
        }),
        reason: "found on a laptop".into(),
        state: 1,
        proposed_by: Some(person("ada")),
        proposed_at: Some(time(1_700_000_000).into()),
        expires_at: Some(time(1_700_086_400).into()),
        approvals: vec![api::Approval {
            by: Some(person("ada")),
            at: Some(time(1_700_000_000).into()),
            reason: String::new(),
            counts: true,
        }],
        needed: 2,
        counted: 1,
        ..api::Proposal::default()
    }
}

#[test]
fn the_json_of_an_act_that_waits_is_stable() {
    let keyset = api::Keyset { issuer: "payments-tts".into(), ..api::Keyset::default() };
    let response = api::ActResponse { keyset: Some(keyset), proposal: Some(sample_proposal()) };
    let text = printed(|out| acted(out, Format::Json, response.clone()));
    let ada = json!({"name": "ada", "identity": "ada.example"});
    assert_eq!(
        parsed(&text),
        json!({
            "keysets": [{"issuer": "payments-tts", "revision": 0, "keys": []}],
            "proposal": {
                "id": "0123456789abcdef0123456789abcdef",
                "issuer": "payments-tts",
                "state": "open",
                "act": {
                    "name": "revoke", "kid": "abc", "device": null, "danger_immature": false,
                    "fallback": "wait",
                },
                "reason": "found on a laptop",
                "proposed_by": ada,
                "proposed_at": "2023-11-14T22:13:20Z",
                "expires_at": "2023-11-15T22:13:20Z",
                "needed": 2,
                "counted": 1,
                "approvals": [
                    {"by": ada, "at": "2023-11-14T22:13:20Z", "reason": null, "counts": true},
                ],
                "closed_at": null,
                "ending": null,
            },
        })
    );
    let words = printed(|out| acted(out, Format::Table, response));
    for part in [
        "Not done yet: revoke abc; nothing signs in its device until a standby is mature, of",
        "1 of 2 persons have agreed",
        "mintwardenctl proposals approve 0123456789abcdef0123456789abcdef --issuer payments-tts",
    ] {
        assert!(words.contains(part), "{part:?} is not in: {words}");
    }
}

#[test]
fn the_record_is_shown_with_the_newest_at_the_end() {
    let entry = |sequence, kind: &str, what: &str| api::RecordEntry {
        sequence,
        at: Some(time(1_700_000_000).into()),
        kind: kind.into(),
        what: what.into(),
        keys: vec!["abc".into()],
        outcome: if kind == "refused" { "NO_GRANT".into() } else { String::new() },
        left_out: if kind == "refused" { 7 } else { 0 },
        ..api::RecordEntry::default()
    };
    let entries = vec![entry(9, "refused", "revoke"), entry(8, "stepped", "rotate")];
    let response = api::ListActsResponse { entries, next_before: 8 };
    let text = printed(|out| acts(out, Format::Table, response.clone()));
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[1].contains("2023-11-14T22:13:20.000Z") && lines[1].contains("rotate abc"));
    assert!(lines[2].contains("NO_GRANT (7 more before it)"), "{text}");
    assert_eq!(lines.last(), Some(&"older: --before 8"));
    let json = parsed(&printed(|out| acts(out, Format::Json, response)));
    assert_eq!((&json["entries"][0]["sequence"], &json["next_before"]), (&9.into(), &8.into()));
}
