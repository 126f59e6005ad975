use aws_lc_rs::{digest, rand::SystemRandom, signature::*};
use criterion::{Criterion, criterion_group, criterion_main};
fn b(c: &mut Criterion) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = pair.public_key().as_ref().to_vec();
    let msg = vec![7u8; 700];
    let sig = pair.sign(&SystemRandom::new(), &msg).unwrap();
    let sig = sig.as_ref();
    let un = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point);
    let pa = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point).unwrap();
    let d = digest::digest(&digest::SHA256, &msg);
    c.bench_function("unparsed verify", |b| b.iter(|| un.verify(&msg, sig).unwrap()));
    c.bench_function("parse", |b| {
        b.iter(|| ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point).unwrap())
    });
    c.bench_function("parsed verify_sig", |b| b.iter(|| pa.verify_sig(&msg, sig).unwrap()));
    c.bench_function("parsed verify_digest_sig", |b| {
        b.iter(|| pa.verify_digest_sig(&d, sig).unwrap())
    });
    c.bench_function("sha256 700", |b| b.iter(|| digest::digest(&digest::SHA256, &msg)));
}
criterion_group!(benches, b);
criterion_main!(benches);
