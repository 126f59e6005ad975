//! The Python example against a real appliance, and against the test vectors.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use mintwarden_tests::{Appliance, ISSUER, PATIENCE, TRUST_DOMAIN, claims};
use serde_json::Value;
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
