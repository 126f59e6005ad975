//! The appliance refuses, is slow, or is down: the TTS says so in time, and signs nothing by itself.

use mintwarden_tests::{Appliance, ISSUER, Role, domain::Domain, eventually};
use rustix::process::Signal;
use toml::toml;

const UNAVAILABLE: (u16, &str) = (503, "temporarily_unavailable");

async fn reason(domain: &Domain) -> String {
    let answer = domain.exchange(domain.gateway(), &domain.form()).await;
    let (status, error, reason) = answer.words();
    assert_eq!((status, error), UNAVAILABLE, "{}", answer.body);
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.body.get("access_token"), None);
    // What the appliance said is for the log.
    assert!(!answer.text("error_description").contains("appliance"), "{}", answer.body);
    reason.to_owned()
}

#[tokio::test]
async fn an_appliance_that_refuses_the_claims() {
    let appliance = Appliance::softhsm()
        .with_issuer(toml! { max_token_lifetime = "30s" })
        .start_initialised()
        .await;
    let domain = Domain::around(&appliance).await;
    assert_eq!(reason(&domain).await, "APPLIANCE_REFUSED");
    assert!(domain.tts.log().contains("CLAIM_REFUSED"), "{}", domain.tts.log());
}

#[tokio::test]
async fn an_appliance_that_is_slow_and_one_that_is_down() {
    let mut appliance = Appliance::softhsm().start_initialised().await;
    let endpoint = format!("unix:{}", appliance.unix().display());
    let domain = Domain::with(&appliance, |config| {
        config["appliance"]["endpoint"] = endpoint.into();
        config.insert("sign_timeout".into(), "2s".into());
    })
    .await;
    domain.txn_token().await;

    let server = appliance.process(Role::Server);
    server.signal(Signal::STOP);
    // More than one, so that those who wait for a batch are answered in time as well.
    let answers = tokio::join!(reason(&domain), reason(&domain), reason(&domain));
    server.signal(Signal::CONT);
    assert_eq!(
        answers,
        ("APPLIANCE_SLOW".into(), "APPLIANCE_SLOW".into(), "APPLIANCE_SLOW".into())
    );
    // It comes to itself, and nobody has to do anything.
    recovered(&domain).await;

    appliance.stop().await;
    let down = reason(&domain).await;
    assert!(["APPLIANCE_DOWN", "APPLIANCE_REFUSED"].contains(&&*down), "{down}");
    appliance.start().await;
    recovered(&domain).await;
    let token = domain.txn_token().await;
    appliance.verifier(ISSUER).await.verify(&token).unwrap();
}

#[tokio::test]
async fn a_tts_that_could_not_do_its_part_does_not_start() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let domain = Domain::around(&appliance).await;
    let nowhere = "https://127.0.0.1:1/jwks.json";
    for (section, name, value, status, part) in [
        ("idp", "jwks", nowhere, 1, nowhere),
        ("idp", "jwks", "http://idp.example/jwks.json", 1, "keys are read over https"),
        ("idp", "ca", "missing.crt", 1, "missing.crt"),
        ("appliance", "issuer", "no-such-issuer", 1, "UNKNOWN_ISSUER"),
        ("appliance", "endpoint", "mintwarden", 78, "write https://HOST:PORT"),
        ("tls", "certificate", "missing.crt", 78, "missing.crt"),
    ] {
        let (code, said) = domain.refused(|config| config[section][name] = value.into()).await;
        assert_eq!(code, Some(status), "{said}");
        assert!(said.contains(part), "{said}");
    }
}

async fn recovered(domain: &Domain) {
    eventually("the TTS gives tokens again", async || {
        let answer = domain.exchange(domain.gateway(), &domain.form()).await;
        answer.status.is_success().then_some(())
    })
    .await;
}
