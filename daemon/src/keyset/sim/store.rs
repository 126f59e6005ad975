use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mintwarden_worker::IssuerName;

use super::SimClock;
use crate::{
    keyset::{Keyset, proposal::Proposals},
    record::Entry,
    store::{Change, Store, StoreError},
};

/// Where a store fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::keyset) struct Cut {
    /// After so many more writes that succeed.
    pub(in crate::keyset) after: usize,
    /// Whether the write that fails is stored all the same.
    pub(in crate::keyset) stored: bool,
    /// Whether nothing can be read either from then on.
    pub(in crate::keyset) unreadable: bool,
}

/// What sees every write: the document before, and after.
pub(in crate::keyset) type Watch = Box<dyn Fn(Option<&Keyset>, &Keyset) + Send + Sync>;

/// A store in memory, which fails when told to.
#[derive(Clone)]
pub(in crate::keyset) struct Memory(Arc<Inner>);

struct Inner {
    stored: Mutex<Option<Keyset>>,
    proposals: Mutex<Option<Proposals>>,
    entries: Mutex<Vec<Entry>>,
    cut: Mutex<Option<Cut>>,
    has_cut: AtomicBool,
    /// How long each write takes.
    takes: Mutex<Option<(SimClock, Duration)>>,
    watch: Watch,
}

impl Memory {
    pub(in crate::keyset) fn new(stored: Option<Keyset>, watch: Watch) -> Self {
        Self(Arc::new(Inner {
            stored: Mutex::new(stored),
            proposals: Mutex::new(None),
            entries: Mutex::new(vec![]),
            cut: Mutex::new(None),
            has_cut: AtomicBool::new(false),
            takes: Mutex::new(None),
            watch,
        }))
    }

    pub(in crate::keyset) fn cut(&self, cut: Option<Cut>) {
        self.0.has_cut.store(false, Ordering::Relaxed);
        *self.0.cut.lock().expect("unpoisoned") = cut;
    }

    /// Each write takes so long from now on.
    pub(in crate::keyset) fn takes(&self, clock: &SimClock, time: Duration) {
        *self.0.takes.lock().expect("unpoisoned") = Some((clock.clone(), time));
    }

    /// Whether a write has failed since it was told to.
    pub(in crate::keyset) fn has_cut(&self) -> bool {
        self.0.has_cut.load(Ordering::Relaxed)
    }

    pub(in crate::keyset) fn stored(&self) -> Option<Keyset> {
        self.0.stored.lock().expect("unpoisoned").clone()
    }

    /// Whatever was stored is replaced behind everybody's back.
    pub(in crate::keyset) fn put(&self, stored: Option<Keyset>) {
        *self.0.stored.lock().expect("unpoisoned") = stored;
    }

    /// What is in the record.
    pub(in crate::keyset) fn entries(&self) -> Vec<Entry> {
        self.0.entries.lock().expect("unpoisoned").clone()
    }

    /// The same for one who panics already.
    pub(in crate::keyset) fn stored_whatever_happened(&self) -> Option<Keyset> {
        self.0.stored.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn readable(&self) -> Result<(), StoreError> {
        let unreadable = self.0.cut.lock().expect("unpoisoned").is_some_and(|cut| cut.unreadable);
        if unreadable && self.has_cut() {
            return Err(StoreError::Failed("it cannot be opened again".into()));
        }
        Ok(())
    }

    /// Whether this write fails, and then whether it is stored. Once failed, it fails on.
    fn fails(&self) -> Option<bool> {
        let mut cut = self.0.cut.lock().expect("unpoisoned");
        let cut = cut.as_mut()?;
        match cut.after.checked_sub(1) {
            Some(left) => {
                cut.after = left;
                None
            }
            None => {
                self.0.has_cut.store(true, Ordering::Relaxed);
                Some(std::mem::take(&mut cut.stored))
            }
        }
    }
}

impl Store for Memory {
    async fn load(&self, _issuer: &IssuerName) -> Result<Option<Keyset>, StoreError> {
        self.readable()?;
        Ok(self.stored())
    }

    async fn proposals(&self, issuer: &IssuerName) -> Result<Proposals, StoreError> {
        self.readable()?;
        let stored = self.0.proposals.lock().expect("unpoisoned").clone();
        Ok(stored.unwrap_or_else(|| Proposals::none(issuer.clone())))
    }

    async fn compare_and_swap(&self, change: Change<'_>) -> Result<(), StoreError> {
        let mut stored = self.0.stored.lock().expect("unpoisoned");
        let mut proposals = self.0.proposals.lock().expect("unpoisoned");
        let conflict = |expected, stored| {
            Err(StoreError::Conflict { issuer: change.issuer.clone(), expected, stored })
        };
        let version = stored.as_ref().map(|keyset| keyset.version);
        if let Some((expected, _)) = change.keyset.filter(|(expected, _)| *expected != version) {
            return conflict(expected, version);
        }
        let version = proposals.as_ref().map_or(0, |proposals| proposals.version);
        if let Some((expected, _)) = change.proposals.filter(|(expected, _)| *expected != version) {
            return conflict(Some(expected), Some(version));
        }
        let failed = self.fails();
        if failed != Some(false) {
            if let Some((_, next)) = change.keyset {
                (self.0.watch)(stored.as_ref(), next);
                *stored = Some(next.clone());
            }
            if let Some((_, next)) = change.proposals {
                *proposals = Some(next.clone());
            }
            self.0.entries.lock().expect("unpoisoned").extend_from_slice(change.entries);
        }
        if let Some((clock, time)) = &*self.0.takes.lock().expect("unpoisoned") {
            clock.advance(*time);
        }
        match failed {
            None => Ok(()),
            Some(_) => Err(StoreError::Failed("power cut".into())),
        }
    }
}
