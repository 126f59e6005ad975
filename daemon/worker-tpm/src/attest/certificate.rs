//! An endorsement key's certificate in the TPM's non-volatile memory.

use mintwarden_worker::device::{DeviceError, Remedy};
use tss_esapi::{
    Context, Error,
    attributes::NvIndexAttributes,
    constants::CapabilityType,
    handles::{NvIndexHandle, NvIndexTpmHandle, TpmHandle},
    interface_types::{resource_handles::NvAuth, session_handles::AuthSession},
    structures::CapabilityData,
};

use crate::{
    command,
    fault::{describe, fault, is_busy, tpm_code},
};

/// Bound on a certificate, bytes.
const MAX: u16 = 4096;
/// As much is read at once: every TPM has a buffer of that size.
const CHUNK: u16 = 512;

/// The certificate at this index; `None` where there is none that can be read.
pub(super) fn read(context: &mut Context, index: u32) -> Result<Option<Vec<u8>>, DeviceError> {
    let (handles, _) = command::run(context, "looking for a certificate", |context| {
        context.get_capability(CapabilityType::Handles, index, 1)
    })?;
    let there = |handle: &TpmHandle| u32::from(*handle) == index;
    if !matches!(handles, CapabilityData::Handles(handles) if handles.iter().any(there)) {
        return Ok(None);
    }
    let doing = "reading a certificate";
    let mut object = command::run(context, doing, |context| {
        context.tr_from_tpm_public(TpmHandle::NvIndex(NvIndexTpmHandle::new(index)?))
    })?;
    let read = contents(context, NvIndexHandle::from(object));
    command::run(context, doing, |context| context.tr_close(&mut object))?;
    match read {
        Ok(read) => Ok(read.and_then(whole)),
        Err(error) if is_unreadable(&error) => {
            tracing::debug!("the certificate at {index:#x} cannot be read: {}", describe(&error));
            Ok(None)
        }
        Err(error) => Err(fault(doing, &error)),
    }
}

/// Whether the TPM says no: an index that has a password, is locked or was never written has no certificate for
/// anybody who asks here, and says nothing against the TPM.
fn is_unreadable(error: &Error) -> bool {
    tpm_code(error).is_some()
        && !is_busy(error)
        && !matches!(fault("", error).remedy, Remedy::Reopen | Remedy::Restart)
}

fn contents(context: &mut Context, index: NvIndexHandle) -> Result<Option<Vec<u8>>, Error> {
    let (public, _) = command::raw(context, |context| context.nv_read_public(index))?;
    let (attributes, size) = (public.attributes(), public.data_size());
    let Some(auth) = reader(index, attributes) else { return Ok(None) };
    let Some(size) = u16::try_from(size).ok().filter(|size| *size <= MAX) else { return Ok(None) };
    let mut bytes = Vec::new();
    for offset in (0..size).step_by(CHUNK.into()) {
        let chunk = command::raw(context, |context| {
            context.execute_with_session(Some(AuthSession::Password), |context| {
                context.nv_read(auth, index, CHUNK.min(size - offset), offset)
            })
        })?;
        bytes.extend_from_slice(chunk.value());
    }
    Ok(Some(bytes))
}

/// Who may read the index without a secret.
fn reader(index: NvIndexHandle, attributes: NvIndexAttributes) -> Option<NvAuth> {
    if attributes.auth_read() {
        Some(NvAuth::NvIndex(index))
    } else if attributes.owner_read() {
        Some(NvAuth::Owner)
    } else {
        None
    }
}

/// The certificate without what fills the rest of its index: a DER sequence with a length of two bytes, which every
/// certificate has.
fn whole(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let [0x30, 0x82, high, low, ..] = bytes[..] else { return None };
    let length = 4 + usize::from(u16::from_be_bytes([high, low]));
    if bytes.len() < length {
        return None;
    }
    bytes.truncate(length);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_says_no_is_none_and_a_tpm_that_is_not_well_is_told() {
        // TPM_RC_BAD_AUTH and TPM_RC_AUTH_FAIL of a session, TPM_RC_NV_LOCKED, _UNINITIALIZED, _AUTHORIZATION.
        let refused: [u32; 5] = [0x9a2, 0x98e, 0x148, 0x14a, 0x149];
        // TPM_RC_RETRY, TPM_RC_REFERENCE_H0, TPM_RC_FAILURE, and the way to the TPM.
        let unwell: [u32; 4] = [0x922, 0x910, 0x101, 0x000a_000a];
        for (codes, unreadable) in [(&refused[..], true), (&unwell[..], false)] {
            for code in codes {
                let error = Error::Tss2Error((*code).into());
                assert_eq!(is_unreadable(&error), unreadable, "{code:#x}: {error}");
            }
        }
    }

    #[test]
    fn a_certificate_ends_where_it_says() {
        let certificate = [&[0x30, 0x82, 1, 0][..], &[7; 256]].concat();
        assert_eq!(whole(certificate.clone()).as_ref(), Some(&certificate));
        let padded = [&certificate[..], &[0xff; 100]].concat();
        assert_eq!(whole(padded), Some(certificate.clone()));
        assert_eq!(whole(certificate[..259].to_vec()), None);
        assert_eq!(whole(vec![0; 300]), None);
        assert_eq!(whole(vec![]), None);
    }
}
