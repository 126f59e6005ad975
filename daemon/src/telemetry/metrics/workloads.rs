//! Issuance by requesting workload (`req_wl`): the one label whose values callers choose.
//!
//! The workloads that the issuer is limited to have a place each. Of others the first ones that are seen
//! get one, as many as configured, until the server starts anew; the rest is counted together.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use prometheus_client::metrics::{counter::Counter, family::Family};

use super::Labels;

/// What has no place of its own. No name that a workload has looks like this: see [`label`].
const OTHERS: &str = "(others)";
/// A payload without `req_wl`, where the issuer does not require it.
const NONE: &str = "(none)";
/// Longest name that is shown as it is, bytes.
const MAX_NAME: usize = 80;
/// How much of a longer one is shown, before the hash of it.
const SHOWN: usize = 48;

/// Counts one issuer's signatures by `req_wl`.
#[derive(Debug)]
pub(super) struct Workloads {
    issuer: String,
    family: Family<Labels, Counter>,
    /// Places left for workloads that are not configured.
    left: Mutex<usize>,
    known: ArcSwap<HashMap<String, Counter>>,
    others: Counter,
}

impl Workloads {
    pub(super) fn new(
        issuer: &str,
        family: &Family<Labels, Counter>,
        configured: &[String],
        places: usize,
    ) -> Self {
        let counter = |name: &str| family.get_or_create_owned(&labels(issuer, name));
        let known = configured.iter().map(|name| {
            let name = label(name);
            let counter = counter(&name);
            (name, counter)
        });
        Self {
            issuer: issuer.to_owned(),
            known: ArcSwap::from_pointee(known.collect()),
            others: counter(OTHERS),
            family: family.clone(),
            left: Mutex::new(places),
        }
    }

    /// Counts one signature.
    pub(super) fn count(&self, req_wl: &str) {
        if is_plain(req_wl) {
            match self.known.load().get(req_wl) {
                Some(counter) => counter.inc(),
                None => self.take_place(req_wl.to_owned()).inc(),
            };
            return;
        }
        let name = label(req_wl);
        let known = self.known.load().get(&name).cloned();
        known.unwrap_or_else(|| self.take_place(name)).inc();
    }

    fn take_place(&self, name: String) -> Counter {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counter) = self.known.load().get(&name) {
            return counter.clone();
        }
        if *left == 0 {
            return self.others.clone();
        }
        *left -= 1;
        let counter = self.family.get_or_create_owned(&labels(&self.issuer, &name));
        let mut known = HashMap::clone(&self.known.load());
        known.insert(name, counter.clone());
        self.known.store(Arc::new(known));
        counter
    }
}

fn labels(issuer: &str, workload: &str) -> Labels {
    vec![("issuer", issuer.to_owned()), ("req_wl", workload.to_owned())]
}

/// Whether a name is shown as it is. Parentheses are ours.
fn is_plain(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'(' | b')'))
}

/// A name as it is shown: others than plain ones end in a hash of all of them.
fn label(name: &str) -> String {
    if name.is_empty() {
        return NONE.to_owned();
    }
    if is_plain(name) {
        return name.to_owned();
    }
    let plain = |c: char| if c.is_ascii_graphic() && c != '(' && c != ')' { c } else { '_' };
    let mut shown: String = name.chars().take(SHOWN).map(plain).collect();
    shown.push_str("(sha256:");
    let digest = digest::digest(&digest::SHA256, name.as_bytes());
    shown.push_str(&hex::encode(&digest.as_ref()[..8]));
    shown.push(')');
    shown
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    fn shown(family: &Family<Labels, Counter>) -> Vec<String> {
        let mut registry = Registry::default();
        registry.register("w", "W", family.clone());
        let text = super::super::encode(&registry);
        let mut lines: Vec<_> =
            text.lines().filter(|line| line.starts_with("w_total")).map(str::to_owned).collect();
        lines.sort();
        lines
    }

    #[test]
    fn i9_only_so_many_workloads_have_a_place_and_configured_ones_always() {
        let family = Family::default();
        let workloads = Workloads::new("a", &family, &["known".into()], 2);
        for n in 0..1000 {
            workloads.count(&format!("w{n}"));
            workloads.count("known");
            workloads.count("w0");
        }
        assert_eq!(
            shown(&family),
            [
                r#"w_total{issuer="a",req_wl="(others)"} 998"#,
                r#"w_total{issuer="a",req_wl="known"} 1000"#,
                r#"w_total{issuer="a",req_wl="w0"} 1001"#,
                r#"w_total{issuer="a",req_wl="w1"} 1"#,
            ]
        );
    }

    #[test]
    fn i9_where_none_has_a_place_they_are_counted_together() {
        let family = Family::default();
        let workloads = Workloads::new("a", &family, &[], 0);
        ["x", "y", ""].into_iter().for_each(|name| workloads.count(name));
        assert_eq!(shown(&family), [r#"w_total{issuer="a",req_wl="(others)"} 3"#]);
    }

    #[test]
    fn names_are_short_harmless_and_told_apart() {
        assert_eq!(
            label("spiffe://trust-domain.example/gateway"),
            "spiffe://trust-domain.example/gateway"
        );
        assert_eq!(label(""), "(none)");
        let long = |last: char| format!("{}{last}", "x".repeat(4000));
        assert_ne!(label(&long('a')), label(&long('b')));
        for awkward in [long('a'), "a\nb\"c\\".into(), "\u{202e}evil".into(), "(others)".into()] {
            let shown = label(&awkward);
            assert!(shown.len() <= MAX_NAME && shown.is_ascii(), "{shown}");
            assert!(shown.contains("(sha256:") && !shown.contains('\n'), "{shown}");
        }
    }

    #[test]
    fn counting_from_many_threads_loses_nothing() {
        let family = Family::default();
        let workloads = Workloads::new("a", &family, &[], 4);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let workloads = &workloads;
                scope.spawn(move || {
                    (0..1000).for_each(|n| workloads.count(&format!("w{}", (n + thread) % 16)));
                });
            }
        });
        let lines = shown(&family);
        let sum: u64 =
            lines.iter().map(|l| l.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum();
        assert_eq!((sum, lines.len()), (8000, 5), "{lines:?}");
    }
}
