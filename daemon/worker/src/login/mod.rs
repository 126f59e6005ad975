//! The record of a login that did not clearly succeed (invariant I10).
//!
//! Devices lock a PIN after a few wrong ones, and a worker is started again whenever it dies. So a
//! marker is on disk before each login and goes away only after the login clearly succeeded. A start
//! that finds the marker makes no attempt, however often it is made, until an operator says `device
//! resume` or the PIN is another one:
//!
//! - `pending`: nobody knows how the login ended (a crash, a kill, a power cut). The PIN counts as
//!   another one when its file has changed. Where the PIN comes from elsewhere, only `device resume`
//!   helps.
//! - `failed`: the device refused. The marker has a salted, slow hash of the PIN, and another PIN is
//!   tried once.
//!
//! A marker that cannot be read counts as one that says no.

mod marker;

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use mintwarden_hsm_config::{name::DeviceName, pin::Pin};

use self::marker::{Login, Marker, MarkerFile};
use crate::device::{Cause, DeviceError, Remedy};

/// The record of one device's logins, in its worker's own directory.
#[derive(Debug)]
pub struct Ledger {
    file: MarkerFile,
    device: DeviceName,
}

impl Ledger {
    /// The record in `state_dir`, which is made (mode 0700) where it is absent.
    ///
    /// # Errors
    /// [`Cause::StateUnusable`] if the directory cannot be made.
    pub fn open(state_dir: &Path, device: DeviceName) -> Result<Self, DeviceError> {
        DirBuilder::new().recursive(true).mode(0o700).create(state_dir).map_err(|error| {
            let detail = format!("{}: {error}; no login was attempted", state_dir.display());
            DeviceError::of(Cause::StateUnusable, detail)
        })?;
        Ok(Self { file: MarkerFile::new(state_dir), device })
    }

    /// Allows one login with `pin` and records that it is about to be made. `resume`: an operator
    /// said `device resume`.
    ///
    /// # Errors
    /// - [`Cause::LoginPending`], to be parked: an earlier login did not clearly succeed, or the
    ///   record cannot be read.
    /// - [`Cause::StateUnusable`]: the record cannot be written; no login may be made.
    pub fn begin<'a>(
        &'a self,
        pin: &'a Pin,
        resume: bool,
    ) -> Result<PendingLogin<'a>, DeviceError> {
        if !resume {
            self.may_try(pin)?;
        }
        let pending = Marker::pending(pin.identity());
        self.file.write(&pending).map_err(|error| {
            let detail = format!("{error}; no login was attempted");
            DeviceError::of(Cause::StateUnusable, detail)
        })?;
        Ok(PendingLogin { ledger: self, pin })
    }

    /// Allows tries of `secret` in a device that counts none, e.g. a TPM with keys outside of its
    /// dictionary-attack protection: what is cut short has cost nothing, so that nothing is recorded
    /// before. A clear refusal is, as ever.
    ///
    /// # Errors
    /// [`Cause::LoginPending`], to be parked: the device refused this secret before.
    pub fn begin_uncounted(&self, secret: &Pin, resume: bool) -> Result<(), DeviceError> {
        if resume { Ok(()) } else { self.may_try(secret) }
    }

    /// Ends tries of `secret` that counted nothing. Returns the error to hand on for a refusal:
    /// [`Cause::LoginFailed`], to be parked.
    ///
    /// # Errors
    /// As described, or [`Cause::StateUnusable`] if an earlier record cannot be removed.
    pub fn end_uncounted(&self, secret: &Pin, refused: Option<&str>) -> Result<(), DeviceError> {
        let pending = PendingLogin { ledger: self, pin: secret };
        match refused {
            Some(reason) => Err(pending.failed(reason)),
            None => match self.file.read() {
                Ok(None) => Ok(()),
                _ => pending.succeeded(),
            },
        }
    }

    /// Where the record is, for messages and `doctor`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.file.path().to_owned()
    }

    fn may_try(&self, pin: &Pin) -> Result<(), DeviceError> {
        let reason = match self.file.read() {
            Ok(None) => return Ok(()),
            Ok(Some(marker)) => match marker.login {
                Login::Failed(failed) if !failed.is_for(pin) => return Ok(()),
                Login::Failed(_) => "the device refused an earlier login with this PIN".to_owned(),
                Login::Pending { file: Some(then) }
                    if pin.identity().is_some_and(|now| now != then) =>
                {
                    return Ok(());
                }
                Login::Pending { .. } => {
                    "an earlier login was under way when its worker ended".to_owned()
                }
            },
            Err(error) => format!("the record of logins cannot be read: {error}"),
        };
        let detail = format!("{reason}; no login was attempted; {}", self.way_out());
        Err(DeviceError::of(Cause::LoginPending, detail))
    }

    fn way_out(&self) -> String {
        format!(
            "check the PIN and the device's count of wrong PINs, then change the PIN file or say \
             `mintwardenctl device resume {}`",
            self.device
        )
    }
}

/// A login that is recorded as under way. Dropped without a word, it stays so.
#[derive(Debug)]
#[must_use = "say how the login ended, or no other one is made"]
pub struct PendingLogin<'a> {
    ledger: &'a Ledger,
    pin: &'a Pin,
}

impl PendingLogin<'_> {
    /// The device clearly accepted the login: the record is cleared.
    ///
    /// # Errors
    /// [`Cause::StateUnusable`], to be parked: the record cannot be removed, so that the next start
    /// would be parked. Better loud now than by surprise then.
    pub fn succeeded(self) -> Result<(), DeviceError> {
        self.ledger.file.remove().map_err(|error| {
            let detail = format!("the login succeeded, but its record cannot be removed: {error}");
            DeviceError::new(Cause::StateUnusable, Remedy::Park, detail)
        })
    }

    /// The login ended in any other way, as `reason` says. The record then tells this PIN from
    /// another one. Returns the error to hand on: [`Cause::LoginFailed`], to be parked.
    #[must_use]
    pub fn failed(self, reason: &str) -> DeviceError {
        let mut detail = format!("{reason}; it is not repeated; {}", self.ledger.way_out());
        // Where this fails, the marker still says `pending`, which parks just as well.
        if let Err(error) = self.ledger.file.write(&Marker::failed(self.pin)) {
            detail = format!("{detail} (and the record of it cannot be completed: {error})");
        }
        DeviceError::of(Cause::LoginFailed, detail)
    }
}

#[cfg(test)]
mod tests;
