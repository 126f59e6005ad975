//! What counting costs a batch of 64, and a scrape.

use std::{hint::black_box, path::Path, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mintwarden::{
    config::Config,
    telemetry::metrics::{Registered, Stage, encode},
};
use mintwarden_worker::wire::Facts;

const BATCH: usize = 64;

const CONFIG: &str = r#"
    state_dir = "state"
    listen = { unix = "api.sock" }
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

fn facts(workload: usize) -> Facts {
    Facts {
        txn: "97053963-771d-49cc-a4e3-000000000000".to_owned(),
        req_wl: format!("spiffe://trust-domain.example/workload-{workload}"),
        exp: 1_700_000_000,
        delegation_depth: 2,
    }
}

fn metrics(c: &mut Criterion) {
    let config = Config::parse(CONFIG, Path::new("/nonexistent/mintwarden.toml"));
    let config = config.expect("a good configuration");
    let Registered { metrics, registry } = Registered::new(&config);
    let issuer = config.issuers[0].name();
    let facts: Vec<_> = (0..BATCH).map(facts).collect();

    let mut group = c.benchmark_group(format!("metrics, batch of {BATCH}"));
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("count", |b| {
        b.iter(|| {
            let issuer = metrics.signing.of(black_box(issuer)).expect("configured");
            issuer.arrived(BATCH);
            for stage in [Stage::Admit, Stage::Queue, Stage::Device, Stage::Verify, Stage::Total] {
                issuer.passed(stage, black_box(Duration::from_micros(700)));
            }
            facts.iter().for_each(|facts| issuer.released_payload(facts));
            issuer.released("hsm-a", BATCH);
        });
    });
    group.finish();
    c.bench_function("metrics, scrape", |b| b.iter(|| encode(black_box(&registry))));
}

criterion_group!(benches, metrics);
criterion_main!(benches);
