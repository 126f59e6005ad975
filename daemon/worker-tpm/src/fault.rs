//! What an error of the TPM or of its software stack means: the one place where response codes are
//! classified (TPM 2.0 part 2 section 6.6, TSS 2.0 Overview and Common Structures section 3).

use mintwarden_worker::device::{Cause, DeviceError, Remedy};
use tss_esapi::{
    Error, WrapperErrorKind,
    constants::response_code::{Tss2ResponseCode, Tss2ResponseCodeKind as Rc},
};

/// What to do about a TPM that is full.
const MAKE_ROOM: &str = ": objects or sessions of others fill the TPM; flush them (`tpm2_flushcontext -t`, `-l`, `-s`), \
                         or put a resource manager before it (device:/dev/tpmrm0)";

/// Classifies an error by the fault table of DESIGN.md. `doing` says what was being done, for the
/// operator.
pub(crate) fn fault(doing: &str, error: &Error) -> DeviceError {
    let (cause, remedy) = match (tpm_code(error), error) {
        // About a handle and not about a parameter: what it stood for is gone.
        (Some(Rc::Value), Error::Tss2Error(code)) if is_about_handle(*code) => {
            (Cause::SessionLost, Remedy::Reopen)
        }
        (Some(code), _) => classify(code),
        (None, Error::Tss2Error(code)) => match layer(*code) {
            // The way to the TPM is broken, and with it the sequence of commands and answers.
            Layer::Tcti => (Cause::TpmUnreachable, Remedy::Restart),
            // A code of the TPM that its specification does not have, or a vendor's own.
            Layer::Tpm => (Cause::DeviceFailed, Remedy::Restart),
            // The stack's own state does not fit what came back.
            Layer::Stack => (Cause::Malformed, Remedy::Restart),
        },
        (None, Error::WrapperError(WrapperErrorKind::WrongValueFromTpm)) => {
            (Cause::Malformed, Remedy::Restart)
        }
        (None, Error::WrapperError(_)) => (Cause::Malformed, Remedy::Refuse),
    };
    let way_out = if cause == Cause::OutOfResources { MAKE_ROOM } else { "" };
    DeviceError::new(cause, remedy, format!("{doing}: {}{way_out}", describe(error)))
}

/// The TPM's own code in an error; `None` where the stack or the way to the TPM failed.
pub(crate) fn tpm_code(error: &Error) -> Option<Rc> {
    match error {
        Error::Tss2Error(code) if layer(*code) == Layer::Tpm => code.kind(),
        _ => None,
    }
}

/// Whether the TPM asks for the same command again.
pub(crate) fn is_busy(error: &Error) -> bool {
    matches!(
        tpm_code(error),
        Some(Rc::Retry | Rc::Yielded | Rc::Testing | Rc::NvRate | Rc::NvUnavailable)
    )
}

/// Whether the TPM has no room for one more object.
pub(crate) fn is_full(error: &Error) -> bool {
    matches!(tpm_code(error), Some(Rc::ObjectMemory | Rc::ObjectHandles | Rc::Memory))
}

/// Whether the TPM refused an authorisation value.
pub(crate) fn is_refused(error: &Error) -> bool {
    matches!(tpm_code(error), Some(Rc::BadAuth | Rc::AuthFail))
}

/// Where an error comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    /// The TPM, or a resource manager in its words.
    Tpm,
    /// The way to the TPM.
    Tcti,
    /// ESYS, SYS or the marshalling.
    Stack,
}

/// The layer is in the bits from 16 on, which tss-esapi keeps to itself but for its text.
fn layer(code: Tss2ResponseCode) -> Layer {
    match raw(code) >> 16 {
        0 | 11 | 12 => Layer::Tpm,
        10 => Layer::Tcti,
        _ => Layer::Stack,
    }
}

fn raw(code: Tss2ResponseCode) -> u32 {
    let text = match code {
        Tss2ResponseCode::Success => return 0,
        Tss2ResponseCode::FormatZero(code) => code.to_string(),
        Tss2ResponseCode::FormatOne(code) => code.to_string(),
    };
    let digits = text.rsplit_once("0x").map_or("", |(_, digits)| digits);
    // A text of another form counts as the stack's.
    u32::from_str_radix(digits, 16).unwrap_or(u32::MAX)
}

/// Whether a code in format one is about a handle: bit 6 marks parameters, bit 11 sessions.
fn is_about_handle(code: Tss2ResponseCode) -> bool {
    raw(code) & (0x80 | 0x40 | 0x800) == 0x80
}

/// The error in the specification's words: `TPM_RC_BAD_AUTH (0x9a2)`.
pub(crate) fn describe(error: &Error) -> String {
    match error {
        Error::Tss2Error(code) => {
            let raw = raw(*code);
            match (layer(*code), code.kind()) {
                (Layer::Tpm, Some(kind)) => format!("{} ({raw:#x})", rc_name(kind)),
                (Layer::Tpm, None) => format!("response code {raw:#x}"),
                (Layer::Tcti, _) => format!("the way to the TPM failed (TCTI, {raw:#x})"),
                (Layer::Stack, _) => format!("libtss2 failed ({raw:#x})"),
            }
        }
        Error::WrapperError(kind) => format!("tss-esapi: {kind}"),
    }
}

/// `BadAuth` is `TPM_RC_BAD_AUTH`, `ReferenceH0` is `TPM_RC_REFERENCE_H0`.
fn rc_name(kind: Rc) -> String {
    format!("{kind:?}").chars().fold("TPM_RC".to_owned(), |mut name, character| {
        if character.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(character.to_ascii_uppercase());
        name
    })
}

/// The fault table for response codes. Exhaustive on purpose: a code that a new version of the library
/// tells apart has to be thought about.
fn classify(code: Rc) -> (Cause, Remedy) {
    match code {
        // It asks for the same command again. This was done for as long as a call may take.
        Rc::Retry | Rc::Yielded | Rc::Testing | Rc::NvRate | Rc::NvUnavailable | Rc::Canceled => {
            (Cause::DeviceFailed, Remedy::Restart)
        }

        // What was loaded or begun is not there any more: the TPM was reset or resumed, its resource
        // manager lost a session, or somebody flushed what is ours.
        Rc::ReferenceH0
        | Rc::ReferenceH1
        | Rc::ReferenceH2
        | Rc::ReferenceH3
        | Rc::ReferenceH4
        | Rc::ReferenceH5
        | Rc::ReferenceH6
        | Rc::ReferenceS0
        | Rc::ReferenceS1
        | Rc::ReferenceS2
        | Rc::ReferenceS3
        | Rc::ReferenceS4
        | Rc::ReferenceS5
        | Rc::ReferenceS6
        | Rc::Handle
        | Rc::ContextGap
        | Rc::BadContext
        | Rc::AuthContext
        | Rc::Nonce => (Cause::SessionLost, Remedy::Reopen),

        // Objects and sessions of others fill it.
        Rc::ObjectMemory
        | Rc::ObjectHandles
        | Rc::SessionMemory
        | Rc::SessionHandles
        | Rc::TooManyContexts
        | Rc::Memory => (Cause::OutOfResources, Remedy::Restart),

        // It was not started since a reset, or wants to be reset: nothing that a process can do.
        Rc::Initialize
        | Rc::Failure
        | Rc::NeedsTest
        | Rc::Reboot
        | Rc::Upgrade
        | Rc::Unbalanced
        | Rc::TpmVendorSpecific
        | Rc::Locality
        // In lockout only what is protected against dictionary attacks refuses, and ours is not: it
        // is a parent of somebody else's making.
        | Rc::Lockout
        | Rc::Sequence => (Cause::DeviceFailed, Remedy::Restart),

        // Everything about authorisation: no more tries by ourselves (I10).
        Rc::AuthFail | Rc::BadAuth | Rc::AuthType | Rc::AuthMissing | Rc::AuthUnavailable => {
            (Cause::LoginFailed, Remedy::Park)
        }

        // The measured state of the machine is not the one that the key is bound to.
        Rc::PolicyFail | Rc::Policy | Rc::PolicyCc | Rc::Pcr | Rc::Expired => {
            (Cause::KeyUnusable, Remedy::Refuse)
        }
        // A PCR was extended since the policy's session was begun.
        Rc::PcrChanged => (Cause::DeviceFailed, Remedy::Retry),

        Rc::Curve
        | Rc::KeySize
        | Rc::Scheme
        | Rc::Hash
        | Rc::Symmetric
        | Rc::Mgf
        | Rc::Mode
        | Rc::Kdf
        | Rc::Asymmetric
        | Rc::CommandCode
        | Rc::Hierarchy
        | Rc::Disabled => (Cause::MechanismMissing, Remedy::Refuse),

        Rc::Integrity
        | Rc::Attributes
        | Rc::Binding
        | Rc::Key
        | Rc::EccPoint
        | Rc::Type
        | Rc::Parent
        | Rc::Sensitive
        | Rc::Private => (Cause::KeyUnusable, Remedy::Refuse),

        // The TPM is well and says no to this very call.
        Rc::Success
        | Rc::Hmac
        | Rc::Exclusive
        | Rc::CommandSize
        | Rc::AuthSize
        | Rc::NvRange
        | Rc::NvSize
        | Rc::NvLocked
        | Rc::NvAuthorization
        | Rc::NvUninitialized
        | Rc::NvSpace
        | Rc::NvDefined
        | Rc::CpHash
        | Rc::NoResult
        | Rc::Range
        | Rc::Value
        | Rc::Pp
        | Rc::Size
        | Rc::Tag
        | Rc::Selector
        | Rc::Insufficient
        | Rc::Signature
        | Rc::Ticket
        | Rc::ReservedBits => (Cause::DeviceFailed, Remedy::Refuse),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fault_table() {
        for (code, cause, remedy) in [
            (Rc::Retry, Cause::DeviceFailed, Remedy::Restart),
            (Rc::ReferenceH0, Cause::SessionLost, Remedy::Reopen),
            (Rc::ReferenceS0, Cause::SessionLost, Remedy::Reopen),
            (Rc::ContextGap, Cause::SessionLost, Remedy::Reopen),
            (Rc::Handle, Cause::SessionLost, Remedy::Reopen),
            (Rc::ObjectMemory, Cause::OutOfResources, Remedy::Restart),
            (Rc::SessionMemory, Cause::OutOfResources, Remedy::Restart),
            (Rc::Initialize, Cause::DeviceFailed, Remedy::Restart),
            (Rc::Lockout, Cause::DeviceFailed, Remedy::Restart),
            (Rc::BadAuth, Cause::LoginFailed, Remedy::Park),
            (Rc::PolicyFail, Cause::KeyUnusable, Remedy::Refuse),
            (Rc::PcrChanged, Cause::DeviceFailed, Remedy::Retry),
            (Rc::Curve, Cause::MechanismMissing, Remedy::Refuse),
            (Rc::Integrity, Cause::KeyUnusable, Remedy::Refuse),
        ] {
            assert_eq!(classify(code), (cause, remedy), "{code:?}");
        }
    }

    #[test]
    fn codes_are_told_in_the_specifications_words() {
        assert_eq!(rc_name(Rc::BadAuth), "TPM_RC_BAD_AUTH");
        assert_eq!(rc_name(Rc::ReferenceH0), "TPM_RC_REFERENCE_H0");
    }
}
