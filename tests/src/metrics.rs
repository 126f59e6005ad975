//! What `/metrics` says.

use std::collections::BTreeMap;

use crate::Appliance;

/// The samples of one scrape.
#[derive(Clone, Debug)]
pub struct Metrics {
    text: String,
    samples: BTreeMap<String, f64>,
}

impl Metrics {
    /// The value of a sample, written as it is in the text, e.g. `mintwarden_keys{issuer="a",…}`.
    ///
    /// # Panics
    /// If there is no such sample.
    #[must_use]
    pub fn value(&self, sample: &str) -> f64 {
        *self.samples.get(sample).unwrap_or_else(|| panic!("no sample {sample}:\n{}", self.text))
    }

    /// All samples whose text begins so.
    pub fn beginning_with(&self, name: &str) -> impl Iterator<Item = (&str, f64)> {
        self.samples
            .iter()
            .filter(move |(sample, _)| sample.starts_with(name))
            .map(|(sample, value)| (sample.as_str(), *value))
    }
}

impl Appliance {
    /// Scrapes it.
    ///
    /// # Panics
    /// If that gives no OpenMetrics text.
    pub async fn metrics(&self) -> Metrics {
        let answer = self.https().get(self.ops_url("/metrics")).send().await.expect("an answer");
        let kind = answer.headers()["content-type"].to_str().expect("ASCII").to_owned();
        assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
        let text = answer.text().await.expect("a text");
        assert!(text.ends_with("# EOF\n"), "{text}");
        let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (sample, value) = line.rsplit_once(' ').expect("a sample has a value");
            (sample.to_owned(), value.parse().expect("a number"))
        });
        let samples = samples.collect();
        Metrics { text, samples }
    }
}
