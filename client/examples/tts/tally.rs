//! How the client joined exchanges into batches: for metrics; here it is logged when the program ends.

use std::sync::atomic::{AtomicU64, Ordering};

use mintwarden_client::observe::{Batch, Observer};

#[derive(Default)]
pub(crate) struct Tally {
    tokens: AtomicU64,
    batches: AtomicU64,
}

impl Tally {
    pub(crate) fn log(&self) {
        let [tokens, batches] = [&self.tokens, &self.batches].map(|n| n.load(Ordering::Relaxed));
        let mean = tokens as f64 / batches.max(1) as f64;
        tracing::info!(tokens, batches, mean = format!("{mean:.1}"), "signed");
    }
}

impl Observer for Tally {
    fn batch(&self, batch: &Batch<'_>) {
        self.tokens.fetch_add(batch.items as u64, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
    }
}
