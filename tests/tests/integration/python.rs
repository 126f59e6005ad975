//! The Python example against a real appliance, and against the test vectors.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use mintwarden_tests::{
    Appliance, ISSUER, PATIENCE, TRUST_DOMAIN, claims,
    domain::{AUDIENCE, Domain, Form},
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

/// The interpreter of the virtual environment that `scripts/setup.sh python` makes.
fn interpreter() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let found = own.ancestors().map(|directory| directory.join("python/bin/python"));
    let mut found = found.filter(|path| path.is_file());
    found.next().expect("no virtual environment: `scripts/setup.sh python` makes it")
}

fn example(program: &str) -> Command {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../client/python");
    let mut command = Command::new(interpreter());
    command.env_clear().env("PYTHONDONTWRITEBYTECODE", "1").kill_on_drop(true);
    command.arg(directory.join(program));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn run(mut command: Command, input: Vec<u8>) -> Output {
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feed = async move { stdin.write_all(&input).await.unwrap() };
    let both = async { tokio::join!(feed, child.wait_with_output()) };
    timeout(PATIENCE, both).await.expect("the example ends").1.unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn sign(appliance: &Appliance, issuer: &str) -> Command {
    let mut command = example("sign.py");
    command.args(["--endpoint", &appliance.grpc().to_string()]);
    command.arg("--cert").arg(&appliance.tts().certificate);
    command.arg("--key").arg(&appliance.tts().private_key);
    command.arg("--ca").arg(appliance.pki().ca());
    command.args(["--issuer", issuer, "--audience", TRUST_DOMAIN]);
    command
}

#[tokio::test]
async fn python_assembles_and_verifies_the_test_vectors() {
    let said = run(example("test_vectors.py"), vec![]).await;
    assert!(said.status.success(), "{}", text(&said.stderr));
}

#[tokio::test]
async fn python_signs_a_batch_and_verifies_the_tokens() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let verifier = appliance.verifier(ISSUER).await;
    let mut payloads: Vec<_> = (0..100).map(|n| claims::trade(n).to_json().to_vec()).collect();
    // Bytes that a JSON library would write in another way.
    payloads[7]
        .splice(1..1, b" \"tctx2\" :\t{ \"\\u0061\": 1.0 , \"n\":\"Zo\xc3\xab\" },".to_vec());
    payloads[41] = claims::too_long(41).to_json().to_vec();
    let input = [payloads.join(&b'\n'), b"\n".to_vec()].concat();
    let said = run(sign(&appliance, ISSUER), input).await;
    assert_eq!(said.status.code(), Some(1), "{}", text(&said.stderr));
    let refused: Value = serde_json::from_str(text(&said.stderr).trim()).unwrap();
    assert_eq!((&refused["line"], &refused["reason"]), (&42.into(), &"CLAIM_REFUSED".into()));
    assert_eq!((&refused["claim"], &refused["rule"]), (&"exp".into(), &"lifetime".into()));
    payloads.remove(41);
    let tokens: Vec<_> = text(&said.stdout).lines().collect();
    assert_eq!(tokens.len(), payloads.len());
    for (token, payload) in tokens.iter().zip(&payloads) {
        assert_eq!(verifier.verify(token).unwrap().payload, *payload);
    }
}

#[tokio::test]
async fn python_is_told_the_reason_of_a_refusal() {
    let appliance = Appliance::softhsm().start().await;
    let said = run(sign(&appliance, ISSUER), b"{}\n".to_vec()).await;
    let refused: Value = serde_json::from_str(text(&said.stderr).trim()).unwrap();
    assert_eq!(refused["reason"], "NOT_INITIALISED");
    let said = run(sign(&appliance, "no-such-issuer"), b"{}\n".to_vec()).await;
    let refused: Value = serde_json::from_str(text(&said.stderr).trim()).unwrap();
    assert_eq!(refused["reason"], "UNKNOWN_ISSUER");
}

#[tokio::test]
async fn pyjwt_and_jwcrypto_verify_what_a_tts_gives_and_refuse_what_it_did_not() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let domain = Domain::around(&appliance).await;
    let plain = domain.txn_token().await;
    let orders = domain.pki().client("orders");
    let replaced = domain.exchange(&orders, &Form::replacement(&plain)).await.token();
    let mut subject = domain.idp.claims("Zoë");
    subject["aud"] = json!([AUDIENCE, "agent-b"]);
    let actor = domain.idp.access_token(&domain.idp.claims("agent-b"));
    let delegated = Form::start(&domain.idp.access_token(&subject)).actor(&actor);
    let delegated = domain.exchange(domain.gateway(), &delegated).await.token();
    let good = [plain.clone(), replaced, delegated];

    let answer = appliance.https().get(appliance.jwks_url(ISSUER)).send().await.unwrap();
    let jwks = domain.file("jwks.json");
    std::fs::write(&jwks, answer.bytes().await.unwrap()).unwrap();
    let verify = |audience: &str| {
        let mut command = example("verify.py");
        command.arg("--jwks").arg(&jwks).args(["--audience", audience]);
        command
    };
    let lines =
        |tokens: &[String]| tokens.iter().map(|token| format!("{token}\n")).collect::<String>();
    let said = run(verify(TRUST_DOMAIN), lines(&good).into()).await;
    assert!(said.status.success(), "{}", text(&said.stderr));
    let verifier = appliance.verifier(ISSUER).await;
    let claims: Vec<Value> =
        text(&said.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected: Vec<Value> =
        good.iter().map(|token| Value::Object(verifier.verify(token).unwrap().claims)).collect();
    assert_eq!(claims, expected);
    assert_eq!(
        (&claims[2]["sub"], &claims[2]["act"]),
        (&json!("Zoë"), &json!({ "sub": "agent-b" }))
    );

    let parts: Vec<_> = plain.split('.').collect();
    let header = json!({ "typ": "txntoken+jwt", "alg": "ES256", "kid": "idp-1" });
    let bad = [
        format!("{}.{}.{}", parts[0], parts[1], good[1].rsplit('.').next().unwrap()),
        format!("{}.{}.", parts[0], parts[1]),
        domain.idp.sign(&header, &Value::Object(verifier.verify(&plain).unwrap().claims)),
        domain.idp.access_token(&domain.idp.claims("ada")),
    ];
    for (audience, tokens) in [(TRUST_DOMAIN, &bad[..]), ("other.example", &good[..])] {
        let said = run(verify(audience), lines(tokens).into()).await;
        assert_eq!((said.status.code(), text(&said.stdout)), (Some(1), ""));
        let refusals: Vec<Value> =
            text(&said.stderr).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(refusals.len(), tokens.len(), "{refusals:?}");
        for refusal in refusals {
            assert!(refusal["PyJWT"].is_string() && refusal["jwcrypto"].is_string(), "{refusal}");
        }
    }
}
