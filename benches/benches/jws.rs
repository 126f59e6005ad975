//! Header, digests and verification: what surrounds a signature in worker and server.

use std::hint::black_box;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use criterion::{Criterion, criterion_group, criterion_main};
use mintwarden_tests::claims::trade;
use mintwarden_worker::{
    jwk::PublicJwk,
    jws::{self, ProtectedHeader},
};

fn jws(c: &mut Criterion) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key pair");
    let public = PublicJwk::from_sec1(pair.public_key().as_ref()).expect("a point of the curve");
    let header = ProtectedHeader::new(public.algorithm(), &public.kid());
    let payload = trade(0).to_json();
    let input = jws::signing_input(header.encoded(), &payload);
    let signature = pair.sign(&SystemRandom::new(), &input).expect("a signature");
    assert!(public.verifies(&input, signature.as_ref()));

    let mut group = c.benchmark_group("jws");
    group.bench_function("digest of a signing input", |b| {
        b.iter(|| header.begin(black_box(&payload)).digest(public.algorithm()));
    });
    group.bench_function("digests of a signing input and of its token", |b| {
        b.iter(|| {
            let input = header.begin(black_box(&payload));
            (input.digest(public.algorithm()), input.token_digest(signature.as_ref()))
        });
    });
    group.bench_function("assembly of a signing input", |b| {
        b.iter(|| jws::signing_input(header.encoded(), black_box(&payload)));
    });
    group.bench_function("verification", |b| {
        b.iter(|| public.verifies(black_box(&input), signature.as_ref()));
    });
    group.finish();
}

criterion_group!(benches, jws);
criterion_main!(benches);
