//! A TPM that has no resource manager and is used by nobody else.

use mintwarden_worker::device::DeviceError;
use tss_esapi::{
    Context, Error, WrapperErrorKind, constants::CapabilityType, handles::TpmHandle,
    structures::CapabilityData,
};

use crate::command;

/// The first handles of what is loaded: transient objects, loaded sessions, saved sessions (TPM 2.0 part 2
/// section 7.4).
const RANGES: [u32; 3] = [0x8000_0000, 0x0200_0000, 0x0300_0000];

/// More than fit into a TPM.
const ALL: u32 = 254;

/// Flushes everything that is loaded: what an earlier worker left there when it was killed.
pub(crate) fn flush(context: &mut Context) -> Result<usize, DeviceError> {
    let mut count = 0;
    for first in RANGES {
        let doing = "listing what is loaded in the TPM";
        let (data, _) = command::run(context, doing, |context| {
            context.get_capability(CapabilityType::Handles, first, ALL)
        })?;
        let CapabilityData::Handles(handles) = data else { continue };
        for handle in handles.into_inner() {
            command::run(context, "flushing what is loaded in the TPM", |context| {
                flush_one(context, handle)
            })?;
            count += 1;
        }
    }
    Ok(count)
}

fn flush_one(context: &mut Context, handle: TpmHandle) -> Result<(), Error> {
    let object = context.tr_from_tpm_public(handle)?;
    match context.flush_context(object) {
        // Flushed; tss-esapi had it down as one to be closed.
        Err(Error::WrapperError(WrapperErrorKind::InvalidHandleState)) => Ok(()),
        other => other,
    }
}
