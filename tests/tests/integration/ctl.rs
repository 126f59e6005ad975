//! `mintwardenctl` against a real appliance.

use mintwarden_tests::{Appliance, DEVICE, ISSUER, claims};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A key as `--json` has it, without what changes with time.
fn lasting(key: &Value) -> Value {
    let mut key = key.clone();
    for changes in ["outlook", "next_at"] {
        assert!(key.as_object_mut().unwrap().remove(changes).is_some(), "{key}");
    }
    key
}

/// All keys of the first issuer.
fn keys(keysets: &Value) -> Vec<Value> {
    keysets["keysets"][0]["keys"].as_array().unwrap().iter().map(lasting).collect()
}

#[tokio::test]
async fn an_issuer_is_initialised_looked_at_and_used() {
    let appliance = Appliance::softhsm().start().await;
    let before = appliance.ctl(["keys", "list"]).run().await.success();
    assert!(before.contains("mintwardenctl init"), "{before}");
    let jwks = appliance.ctl(["jwks", "--issuer", ISSUER]).run().await;
    assert_eq!(jwks.code, Some(1));
    assert!(jwks.stderr.contains("NOT_INITIALISED"), "{}", jwks.stderr);

    let init = appliance.ctl(["init", ISSUER, "--reason", "first keys", "--json"]).run().await;
    let init = json(&init.success());
    let kid = init["keysets"][0]["keys"][0]["kid"].as_str().unwrap().to_owned();
    assert_eq!(init["keysets"][0]["keys"][0]["state"], "active");
    let again = appliance.ctl(["init", ISSUER]).run().await;
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("ALREADY_INITIALISED"), "{}", again.stderr);

    let list = appliance.ctl(["keys", "list", "--json"]).run().await.success();
    let list = json(&list);
    assert_eq!(keys(&list), keys(&init));
    assert_eq!(list["keysets"][0]["revision"], init["keysets"][0]["revision"]);
    let table = appliance.ctl(["keys", "list", "--issuer", ISSUER]).run().await.success();
    for word in ["STATE", "active", "pre-active", &kid, DEVICE, "ES256"] {
        assert!(table.contains(word), "{word} is not in: {table}");
    }
    let set = appliance.ctl(["jwks", "--issuer", ISSUER]).run().await.success();
    let served = appliance.https().get(appliance.jwks_url(ISSUER)).send().await.unwrap();
    assert_eq!(set.trim_end(), served.text().await.unwrap());

    let status = json(&appliance.ctl(["status", "--json"]).run().await.success());
    assert_eq!(status["issuers"][0]["ready"], true, "{status}");
    assert_eq!(status["devices"][0]["state"], "ready", "{status}");
    assert_eq!(status["devices"][0]["sessions"], 4, "{status}");
    let table = appliance.ctl(["status"]).run().await.success();
    for word in ["payments-tts", "yes", "hsm-a", "ready", "SoftHSM"] {
        assert!(table.contains(word), "{word} is not in: {table}");
    }
}

#[tokio::test]
async fn lines_are_signed_in_order_and_those_that_are_not_are_named() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let verifier = appliance.verifier(ISSUER).await;
    let line = |claims: mintwarden_client::TxnClaims| {
        String::from_utf8(claims.to_json().to_vec()).unwrap()
    };
    let mut lines: Vec<_> = (0..200).map(|n| line(claims::trade(n))).collect();
    lines[41] = line(claims::too_long(41));
    lines[99] = "{".into();
    lines[120] = String::new();
    let sign = || appliance.ctl(["sign", "--issuer", ISSUER]).input(lines.join("\n") + "\n");
    for call in [sign().identity(appliance.tts()), sign().over_unix(&appliance.unix())] {
        let said = call.run().await;
        assert_eq!(said.code, Some(1), "{}", said.stderr);
        let tokens: Vec<_> = said.stdout.lines().collect();
        let good: Vec<_> =
            lines.iter().enumerate().filter(|(at, _)| ![41, 99, 120].contains(at)).collect();
        assert_eq!(tokens.len(), good.len());
        for (token, (_, line)) in tokens.iter().zip(good) {
            assert_eq!(verifier.verify(token).unwrap().payload, line.as_bytes());
        }
        let errors: Vec<_> = said.stderr.lines().map(json).collect();
        let numbers: Vec<_> = errors.iter().map(|error| error["line"].as_u64().unwrap()).collect();
        assert_eq!(numbers, [42, 100, 121], "counted from 1");
        assert_eq!((&errors[0]["claim"], &errors[0]["rule"]), (&"exp".into(), &"lifetime".into()));
        assert_eq!(errors[1]["reason"], "PAYLOAD_MALFORMED");
        assert_eq!(errors[2]["reason"], "LINE_EMPTY");
    }
    let all = appliance.ctl(["sign", "--issuer", ISSUER]).identity(appliance.tts());
    assert_eq!(all.input(lines[0].clone()).run().await.code, Some(0));
}

#[tokio::test]
async fn who_may_not_and_what_cannot_be_reached_have_their_own_exit_codes() {
    let mut appliance = Appliance::softhsm().start_initialised().await;
    let sign = appliance.ctl(["sign", "--issuer", ISSUER]).input("{}\n").run().await;
    assert_eq!(sign.code, Some(1), "Ada is no signer");
    assert_eq!(json(sign.stderr.trim())["reason"], "NO_GRANT");
    let status = appliance.ctl(["status"]);
    appliance.stop().await;
    let status = status.run().await;
    assert_eq!(status.code, Some(69), "{}", status.stderr);
    assert!(status.stderr.contains("127.0.0.1"), "{}", status.stderr);
}

#[tokio::test]
async fn a_custodian_acts_on_keys_by_the_beginning_of_their_kid() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let list = json(&appliance.ctl(["keys", "list", "--json"]).run().await.success());
    let kid = |at: usize| list["keysets"][0]["keys"][at]["kid"].as_str().unwrap().to_owned();
    let (active, standby) = (kid(0), kid(1));

    let shown = appliance.ctl(["keys", "show", &active[..8], "--json"]).run().await.success();
    assert_eq!(lasting(&json(&shown)["key"]), keys(&list)[0]);
    let words = appliance.ctl(["keys", "show", &active]).run().await.success();
    for word in [&active, ISSUER, DEVICE, "ES256", "old; replaced in", "activated       20"] {
        assert!(words.contains(word), "{word} is not in: {words}");
    }
    let suspend = ["keys", "suspend", &active[..10], "--reason", "a look at the log", "--json"];
    let suspended = json(&appliance.ctl(suspend).run().await.success());
    assert_eq!(suspended["keysets"][0]["keys"][0]["state"], "suspended", "{suspended}");
    let table = appliance.ctl(["keys", "resume", &active[..10]]).run().await.success();
    assert!(table.contains("active"), "{table}");

    let young = appliance.ctl(["keys", "activate", &standby]).run().await;
    assert_eq!(young.code, Some(1));
    for word in ["IMMATURE", "another 1h", "--immature"] {
        assert!(young.stderr.contains(word), "{word} is not in: {}", young.stderr);
    }
    let revoke = appliance.ctl(["keys", "revoke", &active, "--issuer", ISSUER]).run().await;
    assert_eq!(revoke.code, Some(1));
    for word in ["NO_MATURE_STANDBY", "mature in 1h", "--activate-immature", "--wait"] {
        assert!(revoke.stderr.contains(word), "{word} is not in: {}", revoke.stderr);
    }
    let revoke = ["keys", "revoke", &active, "--activate-immature", "--reason", "lost", "--json"];
    let revoked = json(&appliance.ctl(revoke).run().await.success());
    assert_eq!(revoked["keysets"][0]["keys"][0]["kid"], standby.as_str(), "{revoked}");

    let none = appliance.ctl(["keys", "show", "no-such-key"]).run().await;
    assert_eq!((none.code, none.stderr.contains("keys list")), (Some(1), true));
    let short = appliance.ctl(["keys", "revoke", &standby[..7], "--wait"]).run().await;
    assert_eq!(short.code, Some(2), "{}", short.stderr);
    let recover = appliance.ctl(["recover", ISSUER]).run().await;
    assert!(recover.stderr.contains("NOTHING_TO_RECOVER"), "{}", recover.stderr);
    let rotate = appliance.ctl(["keys", "rotate", ISSUER, "--device", "hsm-z"]).run().await;
    assert!(rotate.stderr.contains("NO_ACTIVE_KEY"), "{}", rotate.stderr);
    appliance.ctl(["keys", "rotate", ISSUER, "--device", DEVICE]).run().await.success();
}
