//! What keys that are bound to PCRs need of a connection: PCRs as they are, and signatures in a policy session.

use std::collections::BTreeMap;

use mintwarden_attestation::{
    pcr::{KeyPolicy, PcrState, Policy, REFERENCE, Selection, SignOff},
    tpm::{Hash, Public as Area},
};
use mintwarden_worker::{
    Algorithm,
    device::{Cause, DeviceError, KeyHandle, Remedy},
};
use tss_esapi::{
    Error,
    constants::response_code::Tss2ResponseCodeKind as Rc,
    handles::KeyHandle as Loaded,
    interface_types::{
        algorithm::HashingAlgorithm,
        resource_handles::Hierarchy,
        session_handles::{AuthSession, PolicySession},
    },
    structures::{
        Data, Digest, DigestList, EccParameter, EccSignature, Name, Nonce, PcrSelectSize,
        PcrSelectionList, PcrSlot, Public, PublicKeyRsa, RsaSignature, Signature, SignatureScheme,
        VerifiedTicket,
    },
    traits::UnMarshall as _,
    tss2_esys::TPMT_TK_VERIFIED,
};

use super::{Connection, Proof, raw_signature, unchecked_hash};
use crate::{
    command,
    fault::{fault, is_refused, tpm_code},
    pcr::Way,
};

/// What became of an attempt to sign with a key that is bound to PCRs.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// It signed.
    Signed(Vec<u8>),
    /// The PCRs are others than this way to satisfy the policy asks for.
    OtherState,
    /// A PCR was extended meanwhile, whichever it was (`TPM_RC_PCR_CHANGED`).
    Interrupted,
}

/// A key, what it signs and how its policy is satisfied.
pub(crate) struct Bound<'a> {
    pub(crate) handle: &'a KeyHandle,
    pub(crate) loaded: Loaded,
    pub(crate) policy: &'a KeyPolicy,
    pub(crate) way: &'a Way,
}

/// A sign-off that the TPM has verified. Its ticket holds until the owner hierarchy is cleared.
#[derive(Clone)]
pub(super) struct Verified {
    signature: Vec<u8>,
    ticket: TPMT_TK_VERIFIED,
}

impl Connection {
    /// What the PCRs hold now.
    ///
    /// # Errors
    /// [`Cause::PcrUnusable`] where the TPM does not have them, or as the TPM gives them.
    pub(crate) fn read_pcrs(&mut self, selection: &Selection) -> Result<PcrState, DeviceError> {
        let doing = "reading PCRs";
        let failed = |error: Error| fault(doing, &error);
        let mut values = BTreeMap::new();
        loop {
            let left = selection.pcrs().iter().copied().filter(|pcr| !values.contains_key(pcr));
            let left: Vec<_> = left.collect();
            let Some(first) = left.first() else { break };
            let asked = list(selection.bank(), &left).map_err(failed)?;
            // Eight at most come at once.
            let (_, told, digests) = command::run(self.context(), doing, |context| {
                context.execute_without_session(|context| context.pcr_read(asked.clone()))
            })?;
            let told = told.get_selections().iter().flat_map(|of_bank| of_bank.selected());
            let slots: Vec<_> = told.map(u32::from).collect();
            let read = values.len();
            // One bit of a slot is set: its number fits.
            let numbers = slots
                .iter()
                .map(|slot| u8::try_from(slot.trailing_zeros()).expect("a number up to 32"));
            let found = numbers.zip(digests.value()).filter(|(pcr, _)| left.contains(pcr));
            values.extend(found.map(|(pcr, digest)| (pcr, digest.value().to_vec())));
            if values.len() == read {
                let bank = selection.bank().name();
                let detail = format!(
                    "the TPM has no PCR {first} in a {bank} bank: `tpm2_getcap pcrs` shows what it has, and \
                     tpm2_pcrallocate changes it"
                );
                return Err(DeviceError::new(Cause::PcrUnusable, Remedy::Park, detail));
            }
        }
        PcrState::new(selection.bank(), values).map_err(|error| {
            let detail = format!("{doing}: {error}");
            DeviceError::new(Cause::Malformed, Remedy::Restart, detail)
        })
    }

    /// Shows the TPM that the authorisation value is the key's. A key that is bound to PCRs is not *used* with it
    /// alone, but it may be certified (role ADMIN): by nobody, without a signature.
    pub(crate) fn prove_bound(&mut self, loaded: Loaded) -> Result<Proof, Error> {
        let sessions = (Some(self.session), Some(AuthSession::Password), None);
        let proven = command::raw(self.context(), |context| {
            context.execute_with_sessions(sessions, |context| {
                let nobody = Loaded::Null;
                context.certify(loaded.into(), nobody, Data::default(), SignatureScheme::Null)
            })
        });
        match proven {
            Ok(_) => Ok(Proof::Right),
            Err(error) if is_refused(&error) => Ok(Proof::Refused),
            Err(error) => Err(error),
        }
    }

    /// Signs a digest in a salted policy session of its own; the scheme is the key's own.
    pub(crate) fn sign_bound(
        &mut self,
        key: &Bound<'_>,
        algorithm: Algorithm,
        digest: &[u8],
        length: usize,
    ) -> Result<Attempt, DeviceError> {
        let digest = Digest::try_from(digest).map_err(|error| fault("signing", &error))?;
        let ticket = match key.way {
            Way::Own => None,
            Way::SignedOff(sign_off) => Some(self.verified(key, sign_off)?),
        };
        self.with_salted_policy_session(|connection, session| {
            if !connection.satisfy(key, session, ticket)? {
                return Ok(Attempt::OtherState);
            }
            let signed = command::raw(connection.context(), |context| {
                let ticket = unchecked_hash()?;
                context.execute_with_session(Some(AuthSession::from(session)), |context| {
                    context.sign(key.loaded, digest.clone(), SignatureScheme::Null, ticket)
                })
            });
            match signed {
                Ok(signature) => raw_signature(&signature, algorithm, length).map(Attempt::Signed),
                Err(error) if tpm_code(&error) == Some(Rc::PcrChanged) => Ok(Attempt::Interrupted),
                Err(error) => Err(fault("signing", &error)),
            }
        })
    }

    /// Satisfies a key's policy. `false`: the PCRs are others.
    fn satisfy(
        &mut self,
        key: &Bound<'_>,
        session: PolicySession,
        ticket: Option<TPMT_TK_VERIFIED>,
    ) -> Result<bool, DeviceError> {
        let doing = "satisfying a key's policy";
        let failed = |error: Error| fault(doing, &error);
        let state = match key.way {
            Way::Own => &key.policy.state,
            Way::SignedOff(sign_off) => sign_off.state(),
        };
        let selection = state.selection();
        let selected = list(selection.bank(), selection.pcrs()).map_err(failed)?;
        let values = Digest::try_from(Policy::values(state)).map_err(failed)?;
        let shown = command::raw(self.context(), |context| {
            context.execute_without_session(|context| {
                context.policy_pcr(session, values.clone(), selected.clone())
            })
        });
        match shown {
            Ok(()) => {}
            Err(error) if is_other_value(&error) => return Ok(false),
            Err(error) => return Err(failed(error)),
        }
        if let Some(ticket) = ticket {
            let authority = key.policy.authority.as_ref().map(|name| name.to_bytes());
            let authority = Name::try_from(authority.unwrap_or_default()).map_err(failed)?;
            let approved = digest_of(&Policy::pcr(state)).map_err(failed)?;
            command::run(self.context(), doing, |context| {
                let ticket = VerifiedTicket::try_from(ticket)?;
                let reference = Nonce::try_from(REFERENCE)?;
                context.execute_without_session(|context| {
                    context.policy_authorize(
                        session,
                        approved.clone(),
                        reference,
                        &authority,
                        ticket,
                    )
                })
            })?;
        }
        if let Some(branches) = key.policy.branches() {
            let mut digests = DigestList::new();
            for branch in &branches {
                digest_of(branch).and_then(|digest| digests.add(digest)).map_err(failed)?;
            }
            command::run(self.context(), doing, |context| {
                context
                    .execute_without_session(|context| context.policy_or(session, digests.clone()))
            })?;
        }
        command::run(self.context(), doing, |context| {
            context.execute_without_session(|context| context.policy_auth_value(session))
        })?;
        Ok(true)
    }

    /// The ticket of a sign-off: the TPM has to see the authority's signature itself (TPM2_VerifySignature).
    fn verified(
        &mut self,
        key: &Bound<'_>,
        sign_off: &SignOff,
    ) -> Result<TPMT_TK_VERIFIED, DeviceError> {
        if let Some(verified) = &self.verified
            && verified.signature == sign_off.signature()
        {
            return Ok(verified.ticket);
        }
        let doing = "verifying a sign-off";
        let failed = |error: Error| fault(doing, &error);
        let area = sign_off.authority();
        let public = Public::unmarshall(&area.to_sized()[2..]).map_err(failed)?;
        let signature = signature(area, sign_off.signature()).map_err(failed)?;
        let statement = Hash::Sha256.digest(&SignOff::statement(sign_off.state()));
        let statement = Digest::try_from(statement).map_err(failed)?;
        let authority = self.with_room(Some(key.handle), |context| {
            // In the owner hierarchy, since one of none gives no ticket.
            context.execute_without_session(|context| {
                context.load_external_public(public.clone(), Hierarchy::Owner)
            })
        });
        let authority = authority.map_err(failed)?;
        let ticket = command::run(self.context(), doing, |context| {
            context.execute_without_session(|context| {
                context.verify_signature(authority, statement.clone(), signature.clone())
            })
        });
        let ticket = self.flushing(authority.into(), ticket)?;
        let ticket = TPMT_TK_VERIFIED::try_from(ticket).map_err(failed)?;
        let signature = sign_off.signature().to_vec();
        self.verified = Some(Verified { signature, ticket });
        Ok(ticket)
    }
}

impl std::fmt::Debug for Verified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verified(..)")
    }
}

/// Whether TPM2_PolicyPCR says that the PCRs are others, and not that its session is gone.
fn is_other_value(error: &Error) -> bool {
    tpm_code(error) == Some(Rc::Value) && fault("", error).cause != Cause::SessionLost
}

fn digest_of(policy: &Policy) -> Result<Digest, Error> {
    Digest::try_from(policy.as_bytes())
}

fn list(bank: Hash, pcrs: &[u8]) -> Result<PcrSelectionList, Error> {
    let bank = match bank {
        Hash::Sha256 => HashingAlgorithm::Sha256,
        Hash::Sha384 => HashingAlgorithm::Sha384,
        Hash::Sha512 => HashingAlgorithm::Sha512,
    };
    let slots = pcrs.iter().map(|pcr| PcrSlot::try_from(1_u32 << pcr));
    let slots = slots.collect::<Result<Vec<_>, _>>()?;
    PcrSelectionList::builder()
        .with_size_of_select(PcrSelectSize::ThreeOctets)
        .with_selection(bank, &slots)
        .build()
}

fn signature(authority: &Area, bytes: &[u8]) -> Result<Signature, Error> {
    let sha256 = HashingAlgorithm::Sha256;
    match authority.key() {
        mintwarden_attestation::tpm::Key::Ecc { .. } => {
            let (r, s) = bytes.split_at(bytes.len() / 2);
            let (r, s) = (EccParameter::try_from(r)?, EccParameter::try_from(s)?);
            EccSignature::create(sha256, r, s).map(Signature::EcDsa)
        }
        mintwarden_attestation::tpm::Key::Rsa { .. } => {
            RsaSignature::create(sha256, PublicKeyRsa::try_from(bytes)?).map(Signature::RsaSsa)
        }
    }
}
