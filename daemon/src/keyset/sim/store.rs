use std::sync::{Arc, Mutex, PoisonError};

use mintwarden_worker::IssuerName;

use crate::{
    keyset::Keyset,
    store::{Store, StoreError},
};

/// Where a store fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::keyset) struct Cut {
    /// After so many more writes that succeed.
    pub(in crate::keyset) after: usize,
    /// Whether the write that fails is stored all the same.
    pub(in crate::keyset) stored: bool,
}

/// What sees every write: the document before, and after.
pub(in crate::keyset) type Watch = Box<dyn Fn(Option<&Keyset>, &Keyset) + Send + Sync>;

/// A store in memory, which fails when told to.
#[derive(Clone)]
pub(in crate::keyset) struct Memory(Arc<Inner>);

struct Inner {
    stored: Mutex<Option<Keyset>>,
    cut: Mutex<Option<Cut>>,
    watch: Watch,
}

impl Memory {
    pub(in crate::keyset) fn new(stored: Option<Keyset>, watch: Watch) -> Self {
        Self(Arc::new(Inner { stored: Mutex::new(stored), cut: Mutex::new(None), watch }))
    }

    pub(in crate::keyset) fn cut(&self, cut: Option<Cut>) {
        *self.0.cut.lock().expect("unpoisoned") = cut;
    }

    pub(in crate::keyset) fn stored(&self) -> Option<Keyset> {
        self.0.stored.lock().expect("unpoisoned").clone()
    }

    /// The same for one who panics already.
    pub(in crate::keyset) fn stored_whatever_happened(&self) -> Option<Keyset> {
        self.0.stored.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
            None => Some(std::mem::take(&mut cut.stored)),
        }
    }
}

impl Store for Memory {
    async fn load(&self, _issuer: &IssuerName) -> Result<Option<Keyset>, StoreError> {
        Ok(self.stored())
    }

    async fn compare_and_swap(
        &self,
        expected: Option<u64>,
        next: &Keyset,
    ) -> Result<(), StoreError> {
        let mut stored = self.0.stored.lock().expect("unpoisoned");
        let version = stored.as_ref().map(|keyset| keyset.version);
        if version != expected {
            let issuer = next.issuer.clone();
            return Err(StoreError::Conflict { issuer, expected, stored: version });
        }
        let failed = self.fails();
        if failed != Some(false) {
            (self.0.watch)(stored.as_ref(), next);
            *stored = Some(next.clone());
        }
        match failed {
            None => Ok(()),
            Some(_) => Err(StoreError::Failed("power cut".into())),
        }
    }
}
