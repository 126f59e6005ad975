//! Certificates while the server runs: replaced when their files are.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use tokio::{sync::watch, time::MissedTickBehavior};

use super::{Certificates, CertificatesError, files::Stamp};
use crate::{
    clock::{self, UnixTime},
    config::Tls,
    telemetry::metrics::Certificates as Metrics,
};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The certificates in use now, and what keeps newer ones from being used.
#[derive(Clone, Debug)]
pub struct LiveCertificates {
    current: watch::Receiver<Arc<Certificates>>,
    problem: Arc<ArcSwapOption<CertificatesError>>,
}

impl LiveCertificates {
    /// Starts to watch the files that `first` was loaded from.
    ///
    /// Files that have changed are taken over, all three together, once they have stood still from one
    /// look to the next. Files that cannot be used change nothing.
    #[must_use]
    pub fn start(files: Tls, first: Certificates, metrics: Metrics) -> Self {
        let (live, watcher) = Self::watched(files, first, metrics);
        tokio::spawn(watch(watcher));
        live
    }

    fn watched(files: Tls, first: Certificates, metrics: Metrics) -> (Self, Watcher) {
        let (sender, current) = watch::channel(Arc::new(first));
        let problem = Arc::<ArcSwapOption<_>>::default();
        let watcher = Watcher {
            files,
            seen: None,
            judged: None,
            current: sender,
            problem: Arc::clone(&problem),
            metrics,
        };
        (Self { current, problem }, watcher)
    }

    /// The certificates now.
    #[must_use]
    pub fn now(&self) -> Arc<Certificates> {
        Arc::clone(&self.current.borrow())
    }

    /// The certificates now and all that will follow.
    pub(in crate::listen) fn follow(&self) -> watch::Receiver<Arc<Certificates>> {
        self.current.clone()
    }

    /// Why the files cannot be used as they are; `None` where they are in use.
    #[must_use]
    pub fn problem(&self) -> Option<Arc<CertificatesError>> {
        self.problem.load_full()
    }

    /// What an operator should look at, in words. Names paths: not for everybody.
    #[must_use]
    pub fn alarms(&self) -> Vec<String> {
        let unusable = self.problem().map(|problem| {
            format!("the certificate files cannot be used, older ones are in use: {problem}")
        });
        unusable.into_iter().chain(self.now().ends_soon(clock::wall())).collect()
    }
}

impl Certificates {
    /// Whether the server's certificate holds.
    pub(crate) fn hold(&self, now: UnixTime) -> bool {
        (self.server.not_before..=self.server.not_after).contains(&now)
    }

    fn ends_soon(&self, now: UnixTime) -> Option<String> {
        if now < self.server.not_before {
            return Some("the server's certificate is not valid yet: no key matures by being published under it".to_owned());
        }
        if !self.server.ends_soon(now) {
            return None;
        }
        let left = self.server.not_after.0.saturating_sub(now.0);
        Some(match u64::try_from(left) {
            Ok(left @ 1..) => {
                let left = humantime::format_duration(Duration::from_secs(left));
                format!("the server's certificate ends in {left}: renew it")
            }
            _ => "the server's certificate has ended: renew it; no key matures by being published under it".to_owned(),
        })
    }

    /// A certificate that does not hold now never takes the place of another.
    fn holds(&self, files: &Tls, now: UnixTime) -> Result<(), CertificatesError> {
        let what = if now < self.server.not_before {
            "is not valid yet"
        } else if now > self.server.not_after {
            "has ended"
        } else {
            return Ok(());
        };
        Err(CertificatesError::new("certificate", &files.certificate, what))
    }
}

async fn watch(mut watcher: Watcher) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let look = tokio::task::spawn_blocking(move || {
            watcher.look(clock::wall());
            watcher
        });
        match look.await {
            Ok(back) if !back.current.is_closed() => watcher = back,
            Ok(_) => return,
            Err(error) => {
                tracing::error!(%error, "the certificate files are not watched any more");
                return;
            }
        }
    }
}

struct Watcher {
    files: Tls,
    /// How the files looked last.
    seen: Option<Stamp>,
    /// How the files looked that were read last.
    judged: Option<Stamp>,
    current: watch::Sender<Arc<Certificates>>,
    problem: Arc<ArcSwapOption<CertificatesError>>,
    metrics: Metrics,
}

impl Watcher {
    fn look(&mut self, now: UnixTime) {
        let stamp = Stamp::of(&self.files);
        if self.seen.as_ref() != Some(&stamp) {
            self.seen = Some(stamp);
            return; // Somebody may still be writing.
        }
        if self.judged.as_ref() == Some(&stamp) && self.problem.load().is_none() {
            return;
        }
        let loaded = Certificates::load(&self.files)
            .and_then(|new| new.holds(&self.files, now).map(|()| new));
        if Stamp::of(&self.files) != stamp {
            return; // What was read is not what is there.
        }
        self.judged = Some(stamp);
        match loaded {
            Ok(new) => self.take(new),
            Err(problem) => self.refuse(problem),
        }
    }

    fn take(&self, new: Certificates) {
        let mended = self.problem.swap(None).is_some();
        if !new.same_as(&self.current.borrow()) {
            tracing::info!(server_until = new.server.not_after.0, "certificates taken over");
            self.metrics.taken.inc();
            self.current.send_replace(Arc::new(new));
        } else if mended {
            tracing::info!("the certificate files are those in use again");
        }
    }

    fn refuse(&self, problem: CertificatesError) {
        let known = self.problem.load();
        if known.as_deref() != Some(&problem) {
            tracing::error!(%problem, "the certificate files cannot be used, older ones stay in use");
            self.metrics.refused.inc();
            self.problem.store(Some(Arc::new(problem)));
        }
    }
}

#[cfg(all(test, feature = "dev"))]
mod tests;
