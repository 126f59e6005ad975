//! What a configuration may say, and how each mistake is answered: file, key and remedy.

use std::path::Path;

use super::*;

const GOOD: &str = r#"
state_dir = "state"
[listen]
grpc = "0.0.0.0:7443"
unix = "/run/mintwarden/api.sock"
jwks = "0.0.0.0:7480"
[tls]
certificate = "tls.crt"
private_key = "tls.key"
client_ca = "ca.crt"
trust_domain = "trust-domain.example"
[[device]]
name = "hsm-a"
kind = "pkcs11"
model = "softhsm2"
token_label = "tts"
pin = { file = "pin" }
sessions = 4
[[issuer]]
name = "payments-tts"
iss = "https://tts.trust-domain.example"
devices = ["hsm-a"]
algorithm = "ES256"
audience = ["trust-domain.example"]
max_token_lifetime = "5m"
[[grant]]
role = "signer"
to = ["spiffe://trust-domain.example/tts", "unix:uid=1000"]
issuers = ["payments-tts"]
[[grant]]
role = "custodian"
person = "ada"
to = ["spiffe://trust-domain.example/custodian/ada"]
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/etc/mintwarden/mintwarden.toml"))
}

/// The error for the good configuration with one piece replaced.
fn refused(piece: &str, by: &str) -> ConfigError {
    assert!(GOOD.contains(piece), "{piece:?} is no piece of the good configuration");
    parse(&GOOD.replacen(piece, by, 1)).expect_err(by)
}

#[test]
fn a_good_configuration_is_resolved() {
    let config = parse(GOOD).expect("good");
    assert_eq!(config.state_dir, Path::new("/etc/mintwarden/state"));
    let issuer = config.issuer("payments-tts").expect("configured");
    assert_eq!(issuer.profile.max_token_lifetime, Duration::from_secs(300));
    assert_eq!(issuer.standbys, 1);
    assert_eq!(config.profiles_on("hsm-a").len(), 1);
    assert_eq!(config.users, Users::Inherit);
    // A custodian without a list of issuers is one for all.
    assert_eq!(config.grants[1].issuers, [issuer.name().clone()]);
}

#[test]
fn i9_a_full_batch_fits_into_the_share_of_each_of_several_signers() {
    let limits =
        |limit: &str| GOOD.replacen("[[device]]", &format!("[limits]\n{limit}\n[[device]]"), 1);
    for (key, full) in [("max_inflight_bytes", 4_194_304), ("max_inflight_items", 1024)] {
        let least = 2 * full;
        let error = parse(&limits(&format!("{key} = {}", least - 1))).expect_err(key);
        assert_eq!(error.key, format!("limits.{key}"));
        assert!(error.what.contains("each of 2 signers half"), "{error}");
        assert_eq!(error.remedy, format!("choose at least {least}"));
        parse(&limits(&format!("{key} = {least}"))).expect("good");
        let alone = limits(&format!("{key} = {full}")).replacen(", \"unix:uid=1000\"", "", 1);
        parse(&alone).expect("all of it is the one signer's");
    }
}

#[test]
fn every_mistake_names_file_key_and_remedy() {
    let table = [
        // piece, replacement, key, part of the text
        ("unix = ", "unxi = ", "", "unknown field `unxi`"),
        ("sessions = 4", "sessions = \"four\"", "", "invalid type"),
        ("sessions = 4", "sessions = 0", "device.hsm-a", "sessions = 0"),
        ("softhsm2", "softhsm3", "device.hsm-a", "softhsm2"),
        ("token_label = \"tts\"", "", "device.hsm-a", "token_label"),
        ("pin = { file = \"pin\" }", "pin = { env = \"PIN\" }", "device.hsm-a", "mintwarden dev"),
        ("devices = [\"hsm-a\"]", "devices = []", "issuer.payments-tts.devices", "no device"),
        (
            "devices = [\"hsm-a\"]",
            "devices = [\"hsm-b\"]",
            "issuer.payments-tts.devices",
            "\"hsm-b\"",
        ),
        (
            "devices = [\"hsm-a\"]",
            "devices = [\"hsm-a\", \"hsm-a\"]",
            "issuer.payments-tts.devices",
            "twice",
        ),
        ("ES256", "HS256", "issuer.payments-tts.algorithm", "HS256"),
        ("ES256", "ES512", "issuer.payments-tts.algorithm", "\"ES384\""),
        (
            "\"ES256\"",
            "\"ES256\"\nrsa_bits = 2048",
            "issuer.payments-tts.rsa_bits",
            "ES256 has no RSA key",
        ),
        (
            "\"ES256\"",
            "\"PS256\"\nrsa_bits = 1024",
            "issuer.payments-tts.rsa_bits",
            "2048, 3072 or 4096",
        ),
        ("\"ES256\"", "\"PS256\"\nrsa_bits = -1", "", "rsa_bits"),
        (
            "audience = [\"trust-domain.example\"]",
            "audience = []",
            "issuer.payments-tts.audience",
            "empty",
        ),
        ("\"5m\"", "\"0s\"", "issuer.payments-tts.max_token_lifetime", "zero"),
        ("\"5m\"", "\"five\"", "issuer.payments-tts.max_token_lifetime", "not a duration"),
        ("\"5m\"", "\"2d\"", "issuer.payments-tts.max_token_lifetime", "longer than"),
        ("\"5m\"", "\"1500ms\"", "issuer.payments-tts.max_token_lifetime", "whole seconds"),
        ("\"5m\"", "\"5m\"\nstandbys = 4", "issuer.payments-tts.standbys", "1 to 3"),
        (
            "\"5m\"",
            "\"5m\"\njwks_max_age = \"2h\"",
            "issuer.payments-tts.jwks_max_age",
            "longer than",
        ),
        (
            "\"5m\"",
            "\"5m\"\nrotate_every = \"1h\"",
            "issuer.payments-tts.rotate_every",
            "1h is shorter than verifier_refresh + propagation + skew = 1h 6m + 1m + 30s = 1h 7m 30s",
        ),
        (
            "\"5m\"",
            "\"5m\"\nsign_until = \"24h\"",
            "issuer.payments-tts.sign_until",
            "1day is not longer than rotate_every = 1day",
        ),
        (
            "\"5m\"",
            "\"5m\"\nrotate_every = \"2h\"\ndestroy_after = \"7d\"",
            "issuer.payments-tts.destroy_after",
            "with a rotation every 2h that is 85 old keys in each device, and 88 in all",
        ),
        (
            "\"5m\"",
            "\"5m\"\nverifier_refresh = \"5m\"\njwks_max_age = \"6m\"",
            "issuer.payments-tts.jwks_max_age",
            "longer than 5m",
        ),
        (
            "\"5m\"",
            "\"5m\"\nlost_devices = [\"hsm-a\"]",
            "issuer.payments-tts.lost_devices",
            "also one of its devices",
        ),
        ("\"5m\"", "\"5m\"\nskew = \"1500ms\"", "issuer.payments-tts.skew", "whole seconds"),
        ("\"5m\"", "\"5m\"\nrequired = [\"iat\", \"\"]", "issuer.payments-tts.required", "empty"),
        ("issuers = [\"payments-tts\"]", "issuers = [\"other\"]", "grant[0].issuers", "\"other\""),
        ("issuers = [\"payments-tts\"]", "", "grant[0].issuers", "missing"),
        ("unix:uid=1000", "unix:gid=1000", "grant[0].to", "unix:gid=1000"),
        (
            "spiffe://trust-domain.example/tts",
            "spiffe://other.example/tts",
            "grant[0].to",
            "trust domain",
        ),
        ("spiffe://trust-domain.example/custodian/ada", "unix:uid=0", "grant[1].to", "unix user"),
        ("person = \"ada\"", "", "grant[1].person", "missing"),
        (
            "role = \"signer\"",
            "role = \"signer\"\nperson = \"ada\"",
            "grant[0].person",
            "custodians",
        ),
        ("role = \"signer\"", "role = \"king\"", "", "unknown variant `king`"),
        (
            "trust_domain = \"trust-domain.example\"",
            "trust_domain = \"a b\"",
            "tls.trust_domain",
            "trust domain",
        ),
        (
            "trust_domain = \"trust-domain.example\"",
            "trust_domain = \"spiffe://trust-domain.example/tts\"",
            "tls.trust_domain",
            "would mean",
        ),
        (
            "[[grant]]",
            "[limits]\nmax_deadline = \"5s\"\ndefault_deadline = \"6s\"\n[[grant]]",
            "limits.default_deadline",
            "longer",
        ),
        ("[[grant]]", "[limits]\nmax_connections = 0\n[[grant]]", "limits.max_connections", "1 to"),
        ("[[grant]]", "[users]\nserver = \"a\"\nworker = \"a\"\n[[grant]]", "users", "same user"),
        ("[[grant]]", "[users]\nserver = \"a\"\n[[grant]]", "users", "incomplete"),
        (
            "[[grant]]",
            "[users]\ndanger_shared_root = true\n[[grant]]",
            "users.danger_shared_root",
            "throw-away",
        ),
    ];
    for (piece, by, key, part) in table {
        let error = refused(piece, by);
        let text = error.to_string();
        assert_eq!(error.key, key, "{by}: {text}");
        assert!(text.contains(part), "{by}: {text}");
        assert!(text.contains("/etc/mintwarden/mintwarden.toml"), "{by}: {text}");
        assert!(!error.remedy.is_empty(), "{by}");
    }
}

/// The good configuration with Bob, Cleo who guards another issuer, and this `[approvals]` table.
fn with_approvals(lines: &str) -> Result<Config, ConfigError> {
    let other = GOOD.replacen(
        "[[grant]]",
        "[[issuer]]\nname = \"other\"\niss = \"https://o.example\"\ndevices = [\"hsm-a\"]\n\
         audience = [\"x\"]\n[[grant]]",
        1,
    );
    let bob = r#"
        [[grant]]
        role = "custodian"
        person = "bob"
        to = ["spiffe://trust-domain.example/custodian/bob", "bob.example"]
        issuers = ["payments-tts"]
        [[grant]]
        role = "custodian"
        person = "bob"
        to = ["bob.example"]
        issuers = ["other"]
        [[grant]]
        role = "custodian"
        person = "cleo"
        to = ["cleo.example"]
        issuers = ["payments-tts"]
    "#;
    parse(&format!("{other}{bob}\n[approvals]\n{lines}"))
}

#[test]
fn one_person_does_everything_unless_the_configuration_says_otherwise() {
    let usual = parse(GOOD).expect("good").approvals;
    assert!(usual.acts().iter().all(|(_, persons)| *persons == 1));
    assert_eq!(usual.expire, Duration::from_secs(24 * 3600));
    let alone: Vec<_> = usual.grave_acts_of_one().collect();
    assert_eq!(alone, ["recover", "activate_immature", "revoke", "destroy"]);
    let asked = with_approvals("revoke = 2\ndestroy = 2\nexpire = \"2h\"").expect("good").approvals;
    assert_eq!((asked.revoke, asked.rotate), (2, 1));
    assert_eq!(asked.expire, Duration::from_secs(7200));
    assert_eq!(asked.grave_acts_of_one().collect::<Vec<_>>(), ["recover", "activate_immature"]);
}

#[test]
fn an_act_that_needs_more_persons_than_an_issuer_has_is_refused() {
    for act in Approvals::default().acts().map(|(act, _)| act) {
        with_approvals(&format!("{act} = 2")).expect("each issuer has two");
        // payments-tts has three, the other one two: two grants and three identities of Bob are one.
        let error = with_approvals(&format!("{act} = 3")).expect_err(act);
        assert_eq!(error.key, format!("approvals.{act}"));
        assert_eq!(error.what, "needs 3 persons, and issuer other has 2 custodians (ada, bob)");
        assert!(error.remedy.contains("role = \"custodian\""), "{error}");
    }
    let alone = parse(&format!("{GOOD}\n[approvals]\nrevoke = 2")).expect_err("Ada is alone");
    assert_eq!(alone.what, "needs 2 persons, and issuer payments-tts has 1 custodian (ada)");
}

#[test]
fn mistakes_about_approvals_and_persons_are_named() {
    for (lines, key, part) in [
        ("suspend = 1", "approvals.suspend", "one person, at once"),
        ("suspend = \"x\"", "approvals.suspend", "one person, at once"),
        ("revoke = 0", "approvals.revoke", "out of range"),
        ("revoke = 17", "approvals.revoke", "out of range"),
        ("revoke = -1", "", "invalid value"),
        ("revoce = 2", "", "unknown field `revoce`"),
        ("expire = \"900ms\"", "approvals.expire", "too short"),
        ("expire = \"31d\"", "approvals.expire", "longer than"),
        ("expire = \"soon\"", "approvals.expire", "not a duration"),
    ] {
        let error = with_approvals(lines).expect_err(lines);
        assert_eq!(error.key, key, "{error}");
        assert!(error.to_string().contains(part) && !error.remedy.is_empty(), "{error}");
    }
    let with = |grant: &str| parse(&format!("{GOOD}\n[[grant]]\nrole = \"custodian\"\n{grant}"));
    let ada = "spiffe://trust-domain.example/custodian/ada";
    let error = with(&format!("person = \"bob\"\nto = [\"{ada}\"]")).expect_err("Ada's own");
    assert_eq!(error.key, "grant[2].to");
    assert!(error.what.contains("agree with itself"), "{error}");
    with(&format!("person = \"ada\"\nto = [\"{ada}\", \"ada.example\"]")).expect("one person");
    let error = with("person = \"Ada\"\nto = [\"ada.example\"]").expect_err("another spelling");
    assert_eq!(error.key, "grant[2].person");
    assert!(error.what.contains("differ in case alone"), "{error}");
    for name in [" bob", "bob\\u0007", "", &"b".repeat(65)] {
        let error = with(&format!("person = \"{name}\"\nto = [\"bob.example\"]")).expect_err(name);
        assert_eq!(error.key, "grant[2].person");
    }
}

#[test]
fn an_issuer_whose_label_a_device_would_cut_is_refused() {
    let device = |quirks: &str| format!("sessions = 4\nquirks = {{ {quirks} }}");
    // mintwarden/payments-tts/ES256
    let error = refused("sessions = 4", &device("label_bytes = 28"));
    assert_eq!(error.key, "issuer.payments-tts.name");
    assert!(error.to_string().contains("has 29 bytes, device hsm-a keeps 28"), "{error}");
    parse(&GOOD.replace("sessions = 4", &device("label_bytes = 29"))).expect("just fits");
}

#[test]
fn plain_http_beyond_loopback_has_to_be_asked_for() {
    let (before, rest) = GOOD.split_once("[tls]").expect("has [tls]");
    let rest = rest.split_once("[[device]]").expect("has a device").1;
    let text = format!("{before}[[device]]{rest}").replace("grpc = \"0.0.0.0:7443\"\n", "");
    let error = parse(&text).expect_err("no TLS");
    assert_eq!(error.key, "listen.jwks");
    let loopback = parse(&text.replace("0.0.0.0:7480", "127.0.0.1:7480")).expect("loopback");
    assert!(loopback.listen.jwks_plaintext);
    let asked =
        parse(&text.replace("[listen]", "[listen]\ninsecure_plaintext = true")).expect("asked for");
    assert!(asked.listen.jwks_plaintext);
}

#[test]
fn health_and_metrics_beyond_loopback_have_to_be_asked_for() {
    let with = |lines: &str| parse(&GOOD.replacen("[listen]", &format!("[listen]\n{lines}"), 1));
    assert_eq!(with("").expect("good").listen.ops, None);
    for loopback in ["127.0.0.1:7481", "[::1]:7481"] {
        let config = with(&format!("ops = \"{loopback}\"")).expect("loopback");
        assert_eq!(config.listen.ops.map(|ops| ops.to_string()).as_deref(), Some(loopback));
    }
    for word in ["", "insecure_plaintext = true"] {
        let error = with(&format!("ops = \"0.0.0.0:7481\"\n{word}")).expect_err("beyond");
        assert_eq!(error.key, "listen.ops");
        assert!(error.remedy.contains("insecure_plaintext_ops"), "{error}");
    }
    with("ops = \"0.0.0.0:7481\"\ninsecure_plaintext_ops = true").expect("asked for");
}

#[test]
fn grpc_without_certificates_is_refused() {
    let (before, rest) = GOOD.split_once("[tls]").expect("has [tls]");
    let rest = rest.split_once("[[device]]").expect("has a device").1;
    let error = parse(&format!("{before}[[device]]{rest}")).expect_err("no TLS");
    assert_eq!(error.key, "listen.grpc");
}

#[test]
fn a_missing_or_huge_file_is_refused() {
    let missing = Config::load(Path::new("/nonexistent/mintwarden.toml")).expect_err("missing");
    assert!(missing.to_string().contains("cannot be read"), "{missing}");
    let directory = tempfile::tempdir().expect("a directory");
    let huge = directory.path().join("huge.toml");
    std::fs::write(&huge, vec![b'#'; usize::try_from(MAX_CONFIG).expect("fits") + 1])
        .expect("written");
    assert!(Config::load(&huge).expect_err("huge").to_string().contains("bytes"));
}

#[test]
fn an_rsa_key_has_a_size_of_which_the_default_is_sensible() {
    let key = |text: &str| {
        let config = parse(&GOOD.replace("algorithm = \"ES256\"", text)).expect(text);
        config.issuers[0].profile.key.to_string()
    };
    assert_eq!(key(""), "ES256");
    assert_eq!(key("algorithm = \"RS256\""), "RS256 of 3072 bits");
    assert_eq!(key("algorithm = \"PS256\"\nrsa_bits = 4096"), "PS256 of 4096 bits");
    assert_eq!(key("algorithm = \"EdDSA\""), "EdDSA");
}
