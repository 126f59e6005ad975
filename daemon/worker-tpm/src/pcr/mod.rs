//! The state of the machine that keys are bound to, as its PCRs tell it: which state is accepted, and how a key's
//! policy is satisfied in the one that there is.
//!
//! A state is accepted because it was the first one, because an authority signed it off, or because a custodian said
//! so of the very state that was refused before. Nothing else makes the worker go on: what the server hands over has
//! no part in it.

mod findings;
mod signed_off;

use std::{path::Path, sync::Arc};

use mintwarden_attestation::{
    pcr::{Authority, KeyPolicy, PcrState, Selection, SignOff},
    tpm::Hash,
};
use mintwarden_hsm_config::{
    device::{self as config, PcrBank},
    name::DeviceName,
};
use mintwarden_worker::device::{Cause, DeviceError, Remedy};

use self::signed_off::SignedOff;
use crate::record::{Record, bounded};

/// Files with a sign-off of which an error says what is wrong with them, or which state they are for.
const MAX_TOLD: usize = 4;

/// What the keys of a device are bound to.
#[derive(Debug)]
pub(crate) struct Pcrs {
    device: DeviceName,
    selection: Selection,
    authority: Option<SignedOff>,
    record: Record<PcrState>,
    /// The sign-off that was found last.
    found: Option<Arc<SignOff>>,
}

/// How a key's policy is satisfied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The machine is in the state under which the key was made.
    Own,
    /// It is in one that the key's authority signed off.
    SignedOff(Arc<SignOff>),
}

impl Pcrs {
    /// Reads the authority's key, and which state is accepted.
    ///
    /// # Errors
    /// [`Cause::PcrUnusable`], to be parked.
    pub(crate) fn open(
        config: &config::Pcrs,
        device: &DeviceName,
        state_dir: &Path,
    ) -> Result<Self, DeviceError> {
        let bank = match config.bank {
            PcrBank::Sha256 => Hash::Sha256,
            PcrBank::Sha384 => Hash::Sha384,
            PcrBank::Sha512 => Hash::Sha512,
        };
        let selection = Selection::new(bank, &config.selection)
            .map_err(|error| unusable(format!("pcrs.selection: {error}")))?;
        let authority = config.authority.as_ref().map(|config| {
            let path = &config.public_key;
            let told = |problem: &dyn std::fmt::Display| {
                unusable(format!("pcrs.authority: {}: {problem}", path.display()))
            };
            let pem = bounded(path, Authority::MAX).map_err(|error| told(&error))?;
            let authority = Authority::parse(&pem).map_err(|error| told(&error))?;
            Ok(SignedOff::new(authority, config.signed_off.clone()))
        });
        let record = Record::open(state_dir.join("pcrs.json")).map_err(unusable)?;
        let device = device.clone();
        Ok(Self { device, selection, authority: authority.transpose()?, record, found: None })
    }

    /// Which PCRs they are.
    pub(crate) fn selection(&self) -> &Selection {
        &self.selection
    }

    /// What a new key asks for. The state is one that was accepted.
    pub(crate) fn policy(&self, accepted: PcrState) -> KeyPolicy {
        let authority = self.authority.as_ref().map(SignedOff::name);
        KeyPolicy { state: accepted, authority }
    }

    /// Accepts the state that the machine is in now, or not. `resume`: a custodian said `device resume`.
    ///
    /// # Errors
    /// [`Cause::PcrMismatch`], naming the PCRs that differ, or [`Cause::PcrUnusable`]; both to be parked.
    pub(crate) fn accept(&mut self, now: &PcrState, resume: bool) -> Result<(), DeviceError> {
        let Some(accepted) = self.record.accepted() else {
            tracing::warn!(pcrs = %self.selection, "keys are bound to the state of now, the first one");
            return self.record.accept(now).map_err(unusable);
        };
        let differing = accepted.differing(now);
        if differing.is_empty() {
            // The configuration may name other PCRs than before: of those nothing is known.
            return self.record.accept(now).map_err(unusable);
        }
        let which = pcrs(&differing, now);
        if self.sign_off(now).is_some() {
            tracing::warn!(
                differing = which,
                "the machine is in another state, which was signed off"
            );
            return self.record.accept(now).map_err(unusable);
        }
        let was_told = self.record.refused() == Some(now);
        if resume && was_told {
            tracing::warn!(
                differing = which,
                "the machine is in another state, which a custodian accepts"
            );
            return self.record.accept(now).map_err(unusable);
        }
        let mut detail = format!("{which} not as in the accepted state");
        if resume {
            detail.push_str(" (what was resumed was told of another state, or of none)");
        }
        detail = format!(
            "{detail}; nothing is signed or made here until the appliance is started in the accepted state, or a \
             custodian accepts this one: `mintwardenctl device resume {}`; both are in {}",
            self.device,
            self.record.path().display()
        );
        if let Err(problem) = self.record.refuse(now) {
            detail = format!("{detail}, to which this one could not be added: {problem}");
        }
        for told in self.no_sign_offs(now).into_iter().take(MAX_TOLD) {
            detail = format!("{detail}; {told}");
        }
        Err(DeviceError::new(Cause::PcrMismatch, Remedy::Park, detail))
    }

    /// How a key's policy is satisfied in an accepted state; `of_key` are the PCRs that the key is bound to.
    ///
    /// # Errors
    /// Why it is not, naming PCRs.
    pub(crate) fn way(
        &mut self,
        policy: &KeyPolicy,
        of_key: &PcrState,
        now: &PcrState,
    ) -> Result<Way, String> {
        own_way(policy, of_key).or_else(|why| {
            let ours = self.authority.as_ref().map(SignedOff::name);
            if policy.authority.is_none() || policy.authority != ours {
                return Err(why);
            }
            self.sign_off(now).map(Way::SignedOff).ok_or(why)
        })
    }

    /// Looks for sign-offs anew the next time: one may have been taken away.
    pub(crate) fn forget_sign_off(&mut self) {
        self.found = None;
    }

    /// The sign-off of this state, if there is one.
    fn sign_off(&mut self, now: &PcrState) -> Option<Arc<SignOff>> {
        if self.found.as_ref().is_none_or(|found| found.state() != now) {
            let signed_off = self.authority.as_ref()?.all().into_iter();
            let mut of_now = signed_off.filter_map(|(_, signed)| signed.ok());
            self.found = of_now.find(|signed| signed.state() == now).map(Arc::new);
        }
        self.found.clone()
    }

    /// Why each of the sign-offs that are there does not help.
    fn no_sign_offs(&self, now: &PcrState) -> Vec<String> {
        let all = self.authority.iter().flat_map(SignedOff::all);
        let told = all.map(|(name, signed)| match signed {
            Err(problem) => format!("{name}: {problem}"),
            Ok(signed) if signed.state().selection() != now.selection() => {
                format!("{name} names the PCRs {}", signed.state().selection())
            }
            Ok(signed) => {
                let differing = signed.state().differing(now);
                format!("{name} is for a state with another {}", pcrs(&differing, now))
            }
        });
        told.collect()
    }
}

/// How a key's policy is satisfied where nobody can sign anything off.
///
/// # Errors
/// Why it is not, naming PCRs.
pub(crate) fn own_way(policy: &KeyPolicy, of_key: &PcrState) -> Result<Way, String> {
    if policy.state == *of_key {
        return Ok(Way::Own);
    }
    let differing = policy.state.differing(of_key);
    Err(format!("it is bound to another state of the machine: {} differ", pcrs(&differing, of_key)))
}

/// `PCRs 4, 7 (sha256)`.
fn pcrs(which: &[u8], of: &PcrState) -> String {
    let numbers: Vec<_> = which.iter().map(u8::to_string).collect();
    let plural = if which.len() == 1 { "PCR" } else { "PCRs" };
    format!("{plural} {} ({})", numbers.join(", "), of.selection().bank().name())
}

fn unusable(detail: String) -> DeviceError {
    DeviceError::new(Cause::PcrUnusable, Remedy::Park, detail)
}

#[cfg(test)]
mod tests;
