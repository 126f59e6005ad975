//! Where keysets are kept: the trait [`Store`], and [`Redb`] for one appliance.

mod format;
mod place;
mod redb_store;

use mintwarden_worker::IssuerName;

use crate::keyset::Keyset;

pub use redb_store::Redb;

/// Keeps one keyset per issuer and changes it only by compare-and-swap (I8).
pub trait Store: Send + Sync {
    /// The keyset as stored last, `None` if there never was one.
    fn load(
        &self,
        issuer: &IssuerName,
    ) -> impl Future<Output = Result<Option<Keyset>, StoreError>> + Send;

    /// Replaces the keyset with version `expected` (`None`: where there is none) by `next`, durably:
    /// once this returns, a power cut does not undo it.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the stored version is another; then nothing changed.
    fn compare_and_swap(
        &self,
        expected: Option<u64>,
        next: &Keyset,
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
    /// The file or the disk failed.
    #[error("the store failed: {0}")]
    Failed(String),
}
