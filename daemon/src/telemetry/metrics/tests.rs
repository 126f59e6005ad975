//! The list in docs/metrics.md is what a server really gives.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use super::*;
use crate::{
    admission::Admission,
    clock::UnixTime,
    dev::pki::Pki,
    keyset::{live::LiveIssuer, proposal::Quorum},
    launcher::control::{self, Upward},
    listen::{self, LiveCertificates},
    telemetry::metrics::observed::Parts,
    workers::Workers,
};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
const BEGIN: &str = "<!-- from here on written by `make docs` -->\n";

pub(super) fn config(directory: &Path) -> Config {
    let text = r#"
        state_dir = "state"
        [listen]
        grpc = "127.0.0.1:0"
        [tls]
        certificate = "server.crt"
        private_key = "server.key"
        client_ca = "ca.crt"
        trust_domain = "trust-domain.example"
        [[device]]
        name = "hsm-a"
        kind = "pkcs11"
        model = "softhsm2"
        token_label = "tts"
        pin = { file = "pin" }
        [[issuer]]
        name = "payments-tts"
        iss = "https://tts.trust-domain.example"
        devices = ["hsm-a"]
        audience = ["trust-domain.example"]
    "#;
    Config::parse(text, &directory.join("mintwarden.toml")).expect("a good configuration")
}

/// Everything that a server has before anything has happened.
fn scraped(directory: &Path) -> String {
    let pki = Pki::new(directory).expect("an authority");
    pki.server("server", &[]).expect("a certificate");
    let config = config(directory);
    let Registered { metrics, mut registry } = Registered::new(&config);
    let _kept_by_its_listener = metrics.listeners.of("grpc");
    let tls = config.tls.clone().expect("configured");
    let first = listen::Certificates::load(&tls).expect("good files");
    let (_launcher, server) = control::pair().expect("a pair of sockets");
    let parts = Parts {
        issuers: config
            .issuers
            .iter()
            .cloned()
            .map(|issuer| LiveIssuer::new(issuer, Quorum::default()))
            .map(Arc::new)
            .collect(),
        workers: Arc::new(Workers::new(&config.devices, &Upward::new(server))),
        admission: Arc::new(Admission::new(&config)),
        certificates: Some(LiveCertificates::start(tls, first, metrics.certificates.clone())),
        started_at: UnixTime(1_700_000_000),
    };
    observed::register(&mut registry, &config, parts);
    encode(&registry)
}

#[derive(Default)]
struct Family {
    help: String,
    kind: String,
    labels: Vec<String>,
    sampled: bool,
}

/// The families of an OpenMetrics text, by the names that their samples begin with.
fn families(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|l| l.split_once(' ')) {
            families.entry(name.to_owned()).or_default().help = help.to_owned();
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' '))
        {
            families.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else if !line.starts_with('#') {
            let end = line.find(['{', ' ']).expect("a sample has a value");
            let (name, rest) = line.split_at(end);
            let family = ["", "_total", "_info", "_sum", "_count", "_bucket"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix).filter(|n| families.contains_key(*n)))
                .unwrap_or_else(|| panic!("a sample of nothing: {line}"));
            let family = families.get_mut(family).expect("found just above");
            family.sampled = true;
            for label in rest.split('"').step_by(2).filter_map(|l| l.strip_suffix('=')) {
                let label = label.trim_start_matches([',', '{']).to_owned();
                if label != "le" && !family.labels.contains(&label) {
                    family.labels.push(label);
                }
            }
        }
    }
    families
}

fn table(text: &str) -> String {
    let mut table = "| name | type | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for (name, Family { help, kind, labels, .. }) in families(text) {
        let suffix = match &*kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let (labels, help) = (labels.join(", "), help.trim_end_matches('.'));
        let _infallible = writeln!(table, "| `{name}{suffix}` | {kind} | {labels} | {help} |");
    }
    table
}

#[tokio::test]
async fn generated_list_of_metrics_in_docs() {
    let directory = tempfile::tempdir().expect("a directory");
    let table = table(&scraped(directory.path()));
    let page = fs::read_to_string(PAGE).expect("docs/metrics.md");
    let (prose, listed) = page.split_once(BEGIN).expect("the line that the list begins after");
    #[expect(clippy::disallowed_methods, reason = "`make docs` asks through the environment")]
    let bless = std::env::var_os("MINTWARDEN_BLESS").is_some();
    if bless {
        fs::write(PAGE, format!("{prose}{BEGIN}\n{table}")).expect("docs/metrics.md");
        return;
    }
    let listed = listed.trim_start();
    let differs = listed.lines().zip(table.lines()).find(|(old, new)| old != new);
    assert!(
        listed == table,
        "docs/metrics.md is not what a server gives, at {differs:?}; if that is meant, `make docs` \
         writes it anew:\n{table}"
    );
}

#[tokio::test]
async fn every_metric_has_a_sample_from_the_start_and_a_name_by_the_conventions() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = scraped(directory.path());
    assert!(text.ends_with("# EOF\n"));
    for (name, family) in families(&text) {
        assert!(family.sampled, "{name} has no sample");
        assert!(name.starts_with("mintwarden_") || name.starts_with("process_"), "{name}");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
        assert!(!name.ends_with("_total"), "{name}: the encoder adds it");
        assert!(!family.help.trim_end_matches('.').is_empty(), "{name}");
    }
}
