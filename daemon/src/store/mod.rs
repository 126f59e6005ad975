//! Where keysets, proposals and the record are kept: the trait [`Store`], and [`Redb`] for one
//! appliance.

mod anchor;
mod file;
mod format;
mod log;
mod place;
mod redb_store;

use mintwarden_worker::IssuerName;

use crate::{
    keyset::{Keyset, proposal::Proposals},
    record::Entry,
};

pub use log::{Page, Span};
pub use redb_store::Redb;

/// What is written together or not at all (I8).
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// Whose documents.
    pub issuer: &'a IssuerName,
    /// The next keyset, for one of this version (`None`: where there is none).
    pub keyset: Option<(Option<u64>, &'a Keyset)>,
    /// The next proposals, for those of this version (0: where there are none).
    pub proposals: Option<(u64, &'a Proposals)>,
    /// What is added to the record.
    pub entries: &'a [Entry],
}

impl<'a> Change<'a> {
    /// Of a keyset alone.
    #[must_use]
    pub fn of_keyset(expected: Option<u64>, next: &'a Keyset) -> Self {
        let keyset = Some((expected, next));
        Self { issuer: &next.issuer, keyset, proposals: None, entries: &[] }
    }
}

/// Keeps one keyset per issuer and its proposals, and changes them only by compare-and-swap (I8).
pub trait Store: Send + Sync {
    /// The keyset as stored last, `None` if there never was one.
    fn load(
        &self,
        issuer: &IssuerName,
    ) -> impl Future<Output = Result<Option<Keyset>, StoreError>> + Send;

    /// The proposals as stored last; an empty document of version 0 if there never were any.
    fn proposals(
        &self,
        issuer: &IssuerName,
    ) -> impl Future<Output = Result<Proposals, StoreError>> + Send;

    /// Makes a change, all of it in one transaction, durably: once this returns, a power cut does not
    /// undo it.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if a stored version is another; then nothing changed.
    fn compare_and_swap(
        &self,
        change: Change<'_>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Why the store did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another server has the store open.
    #[error("{0} is in use by another server: one state directory serves one appliance")]
    InUse(String),
    /// The stored version is not the expected one.
    #[error("the keyset of {issuer} is at version {stored:?}, not {expected:?}")]
    Conflict {
        /// The issuer.
        issuer: IssuerName,
        /// What was expected.
        expected: Option<u64>,
        /// What is stored.
        stored: Option<u64>,
    },
    /// What is stored is not a keyset that this version understands.
    #[error("the stored keyset of {issuer} cannot be read: {why}")]
    Unreadable {
        /// The issuer.
        issuer: IssuerName,
        /// What is wrong.
        why: String,
    },
    /// The file does not hold what a store holds. It is kept as it is.
    #[error(
        "the store is damaged: {0}; move the file away for a look and restore it from a backup \
         (a custodian then says `recover`)"
    )]
    Damaged(String),
    /// The disk failed, or is full: nothing more can be done with the file before it is opened again.
    #[error("the store failed: {0}")]
    Disk(String),
    /// Something else failed.
    #[error("the store failed: {0}")]
    Failed(String),
}
