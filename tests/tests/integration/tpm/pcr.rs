//! Keys that are bound to the state of the machine.

use std::fs;

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mintwarden::{
    record::Book,
    store::{Redb, Store as _},
};
use mintwarden_client::api::{DeviceState, DeviceStatus, KeyState};
use mintwarden_tests::{
    Appliance, Builder, ISSUER, TPM, claims, eventually,
    tpm::{TpmCommand, on},
};
use mintwarden_worker::IssuerName;
use rcgen::{KeyPair, SigningKey as _};
use serde_json::Value;
use toml::{Table, toml};

use crate::custodian::{in_state, keyset, quick};

const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A TPM whose keys are bound to PCRs 0 and 7.
fn bound() -> Builder {
    bound_by(toml! { selection = [0, 7] })
}

/// The same with another `pcrs`.
fn bound_by(pcrs: Table) -> Builder {
    Appliance::swtpm().with(|config| {
        let device = config["device"][0].as_table_mut().expect("a table");
        device.insert("pcrs".into(), pcrs.into());
    })
}

/// The key that signs, of a token that the independent verifier has taken.
async fn signs(appliance: &Appliance) -> String {
    let token = appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
    appliance.verifier(ISSUER).await.verify(&token).unwrap().kid
}

/// Parked, because of this PCR.
async fn parked(appliance: &Appliance, words: &str) -> DeviceStatus {
    let status = appliance.until_device(TPM, DeviceState::Parked).await;
    assert_eq!(status.reason, "PCR_MISMATCH", "{status:?}");
    assert!(status.detail.contains(words), "{status:?}");
    assert!(status.detail.contains("mintwardenctl device resume tpm-a"), "{status:?}");
    status
}

/// Names of files in its directory, for command lines.
fn paths(appliance: &Appliance) -> impl Fn(&str) -> String + use<> {
    let directory = appliance.file("");
    move |name| directory.join(name).into_os_string().into_string().expect("a path in UTF-8")
}

fn extend(appliance: &Appliance, pcr: u8) {
    let extended = format!("{pcr}:sha256={}", "ab".repeat(32));
    let _nothing = appliance.tpm().tool(&["tpm2_pcrextend", &extended]);
}

/// What a PCR holds, in tpm2-tools' hexadecimal.
fn held(appliance: &Appliance, pcr: u8) -> String {
    let read = appliance.tpm().tool(&["tpm2_pcrread", &format!("sha256:{pcr}")]);
    read.rsplit("0x").next().expect("a value").trim().to_owned()
}

#[tokio::test]
async fn keys_of_every_algorithm_sign_in_their_state_and_their_policy_is_shown() {
    let mut appliance = bound()
        .with_issuer(toml! { name = "payments-tts" })
        .with_issuer(toml! { name = "rsa-tts"
        algorithm = "PS256"
        rsa_bits = 2048 })
        .start_initialised()
        .await;
    let kids = appliance.kids(ISSUER).await;
    for restart in 0..3 {
        match restart {
            0 => {}
            1 => {
                appliance.stop().await;
                appliance.start().await;
            }
            _ => {
                // Its PCRs are what they were: nobody has extended them.
                appliance.tpm().cut_power();
                appliance.tpm().power_up();
            }
        }
        let kid = eventually("it signs", async || {
            let token = appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.ok()?;
            Some(appliance.verifier(ISSUER).await.verify(&token).unwrap().kid)
        });
        assert_eq!(kid.await, kids[0], "restart {restart}");
        let token = appliance.client().issuer("rsa-tts").sign(claims::trade(2)).await.unwrap();
        appliance.verifier("rsa-tts").await.verify(&token).unwrap();
    }
    // Evidence has the very policy that follows from the state.
    let path = paths(&appliance);
    let (challenge, evidence, jwks) = (path("challenge"), path("evidence"), path("jwks"));
    appliance.ctl(["attest", "challenge", "-o", &challenge]).run().await.success();
    let attest = ["keys", "attest", &kids[0], "--challenge", &challenge, "-o", &evidence];
    appliance.ctl(attest).run().await.success();
    let published = appliance.ctl(["jwks", "--issuer", ISSUER]).run().await.success();
    fs::write(&jwks, published).unwrap();
    let state = [format!("0={ZEROS}"), format!("7={ZEROS}")];
    let policy = ["pcr", "policy", "--pcr", &state[0], "--pcr", &state[1]];
    let policy = appliance.ctl(policy).run().await.success();
    let judge = ["attest", "verify", &evidence, "--challenge", &challenge, "--jwks", &jwks];
    let accept = ["--accept", "unbound-ak", "--accept", "uncertified-ek", "--json"];
    let verdict = appliance.ctl(judge.into_iter().chain(accept)).run().await.success();
    let verdict: Value = serde_json::from_str(&verdict).unwrap();
    let told = verdict["facts"]["policy"].as_str().unwrap();
    assert_eq!(told, format!("{}, and by nothing else the key signs", policy.trim()));
    let examination = appliance.doctor(&[]).await;
    let finding = examination.worst("device.pcrs");
    assert_eq!((&*finding.verdict, &*finding.found), ("ok", "sha256:0,7: the accepted state"));
    appliance.stop().await;
    for what in ["handles-transient", "handles-loaded-session", "handles-saved-session"] {
        assert_eq!(appliance.tpm().tool(&["tpm2_getcap", what]).trim(), "", "{what}");
    }
}

#[tokio::test]
async fn i1_another_state_parks_the_device_and_a_custodian_has_keys_made_in_it() {
    let builder = bound().with_tpm("tpm-b").with_issuer(quick()).faulty();
    let appliance = builder.start_initialised().await;
    let before = keyset(&appliance).await;
    let of = |device: &str, state| {
        let keys = in_state(&before, state);
        keys.into_iter().find(|key| key.device == device).expect("one each").kid.clone()
    };
    let ours = [of(TPM, KeyState::Active), of(TPM, KeyState::PreActive)];
    eventually("the first device signs", async || {
        (signs(&appliance).await == ours[0]).then_some(())
    })
    .await;
    // Firmware that was replaced is measured into PCR 0 at a boot; here at once, under the worker's feet.
    let extended = appliance.tpm().relay().add(on(TpmCommand::Sign).once().extends(0));
    let kid = eventually("the first device is asked", async || {
        let kid = signs(&appliance).await;
        (appliance.tpm().relay().fired(extended) == 1).then_some(kid)
    });
    assert_eq!(kid.await, of("tpm-b", KeyState::Active), "the other device takes over");
    parked(&appliance, "PCR 0 (sha256) not as in the accepted state").await;
    let examination = appliance.doctor(&[]).await;
    assert_eq!(examination.worst("device.state").verdict, "fault", "{}", examination.text);
    assert!(examination.text.contains("PCR 0 (sha256)"), "{}", examination.text);

    appliance.ctl(["device", "resume", TPM, "--reason", "updated"]).run().await.success();
    let status = appliance.until_device(TPM, DeviceState::Ready).await;
    assert!(status.detail.contains("another state of the machine: PCR 0 (sha256)"), "{status:?}");
    // New keys are made under it and take over once they are mature; what was is on record.
    let fresh = eventually("a new key of the device signs", async || {
        let kid = signs(&appliance).await;
        let keyset = keyset(&appliance).await;
        let key = keyset.keys.iter().find(|key| key.kid == kid).expect("it is on record");
        (key.device == TPM).then_some(kid)
    });
    assert!(!ours.contains(&fresh.await));
    let after = keyset(&appliance).await;
    for kid in &ours {
        let key = after.keys.iter().find(|key| key.kid == *kid).expect("it is on record");
        assert!(![KeyState::Destroyed, KeyState::Compromised].contains(&key.state()), "{key:?}");
    }
}

#[tokio::test]
async fn i8_a_state_is_not_accepted_by_any_number_of_restarts_and_well_when_it_is_back() {
    let mut appliance = bound().start_initialised().await;
    let kid = signs(&appliance).await;
    appliance.stop().await;
    extend(&appliance, 7);
    for restart in 0..3 {
        appliance.start().await;
        parked(&appliance, "PCR 7 (sha256)").await;
        match restart {
            0 => appliance.kill_launcher().await,
            1 => appliance.kill_server().await,
            _ => {}
        }
        if restart == 1 {
            parked(&appliance, "PCR 7 (sha256)").await;
        }
        if restart > 0 {
            appliance.stop().await;
        }
    }
    let examination = appliance.doctor(&[]).await;
    let finding = examination.worst("device.pcrs");
    assert_eq!(finding.verdict, "fault", "{}", examination.text);
    assert!(finding.found.contains("PCR 7 (sha256)"), "{}", examination.text);
    // A boot like the one before.
    appliance.tpm().cut_power();
    appliance.tpm().power_up();
    appliance.start().await;
    appliance.until_device(TPM, DeviceState::Ready).await;
    assert_eq!(signs(&appliance).await, kid);
    // What was told once is not accepted later by a resume for something else: it is told again.
    appliance.stop().await;
    extend(&appliance, 7);
    appliance.start().await;
    parked(&appliance, "PCR 7 (sha256)").await;
    appliance.ctl(["device", "resume", TPM]).run().await.success();
    appliance.until_device(TPM, DeviceState::Ready).await;
    // And then the state from before is the other one.
    appliance.stop().await;
    appliance.tpm().cut_power();
    appliance.tpm().power_up();
    appliance.start().await;
    parked(&appliance, "PCR 7 (sha256)").await;
}

#[tokio::test]
async fn a_state_that_was_signed_off_keeps_the_keys_and_a_bad_sign_off_is_told() {
    let pcrs = toml! {
        selection = [0, 7]
        authority = "authority.pem"
        signed_off = "signed-off"
    };
    let mut appliance = bound_by(pcrs).prepare();
    let authority = KeyPair::generate().unwrap();
    fs::write(appliance.file("authority.pem"), authority.public_key_pem()).unwrap();
    fs::create_dir(appliance.file("signed-off")).unwrap();
    appliance.start().await;
    appliance.init(ISSUER).await;
    let kid = signs(&appliance).await;
    appliance.stop().await;
    extend(&appliance, 0);

    // Signed by somebody else, it is no sign-off for mintwardenctl;
    let path = paths(&appliance);
    let state = [format!("0={}", held(&appliance, 0)), format!("7={ZEROS}")];
    let state = ["--pcr", &state[0], "--pcr", &state[1]];
    let (statement, signature) = (path("statement"), path("signature"));
    let line = [&["pcr", "statement", "-o", &statement][..], &state].concat();
    appliance.ctl(line).run().await.success();
    let statement = fs::read(&statement).unwrap();
    let (pem, good) = (path("authority.pem"), path("signed-off/update.json"));
    let line = ["pcr", "sign-off", "--authority", &pem, "--signature", &signature, "-o", &good];
    let line = [&line[..], &state].concat();
    fs::write(&signature, KeyPair::generate().unwrap().sign(&statement).unwrap()).unwrap();
    let said = appliance.ctl(line.clone()).run().await;
    assert_eq!(said.code, Some(1));
    assert!(said.stderr.contains("not one of this state by the authority"), "{}", said.stderr);
    // nor for the appliance, nor is one of another state.
    fs::write(&signature, authority.sign(&statement).unwrap()).unwrap();
    appliance.ctl(line).run().await.success();
    let text = fs::read_to_string(&good).unwrap();
    let mut forged: Value = serde_json::from_str(&text).unwrap();
    forged["signature"] = URL_SAFE_NO_PAD.encode([7; 64]).into();
    fs::write(path("signed-off/forged.json"), forged.to_string()).unwrap();
    fs::rename(&good, path("update.json")).unwrap();
    appliance.start().await;
    let status = parked(&appliance, "PCR 0 (sha256)").await;
    assert!(status.detail.contains("forged.json: its signature is not one"), "{status:?}");
    appliance.stop().await;
    fs::rename(path("update.json"), &good).unwrap();
    fs::remove_file(path("signed-off/forged.json")).unwrap();
    extend(&appliance, 7);
    appliance.start().await;
    let status = parked(&appliance, "PCRs 0, 7 (sha256)").await;
    assert!(status.detail.contains("update.json is for a state with another PCR 7"), "{status:?}");
    appliance.stop().await;

    // In the state that was signed off the same key goes on.
    appliance.tpm().cut_power();
    appliance.tpm().power_up();
    extend(&appliance, 0);
    appliance.start().await;
    let status = appliance.until_device(TPM, DeviceState::Ready).await;
    assert_eq!(status.detail, "", "no key has a defect");
    for _ in 0..3 {
        assert_eq!(signs(&appliance).await, kid);
    }
    let examination = appliance.doctor(&[]).await;
    let found: Vec<_> = examination.of("device.pcrs").into_iter().map(|f| f.found).collect();
    assert!(
        found.iter().any(|f| f.contains("update.json signs off the state of now")),
        "{found:?}"
    );
    appliance.stop().await;
    // Without it the state stays accepted, since it was; but the key is bound to the one from before.
    fs::remove_file(&good).unwrap();
    appliance.start().await;
    let status = appliance.until_device(TPM, DeviceState::Ready).await;
    assert!(status.detail.contains("PCR 0 (sha256) differ"), "{status:?}");
    appliance.stop().await;
    for what in ["handles-transient", "handles-loaded-session", "handles-saved-session"] {
        assert_eq!(appliance.tpm().tool(&["tpm2_getcap", what]).trim(), "", "{what}");
    }
}

#[tokio::test]
async fn a_pcr_that_no_key_is_bound_to_costs_no_signature() {
    let appliance = bound().faulty().start_initialised().await;
    let relay = appliance.tpm().relay();
    let kid = signs(&appliance).await;
    for times in 1..=3 {
        // As a kernel does that measures files: between the policy and the signature.
        let (begun, signed) = (TpmCommand::StartAuthSession, TpmCommand::Sign);
        let before = (relay.count(begun), relay.count(signed));
        let extended = relay.add(on(signed).times(times).extends(10));
        assert_eq!(signs(&appliance).await, kid);
        assert_eq!(relay.remove(extended), times);
        // Each attempt has a session of its own.
        let attempts = (relay.count(begun) - before.0, relay.count(signed) - before.1);
        assert_eq!(attempts, (times + 1, times + 1));
    }
    let status = appliance.until_device(TPM, DeviceState::Ready).await;
    assert_eq!((status.starts, &*status.detail), (1, ""), "the worker is the same one");
}

/// Everything that a thief of disk and configuration has.
struct Loot {
    private: Vec<u8>,
    auth: String,
}

async fn loot(appliance: &Appliance, kid: &str) -> Loot {
    let copy = appliance.file("copy.redb");
    fs::copy(appliance.file("state/server/keysets.redb"), &copy).unwrap();
    let store = Redb::open(&copy, &appliance.file("copy.json"), &Book::of_digest("")).unwrap();
    let issuer = IssuerName::parse(ISSUER).unwrap();
    let keyset = store.load(&issuer).await.unwrap().unwrap();
    let key = keyset.keys.iter().find(|key| key.kid().is_some_and(|of| of.as_str() == kid));
    let key = key.expect("it is on record");
    let wrapped = key.wrapped.clone().expect("a TPM's key");
    // Form, label, parent, x, y, private area: each with its length before it.
    let (mut rest, mut fields) = (wrapped.as_bytes(), vec![]);
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let (field, after) = after.split_at(u16::from_be_bytes(*length).into());
        fields.push(field.to_vec());
        rest = after;
    }
    // docs/devices.md: HMAC-SHA-256 by the device secret over purpose, handle and label.
    let secret = fs::read_to_string(appliance.file(TPM).join("secret")).unwrap();
    let mut mac =
        hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret.trim().as_bytes()));
    for part in [&b"mintwarden/tpm/authorisation/1"[..], key.handle.as_bytes(), &fields[1]] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    let auth = mac.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Loot { private: fields[5].clone(), auth }
}

#[tokio::test]
async fn i1_blob_and_device_secret_are_worthless_in_another_state() {
    let mut appliance = bound().start_initialised().await;
    let kid = signs(&appliance).await;
    let path = paths(&appliance);
    let (challenge, evidence) = (path("challenge"), path("evidence"));
    appliance.ctl(["attest", "challenge", "-o", &challenge]).run().await.success();
    let attest = ["keys", "attest", &kid, "--challenge", &challenge, "-o", &evidence];
    appliance.ctl(attest).run().await.success();
    appliance.stop().await;
    let evidence: Value = serde_json::from_slice(&fs::read(&evidence).unwrap()).unwrap();
    let public = evidence["residence"]["tpm"]["key"].as_str().unwrap();
    let (parent, key, public_file, private_file) =
        (path("parent.ctx"), path("key.ctx"), path("key.pub"), path("key.priv"));
    let (message, signature, session) = (path("message"), path("signature"), path("session"));
    let Loot { private, auth } = loot(&appliance, &kid).await;
    fs::write(&public_file, URL_SAFE_NO_PAD.decode(public).unwrap()).unwrap();
    let size = u16::try_from(private.len()).unwrap().to_be_bytes();
    fs::write(&private_file, [&size[..], &private].concat()).unwrap();
    fs::write(&message, "anything at all").unwrap();

    let tpm = appliance.tpm();
    let flush = || {
        for what in ["-t", "-l", "-s"] {
            let _nothing = tpm.tool(&["tpm2_flushcontext", what]);
        }
    };
    let of_parent = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt";
    let primary = ["tpm2_createprimary", "-Q", "-C", "o", "-G", "ecc256:null:aes128cfb", "-a"];
    let primary = [&primary[..], &[of_parent, "-c", &parent]].concat();
    let _nothing = tpm.tool(&primary);
    flush();
    let load = ["tpm2_load", "-Q", "-C", &parent, "-u", &public_file, "-r", &private_file];
    let _name = tpm.tool(&[&load[..], &["-c", &key]].concat());
    flush();
    let sign = |auth: &str| {
        let line = ["tpm2_sign", "-Q", "-c", &key, "-g", "sha256", "-p", auth, "-o", &signature];
        let signed = tpm.try_tool(&[&line[..], &[&message]].concat()).map(|_| ());
        flush();
        signed
    };
    let by_policy = || {
        let start = ["tpm2_startauthsession", "-Q", "--policy-session", "-S", &session];
        let _nothing = tpm.tool(&start);
        let _digest = tpm.tool(&["tpm2_policypcr", "-Q", "-S", &session, "-l", "sha256:0,7"]);
        let _digest = tpm.tool(&["tpm2_policyauthvalue", "-Q", "-S", &session]);
        sign(&format!("session:{session}+hex:{auth}"))
    };
    // The authorisation value alone is of no use in any state; with the policy it is, in this one: the tools do it right.
    sign(&format!("hex:{auth}")).expect_err("userWithAuth is clear");
    by_policy().expect("the state is the right one");
    extend(&appliance, 7);
    let refused = by_policy().expect_err("another state");
    assert!(refused.contains("0x99D") || refused.contains("policy"), "{refused}");
    sign(&format!("hex:{auth}")).expect_err("userWithAuth is clear");
}

#[tokio::test]
async fn i10_another_device_secret_is_told_by_keys_that_are_bound_too() {
    let mut appliance = bound().start_initialised().await;
    let kid = signs(&appliance).await;
    appliance.stop().await;
    let file = appliance.file(TPM).join("secret");
    let right = fs::read(&file).unwrap();
    fs::write(&file, "another one, and long enough for a secret").unwrap();
    appliance.start().await;
    let status = appliance.until_device(TPM, DeviceState::Parked).await;
    assert_eq!(status.reason, "LOGIN_FAILED", "{status:?}");
    appliance.stop().await;
    fs::write(&file, right).unwrap();
    appliance.start().await;
    appliance.until_device(TPM, DeviceState::Ready).await;
    assert_eq!(signs(&appliance).await, kid);
}

#[tokio::test]
async fn keys_from_before_the_policy_sign_on_and_new_ones_are_bound() {
    let mut appliance = Appliance::swtpm().with_issuer(quick()).start_initialised().await;
    let kid = signs(&appliance).await;
    appliance.stop().await;
    appliance.reconfigure(|config| {
        let device = config["device"][0].as_table_mut().expect("a table");
        device.insert("pcrs".into(), toml! { selection = [0, 7] }.into());
    });
    appliance.start().await;
    appliance.until_device(TPM, DeviceState::Ready).await;
    assert_eq!(signs(&appliance).await, kid, "its policy is its own: it has none");
    // Its successor is bound to the state.
    let fresh = eventually("another key signs", async || {
        let _kept = appliance.ctl(["keys", "rotate", ISSUER]).run().await;
        let now = signs(&appliance).await;
        (now != kid && is_bound(&appliance, &now).await).then_some(now)
    });
    let fresh = fresh.await;
    appliance.stop().await;
    // Without `pcrs` its policy is its own still.
    appliance.reconfigure(|config| {
        config["device"][0].as_table_mut().expect("a table").remove("pcrs");
    });
    extend(&appliance, 0);
    appliance.start().await;
    let status = appliance.until_device(TPM, DeviceState::Ready).await;
    assert!(status.detail.contains("PCR 0 (sha256) differ"), "{fresh}: {status:?}");
}

async fn is_bound(appliance: &Appliance, kid: &str) -> bool {
    let path = paths(appliance);
    let (challenge, evidence) = (path("policy-challenge"), path("policy-evidence"));
    for old in [&challenge, &evidence] {
        let _absent = fs::remove_file(old);
    }
    appliance.ctl(["attest", "challenge", "-o", &challenge]).run().await.success();
    let attest = ["keys", "attest", kid, "--challenge", &challenge, "-o", &evidence];
    appliance.ctl(attest).run().await.success();
    let document: Value = serde_json::from_slice(&fs::read(&evidence).unwrap()).unwrap();
    let public = document["residence"]["tpm"]["key"].as_str().unwrap();
    // The size of authPolicy is behind size, type, nameAlg and attributes.
    URL_SAFE_NO_PAD.decode(public).unwrap()[10..12] == [0, 32]
}
