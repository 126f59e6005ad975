//! A configuration that cannot be used: exit 78 before anything is opened, with file, key and remedy.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Output},
};

use mintwarden_tests::{Appliance, eventually, programs};
use toml::{Table, Value, toml};

const EXIT_CONFIG: i32 = 78;

struct Mistake {
    make: fn(&mut Table),
    /// What the message names: the key, and what is wrong with it.
    named: &'static [&'static str],
}

fn mistake(make: fn(&mut Table), named: &'static [&'static str]) -> Mistake {
    Mistake { make, named }
}

fn first<'a>(config: &'a mut Table, kind: &str) -> &'a mut Table {
    config[kind][0].as_table_mut().unwrap()
}

fn set(table: &mut Table, key: &str, value: impl Into<Value>) {
    table.insert(key.into(), value.into());
}

fn section<'a>(config: &'a mut Table, name: &str) -> &'a mut Table {
    config.entry(name).or_insert_with(|| Table::new().into()).as_table_mut().unwrap()
}

fn mintwarden(config: &Path, more: &[&str]) -> Output {
    // Ends by itself, and at once: the runner's limit is the only one needed.
    Command::new(programs::path(programs::MINTWARDEN))
        .env_clear()
        .arg("--config")
        .arg(config)
        .args(more)
        .output()
        .unwrap()
}

/// Each configuration is refused alike by a start and by `--check`, and names what it has to.
fn all_refused(mistakes: &[Mistake]) {
    let appliance = Appliance::softhsm().prepare();
    let good: Table = fs::read_to_string(appliance.config()).unwrap().parse().unwrap();
    // Were a port bound before the configuration is known to be good, this one would be in the way.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (at, mistake) in mistakes.iter().enumerate() {
        let mut config = good.clone();
        for listener in ["grpc", "jwks"] {
            set(section(&mut config, "listen"), listener, taken.as_str());
        }
        (mistake.make)(&mut config);
        let path = appliance.file(&format!("mistake-{at}.toml"));
        fs::write(&path, config.to_string()).unwrap();
        let addresses = appliance.file("never.json");
        for more in [&["--check"][..], &["--addresses", addresses.to_str().unwrap()]] {
            let output = mintwarden(&path, more);
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(EXIT_CONFIG), "{:?}: {said}", mistake.named);
            for named in mistake.named.iter().chain(&["remedy: "]) {
                assert!(said.contains(named), "{named:?} is not in: {said}");
            }
            assert!(said.contains(&path.display().to_string()), "{said}");
            assert!(!appliance.file("api.sock").exists() && !addresses.exists());
            assert!(!appliance.file("state").exists(), "nothing is made for a bad configuration");
        }
    }
}

#[test]
fn what_does_not_parse_is_shown() {
    all_refused(&[
        mistake(|c| set(c, "stat_dir", "x"), &["stat_dir", "unknown field"]),
        mistake(|c| set(first(c, "issuer"), "audiense", "x"), &["audiense", "unknown field"]),
        mistake(|c| set(first(c, "device"), "slot", 0), &["slot", "unknown field"]),
        mistake(|c| set(section(c, "limits"), "max_bach", 1), &["max_bach", "unknown field"]),
        mistake(|c| _ = c.remove("state_dir"), &["state_dir", "missing field"]),
        mistake(|c| set(c, "state_dir", 7), &["state_dir", "invalid type"]),
        mistake(|c| set(first(c, "issuer"), "devices", "hsm-a"), &["devices", "invalid type"]),
        mistake(|c| set(first(c, "issuer"), "standbys", "1"), &["standbys", "invalid type"]),
        mistake(|c| set(first(c, "issuer"), "max_token_lifetime", 5), &["max_token_lifetime"]),
        mistake(|c| set(section(c, "limits"), "max_streams", -1), &["max_streams", "invalid"]),
        mistake(|c| set(section(c, "listen"), "grpc", "7443"), &["grpc", "invalid socket address"]),
        mistake(|c| set(first(c, "grant"), "role", "root"), &["role", "unknown variant"]),
        mistake(|c| set(first(c, "device"), "name", "HSM A"), &["HSM A"]),
        mistake(|c| set(first(c, "device"), "kind", "tpm3"), &["tpm3", "unknown variant"]),
    ]);
}

#[test]
fn what_makes_no_sense_is_named_by_key() {
    all_refused(&[
        mistake(
            |c| set(first(c, "issuer"), "devices", Vec::<Value>::new()),
            &["issuer.payments-tts.devices"],
        ),
        mistake(
            |c| set(first(c, "issuer"), "devices", vec![Value::from("hsm-z")]),
            &["issuer.payments-tts.devices", "hsm-z"],
        ),
        mistake(|c| set(first(c, "issuer"), "name", "Payments"), &["issuer", "Payments"]),
        mistake(|c| set(first(c, "issuer"), "algorithm", "HS256"), &["algorithm", "HS256"]),
        mistake(|c| set(first(c, "issuer"), "iss", ""), &["issuer.payments-tts.iss", "empty"]),
        mistake(
            |c| set(first(c, "issuer"), "audience", Vec::<Value>::new()),
            &["issuer.payments-tts.audience"],
        ),
        mistake(|c| set(first(c, "issuer"), "standbys", 4), &["standbys", "1 to 3"]),
        mistake(|c| set(c, "issuer", Vec::<Value>::new()), &["issuer", "none"]),
        mistake(|c| set(c, "device", Vec::<Value>::new()), &["device", "none"]),
        mistake(
            |c| {
                let twice = c["issuer"][0].clone();
                c["issuer"].as_array_mut().unwrap().push(twice);
            },
            &["issuer.payments-tts", "twice"],
        ),
        mistake(|c| set(first(c, "device"), "model", "luna"), &["device.hsm-a", "luna"]),
        mistake(
            |c| set(first(c, "device"), "token_serial", "1f"),
            &["device.hsm-a", "token_label and token_serial"],
        ),
        mistake(
            |c| {
                c.remove("dev");
                set(first(c, "device"), "pin", toml! { env = "PIN" });
            },
            &["device.hsm-a", "dev"],
        ),
        mistake(|c| section(c, "listen").retain(|name, _| name == "jwks"), &["listen", "unix"]),
        mistake(|c| _ = c.remove("tls"), &["listen.grpc", "[tls]"]),
        mistake(
            |c| set(section(c, "tls"), "trust_domain", "not a domain"),
            &["tls.trust_domain", "not a domain"],
        ),
        mistake(
            |c| set(first(c, "grant"), "issuers", vec![Value::from("other")]),
            &["grant[0].issuers", "other"],
        ),
        mistake(|c| _ = first(c, "grant").remove("issuers"), &["grant[0].issuers", "missing"]),
        mistake(
            |c| set(first(c, "grant"), "to", vec![Value::from("spiffe://other.example/tts")]),
            &["grant[0].to", "trust domain"],
        ),
        mistake(|c| set(first(c, "grant"), "to", vec![Value::from("root@host")]), &["grant[0].to"]),
        mistake(
            |c| set(c["grant"][1].as_table_mut().unwrap(), "to", vec![Value::from("unix:uid=0")]),
            &["grant[1].to", "custodian", "certificate"],
        ),
        mistake(
            |c| _ = c["grant"][1].as_table_mut().unwrap().remove("person"),
            &["grant[1].person", "missing"],
        ),
        mistake(
            |c| _ = c.insert("approvals".into(), toml! { revoke = 2 }.into()),
            &["approvals.revoke", "needs 2 persons", "1 custodian (ada)", "add a [[grant]]"],
        ),
        mistake(
            |c| _ = c.insert("approvals".into(), toml! { suspend = 2 }.into()),
            &["approvals.suspend", "one person, at once"],
        ),
        mistake(
            |c| {
                let same = Value::from("a");
                let users = [("server".into(), same.clone()), ("worker".into(), same)];
                set(c, "users", Table::from_iter(users));
            },
            &["users", "same user"],
        ),
        mistake(|c| set(c, "users", toml! { server = "a" }), &["users.worker"]),
    ]);
}

#[test]
fn durations_that_are_zero_or_contradict_each_other_are_refused() {
    all_refused(&[
        mistake(
            |c| set(first(c, "issuer"), "max_token_lifetime", "0s"),
            &["issuer.payments-tts.max_token_lifetime", "zero"],
        ),
        mistake(
            |c| set(first(c, "issuer"), "max_token_lifetime", "5"),
            &["issuer.payments-tts.max_token_lifetime", "not a duration"],
        ),
        mistake(
            |c| set(first(c, "issuer"), "max_token_lifetime", "1500ms"),
            &["issuer.payments-tts.max_token_lifetime", "whole seconds"],
        ),
        mistake(
            |c| set(first(c, "issuer"), "max_token_lifetime", "90days"),
            &["issuer.payments-tts.max_token_lifetime", "longer"],
        ),
        mistake(
            |c| set(first(c, "issuer"), "jwks_max_age", "0m"),
            &["issuer.payments-tts.jwks_max_age", "zero"],
        ),
        // Longer than a verifier is assumed to keep a set.
        mistake(
            |c| set(first(c, "issuer"), "jwks_max_age", "2h"),
            &["issuer.payments-tts.jwks_max_age", "longer"],
        ),
        mistake(
            |c| set(first(c, "device"), "device_call_timeout", "0s"),
            &["device.hsm-a", "device_call_timeout"],
        ),
        mistake(
            |c| {
                let limits = toml! { default_deadline = "20s"
                max_deadline = "10s" };
                set(c, "limits", limits);
            },
            &["limits.default_deadline", "limits.max_deadline"],
        ),
        mistake(|c| set(section(c, "limits"), "drain", "0s"), &["limits.drain", "zero"]),
        mistake(|c| set(section(c, "limits"), "handshake", "-1s"), &["limits.handshake"]),
        mistake(
            |c| set(section(c, "limits"), "max_inflight_items", 1023),
            &["limits.max_inflight_items", "1024"],
        ),
        mistake(|c| set(section(c, "limits"), "max_connections", 0), &["limits.max_connections"]),
    ]);
}

#[test]
fn certificates_that_cannot_be_used_are_named() {
    all_refused(&[
        mistake(
            |c| set(section(c, "tls"), "certificate", "absent.crt"),
            &["tls.certificate", "absent.crt"],
        ),
        mistake(
            |c| set(section(c, "tls"), "private_key", "absent.key"),
            &["tls.private_key", "absent.key"],
        ),
        mistake(|c| set(section(c, "tls"), "client_ca", "absent.crt"), &["tls.client_ca"]),
        mistake(|c| set(section(c, "tls"), "certificate", "server.key"), &["tls.certificate"]),
        mistake(
            |c| set(section(c, "tls"), "private_key", "tts.key"),
            &["tls.private_key", "does not fit the certificate"],
        ),
    ]);
}

#[test]
fn a_missing_file_is_named() {
    let output = mintwarden(Path::new("/nonexistent/mintwarden.toml"), &[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(EXIT_CONFIG), "{said}");
    for named in ["/nonexistent/mintwarden.toml", "No such file", "--config"] {
        assert!(said.contains(named), "{said}");
    }
}

#[test]
fn a_good_configuration_passes_the_check_which_opens_nothing() {
    let appliance = Appliance::softhsm().prepare();
    let trace = appliance.token().login_trace();
    let output = mintwarden(&appliance.config(), &["--check"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("good (1 issuers, 1 devices)"), "{said}");
    assert!(!appliance.file("state").exists() && !appliance.file("api.sock").exists());
    assert_eq!(appliance.token().login_trace(), trace, "no login was tried");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut appliance = Appliance::softhsm()
        .with(move |config| set(section(config, "listen"), "jwks", address))
        .prepare();
    let log = appliance.file("log");
    // Whether it ends or tries again: it says why.
    let told = eventually("the port is named", async || {
        let said = fs::read_to_string(&log).unwrap_or_default();
        said.contains("listen.jwks").then_some(said)
    });
    tokio::select! {
        started = appliance.try_start() => drop(started.expect_err("it cannot serve")),
        said = told => assert!(said.contains("Address already in use"), "{said}"),
    }
}
