//! The wire between server and worker: encoding and decoding of a batch of 64.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use mintwarden_client::Bytes;
use mintwarden_tests::claims::trade;
use mintwarden_worker::wire::{
    Answer, Ask, Facts, FromWorker, Sign, SignItem, SignOutcome, Signature, Signed, ToWorker,
};
use prost::Message;

const BATCH: usize = 64;

fn request() -> ToWorker {
    ToWorker {
        id: 1,
        ask: Some(Ask::Sign(Sign {
            issuer: "payments-tts".to_owned(),
            handle: Bytes::from_static(&[7; 16]),
            claims: (0..BATCH as u64).map(|n| trade(n).to_json()).collect(),
            within_ms: 1000,
            caller: 0,
        })),
    }
}

fn answer() -> FromWorker {
    let item = SignItem {
        outcome: Some(SignOutcome::Signature(Signature {
            signature: Bytes::from_static(&[7; 64]),
            token_sha256: Bytes::from_static(&[7; 32]),
            facts: Facts {
                txn: "97053963-771d-49cc-a4e3-000000000000".to_owned(),
                req_wl: "spiffe://trust-domain.example/apigateway".to_owned(),
                exp: 1_700_000_000,
                delegation_depth: 0,
            },
        })),
    };
    FromWorker {
        id: 1,
        answer: Some(Answer::Signed(Signed {
            kid: "k".repeat(43),
            protected_header: "h".repeat(120),
            items: vec![item; BATCH],
            queued_us: 100,
            device_us: 10_000,
            sessions_busy: 4,
        })),
    }
}

fn both_ways<M: Message + Default>(c: &mut Criterion, name: &str, message: &M) {
    let encoded = Bytes::from(message.encode_to_vec());
    let mut group = c.benchmark_group(format!("wire, {name} of {BATCH}"));
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("encode", |b| b.iter(|| black_box(message).encode_to_vec()));
    group.bench_function("decode", |b| {
        // From `Bytes`, so that payloads are parts of the frame and not copies.
        b.iter_batched(|| encoded.clone(), M::decode, BatchSize::SmallInput);
    });
    group.finish();
}

fn wire(c: &mut Criterion) {
    both_ways(c, "request", &request());
    both_ways(c, "answer", &answer());
}

criterion_group!(benches, wire);
criterion_main!(benches);
