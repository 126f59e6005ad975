//! Which storage key the TPM has.
//!
//! Sessions are salted for it, so that whoever answers with a storage key of his own learns what they encrypt:
//! the authorisation values of issuers' keys. The first storage key is accepted, and no other one is given a
//! session before a custodian has accepted it.

use std::path::Path;

use mintwarden_hsm_config::{device::PersistentHandle, name::DeviceName};
use mintwarden_worker::device::{Cause, DeviceError};
use serde::{Deserialize, Serialize};

use crate::record::Record;

/// The storage key that is accepted.
#[derive(Debug)]
pub(crate) struct Parent {
    device: DeviceName,
    record: Record<StorageKey>,
}

/// A storage key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StorageKey {
    /// Its persistent handle; none of the one that is made from the template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    /// Its name (TPM 2.0 part 1 section 16), in hexadecimal.
    name: String,
}

impl Parent {
    /// Reads which one is accepted.
    ///
    /// # Errors
    /// [`Cause::StateUnusable`].
    pub(crate) fn open(device: &DeviceName, state_dir: &Path) -> Result<Self, DeviceError> {
        let record = Record::open(state_dir.join("parent.json")).map_err(unusable)?;
        Ok(Self { device: device.clone(), record })
    }

    /// Accepts the storage key that is there now, or not. `resume`: a custodian said `device resume`.
    ///
    /// # Errors
    /// [`Cause::ParentMismatch`], to be parked; [`Cause::StateUnusable`].
    pub(crate) fn accept(
        &mut self,
        handle: Option<PersistentHandle>,
        name: &[u8],
        resume: bool,
    ) -> Result<(), DeviceError> {
        let now =
            StorageKey { parent: handle.map(|handle| handle.to_string()), name: hex::encode(name) };
        let accepted = self.record.accepted();
        let other = match accepted {
            None => {
                tracing::warn!(name = now.name, "the TPM's storage key is accepted, the first one");
                false
            }
            // The operator named another one.
            Some(accepted) if accepted.parent != now.parent => {
                tracing::warn!(name = now.name, "another storage key is configured, and accepted");
                false
            }
            Some(accepted) => *accepted != now,
        };
        if !other {
            return self.record.accept(&now).map_err(unusable);
        }
        if resume && self.record.refused() == Some(&now) {
            tracing::warn!(name = now.name, "another storage key, which a custodian accepts");
            return self.record.accept(&now).map_err(unusable);
        }
        let before = accepted.map_or("", |accepted| &*accepted.name);
        let told_of_another =
            if resume { " (what was resumed was told of another one, or of none)" } else { "" };
        let mut detail = format!(
            "the TPM's storage key is {}, and was {before}{told_of_another}: the TPM was cleared or is another one, \
             and the keys in it are lost; or something answers in its place. Nothing is entrusted to it until the \
             one from before is back, or a custodian accepts this one: `mintwardenctl device resume {}`; both are in \
             {}",
            now.name,
            self.device,
            self.record.path().display()
        );
        if let Err(problem) = self.record.refuse(&now) {
            detail = format!("{detail}, to which this one could not be added: {problem}");
        }
        Err(DeviceError::of(Cause::ParentMismatch, detail))
    }
}

fn unusable(detail: String) -> DeviceError {
    DeviceError::of(Cause::StateUnusable, detail)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn open(directory: &Path) -> Result<Parent, DeviceError> {
        Parent::open(&"tpm-a".parse().expect("a name"), directory)
    }

    /// What a start makes of this storage key.
    fn start(directory: &Path, name: &[u8], resume: bool) -> Result<(), DeviceError> {
        open(directory)?.accept(None, name, resume)
    }

    #[test]
    fn i1_the_first_storage_key_is_accepted_and_another_by_a_custodian_who_was_told_of_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let start = |name: u8, resume| start(directory.path(), &[0, 11, name], resume);
        start(1, false).expect("the first one");
        start(1, false).expect("the same");
        let error = start(2, true).expect_err("nobody was told of it before");
        assert_eq!(error.cause, Cause::ParentMismatch);
        for word in ["000b02", "000b01", "mintwardenctl device resume tpm-a", "parent.json"] {
            assert!(error.detail.contains(word), "{word} is not in: {error}");
        }
        start(3, false).expect_err("another one again");
        start(2, true).expect_err("the last one that was told of is a third");
        start(2, false).expect_err("it is not accepted by any number of starts");
        start(2, true).expect("it is the one that was told of");
        start(2, false).expect("it is the accepted one now");
        start(1, true).expect_err("and the one from before is another");
        start(2, false).expect("it is back");
        start(1, true).expect_err("what was told of is forgotten once the accepted one was back");
    }

    #[test]
    fn a_parent_that_is_configured_anew_is_accepted() {
        let directory = tempfile::tempdir().expect("a directory");
        start(directory.path(), &[1], false).expect("the first one");
        let handle = || Some("0x81000001".parse::<PersistentHandle>().expect("a handle"));
        let mut parent = open(directory.path()).expect("a record");
        parent.accept(handle(), &[2], false).expect("the operator named it");
        parent.accept(handle(), &[3], false).expect_err("another key at the same handle");
    }

    #[test]
    fn i1_a_record_that_cannot_be_read_accepts_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        for bad in ["", "{}", r#"{"version":2,"accepted":{"name":"00"}}"#] {
            fs::write(directory.path().join("parent.json"), bad).expect("a file");
            let error = open(directory.path()).expect_err("it is no record");
            assert_eq!(error.cause, Cause::StateUnusable);
            assert!(error.detail.contains("put it back from a copy, or remove it"), "{error}");
        }
    }
}
