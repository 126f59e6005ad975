//! A TPM proves where its keys live, and tpm2-tools agree.

use std::{fs, os::unix::fs::PermissionsExt as _};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mintwarden_tests::{Appliance, ISSUER, Tpm, claims};
use serde_json::{Value, json};
use toml::toml;

use super::{Desk, outcome};

const CHECKS: [&str; 10] = [
    "nonce",
    "generated",
    "signature",
    "name",
    "key-attributes",
    "ak-attributes",
    "parent",
    "kid",
    "activation",
    "ek-certificate",
];

impl Desk<'_> {
    /// Evidence over a plain nonce, and the challenge that it was for.
    async fn first_evidence(&self) -> String {
        let challenge = self.challenge("first-challenge.json").await;
        self.ask(&challenge, "first.json").run().await.success();
        challenge
    }

    /// A challenge with a credential, named `name`, and its secret beside it.
    async fn sealed(&self, name: &str, ek: Option<&str>, ak: &str) -> String {
        let (output, secret) = (self.path(name), self.path(&format!("secret-{name}")));
        let mut line = vec!["attest", "challenge", "--ak", ak, "--secret", &secret, "-o", &output];
        line.extend(ek.map(|ek| ["--ek", ek]).into_iter().flatten());
        self.appliance.ctl(line).run().await.success();
        output
    }

    fn evidence(&self, name: &str) -> Value {
        let document = fs::read(self.file(name)).unwrap();
        let document: Value = serde_json::from_slice(&document).unwrap();
        document["residence"]["tpm"].clone()
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(value.as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_tpm_with_a_certificate_proves_where_a_key_lives() {
    let mut appliance = Appliance::swtpm()
        .with_issuer(toml! { name = "payments-tts" })
        .with_issuer(toml! { name = "other-tts"
        algorithm = "RS256"
        rsa_bits = 2048 })
        .prepare();
    let authorities = appliance.tpm().manufacture().into_os_string().into_string().unwrap();
    appliance.start().await;
    for issuer in [ISSUER, "other-tts"] {
        appliance.init(issuer).await;
    }
    let desk = Desk::new(&appliance).await;
    let first = desk.first_evidence().await;
    let ca = ["--ek-ca", &authorities, "--json"];
    let said = desk.judge("first.json", &first, &ca).await;
    assert_eq!(said.code, Some(1));
    assert_eq!(outcome(&said.stdout, "activation"), "not-checked");
    let accept = ["--accept", "unbound-ak", "--accept", "uncertified-ek"];
    let said = desk.judge("first.json", &first, &accept).await.success();
    assert!(said.contains("ACCEPTED without a proof of activation, ek-certificate"), "{said}");

    // The endorsement key's certificate comes from its maker, or is compared with what the maker says.
    let certificate = bytes(&desk.evidence("first.json")["endorsement"][0]["certificate"]);
    fs::write(desk.file("ek.der"), certificate).unwrap();
    let (ek, ak) = (desk.path("ek.der"), desk.path("first.json"));
    let challenge = desk.sealed("challenge.json", Some(&ek), &ak).await;
    let secret = desk.path("secret-challenge.json");
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    desk.ask(&challenge, "evidence.json").run().await.success();
    let proofs = ["--secret", &secret, "--ek-ca", &authorities, "--json"];
    let said = desk.judge("evidence.json", &challenge, &proofs).await.success();
    for check in CHECKS {
        assert_eq!(outcome(&said, check), "holds", "{check}: {said}");
    }
    let verdict: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&verdict["kid"], &verdict["holds"]), (&json!(desk.kid), &json!(true)));
    assert_eq!(verdict["facts"]["model"], "swtpm");

    // An older answer to a newer question, and the other way round.
    let replayed = desk.judge("first.json", &challenge, &proofs).await;
    assert_eq!((replayed.code, &*outcome(&replayed.stdout, "nonce")), (Some(1), "fails"));
    let swapped = desk.judge("evidence.json", &first, &proofs).await;
    assert_eq!((swapped.code, &*outcome(&swapped.stdout, "nonce")), (Some(1), "fails"));
    // The key is well, but no key of the other issuer's.
    let jwks = appliance.ctl(["jwks", "--issuer", "other-tts"]).run().await.success();
    fs::write(desk.file("jwks.json"), jwks).unwrap();
    let foreign = desk.judge("evidence.json", &challenge, &proofs).await;
    assert_eq!((foreign.code, &*outcome(&foreign.stdout, "kid")), (Some(1), "fails"));

    // An RSA key of the other issuer is proved with the same credential's ways, over a restart: the attestation key is
    // the same one.
    appliance.kill_worker().await;
    let keys = appliance.custodian().list_keys(Some("other-tts")).await.unwrap().remove(0).keys;
    let desk = Desk { appliance: &appliance, kid: keys[0].kid.clone() };
    let challenge = desk.sealed("again.json", None, &ak).await;
    desk.ask(&challenge, "rsa.json").run().await.success();
    let secret = desk.path("secret-again.json");
    let proofs = ["--secret", &secret, "--ek-ca", &authorities, "--kid", &desk.kid];
    let said = desk.judge("rsa.json", &challenge, &proofs).await.success();
    assert!(said.contains("PROVED"), "{said}");
    appliance.stop().await;
}

#[tokio::test]
async fn tpm2_tools_verify_the_parts_and_their_credentials_are_opened() {
    let mut appliance = Appliance::swtpm().start_initialised().await;
    let desk = Desk::new(&appliance).await;
    desk.first_evidence().await;
    let evidence = desk.evidence("first.json");
    for (name, part) in
        [("ak.pub", "ak"), ("key.pub", "key"), ("attest", "attest"), ("signature", "signature")]
    {
        fs::write(desk.file(name), bytes(&evidence[part])).unwrap();
    }
    fs::write(desk.file("ek.pub"), bytes(&evidence["endorsement"][0]["public"])).unwrap();
    let mut forged = bytes(&evidence["attest"]);
    *forged.last_mut().unwrap() ^= 1;
    fs::write(desk.file("forged"), forged).unwrap();
    let path = |name: &str| desk.path(name);

    // Another TPM does the sums: nothing of ours, and not the one that signed.
    let tpm = Tpm::provision(&desk.file("another-tpm"));
    let load = |area: &str, context: &str| {
        let name = path(&format!("{area}.name"));
        let (area, context) = (path(area), path(context));
        let said =
            tpm.tool(&["tpm2_loadexternal", "-C", "n", "-u", &area, "-c", &context, "-n", &name]);
        drop(said);
        let _flushed = tpm.tool(&["tpm2_flushcontext", "-t"]);
        fs::read(name).unwrap()
    };
    let ak = load("ak.pub", "ak.context");
    let key = load("key.pub", "key.context");
    let verify = |message: &str| {
        let (ak, message, signature) = (path("ak.context"), path(message), path("signature"));
        let line =
            ["tpm2_verifysignature", "-c", &ak, "-g", "sha256", "-m", &message, "-s", &signature];
        let verified = tpm.try_tool(&line);
        let _flushed = tpm.tool(&["tpm2_flushcontext", "-t"]);
        verified.is_ok()
    };
    assert!(verify("attest"));
    assert!(!verify("forged"));
    // tpm2_print does not know certifications; the names are by its sister tools.
    let attest = bytes(&evidence["attest"]);
    let says = |what: &[u8]| attest.windows(what.len()).any(|window| window == what);
    assert!(says(&key), "the statement is about the key");
    let challenge: Value =
        serde_json::from_slice(&fs::read(desk.file("first-challenge.json")).unwrap()).unwrap();
    assert!(says(&bytes(&challenge["nonce"])), "and has the nonce");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();

    // A credential of their making is opened by our device.
    fs::write(desk.file("held"), [7; 32]).unwrap();
    let _made = tpm.tool(&[
        "tpm2_makecredential",
        "-T",
        "none",
        "-u",
        &path("ek.pub"),
        "-s",
        &path("held"),
        "-n",
        &hex(&ak),
        "-o",
        &path("credential"),
    ]);
    let credential = fs::read(desk.file("credential")).unwrap();
    let length = 10 + usize::from(u16::from_be_bytes([credential[8], credential[9]]));
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let challenge = json!({
        "format": "mintwarden-challenge/1",
        "nonce": text(&[9; 32]),
        "credential": {
            "ek": evidence["endorsement"][0]["public"],
            "id_object": text(&credential[8..length]),
            "encrypted_secret": text(&credential[length..]),
        },
    });
    fs::write(desk.file("theirs.json"), challenge.to_string()).unwrap();
    desk.ask(&path("theirs.json"), "opened.json").run().await.success();
    assert_eq!(bytes(&desk.evidence("opened.json")["activated"]), [7; 32]);
    appliance.stop().await;
}

#[tokio::test]
async fn credentials_for_others_are_refused_and_cost_the_tpm_nothing() {
    let mut appliance = Appliance::swtpm().start_initialised().await;
    let desk = Desk::new(&appliance).await;
    desk.first_evidence().await;
    let ours = desk.path("first.json");
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/../attestation/vectors");
    let (ek, ak) = (format!("{vectors}/known-rsa.pub"), format!("{vectors}/ak.pub"));
    let other_tpm = desk.sealed("other-tpm.json", Some(&ek), &ours).await;
    let other_ak = desk.sealed("other-ak.json", Some(&ours), &ak).await;
    let good = desk.sealed("good.json", None, &ours).await;
    let mut tampered: Value = serde_json::from_slice(&fs::read(&good).unwrap()).unwrap();
    let mut object = bytes(&tampered["credential"]["id_object"]);
    *object.last_mut().unwrap() ^= 1;
    tampered["credential"]["id_object"] = URL_SAFE_NO_PAD.encode(object).into();
    fs::write(desk.file("tampered.json"), tampered.to_string()).unwrap();
    let tampered = desk.path("tampered.json");
    // A TPM has room for three objects. What is not flushed is missed soon.
    for round in 0..3 {
        for challenge in [&other_tpm, &other_ak, &tampered] {
            let said = desk.ask(challenge, "none.json").run().await;
            assert_eq!(said.code, Some(1));
            assert!(said.stderr.contains("CHALLENGE_REFUSED"), "{}", said.stderr);
            assert!(!desk.file("none.json").exists());
        }
        desk.ask(&good, &format!("good-{round}.json")).run().await.success();
        appliance.client().issuer(ISSUER).sign(claims::trade(round)).await.unwrap();
    }
    assert_eq!(appliance.status().await.devices[0].starts, 1, "no worker was lost over it");
    let secret = desk.path("secret-good.json");
    let options = ["--secret", &secret, "--accept", "uncertified-ek"];
    let said = desk.judge("good-2.json", &good, &options).await.success();
    assert!(said.contains("ACCEPTED without a proof of ek-certificate"), "{said}");
    appliance.stop().await;
}

#[tokio::test]
async fn a_password_of_the_endorsement_hierarchy_costs_attestation_alone() {
    let mut appliance = Appliance::swtpm().prepare();
    let _changed = appliance.tpm().tool(&["tpm2_changeauth", "-c", "e", "somebody"]);
    appliance.start().await;
    appliance.init(ISSUER).await;
    let desk = Desk::new(&appliance).await;
    for n in 0..2 {
        let said = desk.ask(&"ab".repeat(32), "none.json").run().await;
        assert_eq!(said.code, Some(1));
        assert!(said.stderr.contains("MECHANISM_MISSING"), "{}", said.stderr);
        assert!(said.stderr.contains("endorsement hierarchy has an authorisation value"));
        appliance.client().issuer(ISSUER).sign(claims::trade(n)).await.unwrap();
    }
    assert_eq!(appliance.status().await.devices[0].starts, 1, "nothing parked, nothing restarted");
    appliance.stop().await;
}
