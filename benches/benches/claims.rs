//! The claims check: what a worker does with a payload before it signs.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mintwarden_tests::{ISS, ISSUER, TRUST_DOMAIN, claims::trade};
use mintwarden_worker::{Algorithm, IssuerName, claims::Profile, clock};

fn profile() -> Profile {
    Profile {
        issuer: IssuerName::parse(ISSUER).expect("a valid name"),
        iss: ISS.to_owned(),
        key: Algorithm::ES256.into(),
        audience: vec![TRUST_DOMAIN.to_owned()],
        required: Profile::DEFAULT_REQUIRED.map(str::to_owned).to_vec(),
        max_token_lifetime: Profile::DEFAULT_MAX_TOKEN_LIFETIME,
        skew: Profile::DEFAULT_SKEW,
        max_claims_bytes: Profile::DEFAULT_MAX_CLAIMS_BYTES,
        max_act_depth: Profile::DEFAULT_MAX_ACT_DEPTH,
        req_wl: Vec::new(),
    }
}

fn claims(c: &mut Criterion) {
    let (profile, payload, now) = (profile(), trade(0).to_json(), clock::wall());
    profile.check(&payload, now).expect("a typical payload is within the profile");
    let mut group = c.benchmark_group("claims");
    group.throughput(Throughput::Bytes(payload.len() as u64));
    group.bench_function("check of a typical payload", |b| {
        b.iter(|| profile.check(black_box(&payload), now).map(|claims| claims.into_facts()));
    });
    group.finish();
}

criterion_group!(benches, claims);
criterion_main!(benches);
