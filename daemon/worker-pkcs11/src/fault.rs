//! What an error of the module means: the one place where return values (`CKR_…`) are classified.

use cryptoki::{
    context::Function,
    error::{Error, RvError},
};
use mintwarden_worker::device::{Cause, DeviceError, Remedy};

/// Classifies an error of the module by the fault table of DESIGN.md. `doing` says what was being
/// done, for the operator.
pub(crate) fn fault(doing: &str, error: &Error) -> DeviceError {
    let (cause, remedy) = match error {
        Error::Pkcs11(value, function) => classify(*value, *function),
        Error::LibraryLoading(_) | Error::MissingSymbol(_) => (Cause::ModuleUnusable, Remedy::Park),
        // The function list has a hole: what was asked is not there, everything else may be.
        Error::NullFunctionPointer | Error::NotSupported => {
            (Cause::MechanismMissing, Remedy::Refuse)
        }
        // Lengths, numbers and constants that make no sense.
        _ => (Cause::Malformed, Remedy::Restart),
    };
    DeviceError::new(cause, remedy, format!("{doing}: {}", describe(error)))
}

/// Whether the session that met `error` is to be given up.
pub(crate) fn ends_session(error: &DeviceError) -> bool {
    matches!(error.remedy, Remedy::Reopen | Remedy::Restart | Remedy::Park)
}

/// The error in the standard's words: `C_Sign: CKR_DEVICE_ERROR`. The library's own texts explain
/// each value in a paragraph.
pub(crate) fn describe(error: &Error) -> String {
    match error {
        Error::Pkcs11(RvError::VendorDefined(code), function) => {
            format!("C_{function:?}: CKR_VENDOR_DEFINED ({code:#x})")
        }
        Error::Pkcs11(RvError::UnknownErrorCode(code), function) => {
            format!("C_{function:?}: return value {code:#x}, which the standard does not have")
        }
        Error::Pkcs11(value, function) => format!("C_{function:?}: {}", ckr_name(*value)),
        other => other.to_string(),
    }
}

/// `PinIncorrect` is `CKR_PIN_INCORRECT`.
fn ckr_name(value: RvError) -> String {
    format!("{value:?}").chars().fold("CKR".to_owned(), |mut name, character| {
        if character.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(character.to_ascii_uppercase());
        name
    })
}

/// The fault table for return values. Exhaustive on purpose: a value that a new version of the
/// library tells apart has to be thought about.
fn classify(value: RvError, function: Function) -> (Cause, Remedy) {
    use RvError as Rv;
    match value {
        // Another session may do: handles are of a session, and so is the login's view of them.
        Rv::SessionClosed
        | Rv::SessionHandleInvalid
        | Rv::KeyHandleInvalid
        | Rv::ObjectHandleInvalid
        | Rv::UserNotLoggedIn
        | Rv::FunctionCanceled
        | Rv::Cancel => (Cause::SessionLost, Remedy::Reopen),

        Rv::OperationActive | Rv::OperationNotInitialized => {
            (Cause::OperationActive, Remedy::Reopen)
        }

        // The device works but its object memory is full: a fresh process changes nothing.
        Rv::DeviceMemory if matches!(function, Function::GenerateKeyPair) => {
            (Cause::OutOfResources, Remedy::Refuse)
        }
        // The device may still count the sessions of a dead worker.
        Rv::SessionCount | Rv::DeviceMemory | Rv::HostMemory => {
            (Cause::OutOfResources, Remedy::Restart)
        }

        // The device, its library or this process's view of them is broken.
        Rv::DeviceError
        | Rv::DeviceRemoved
        | Rv::GeneralError
        | Rv::FunctionFailed
        | Rv::TokenNotPresent
        | Rv::TokenNotRecognized
        | Rv::SlotIdInvalid
        | Rv::CryptokiNotInitialized
        | Rv::CryptokiAlreadyInitialized
        | Rv::MutexBad
        | Rv::MutexNotLocked
        | Rv::FipsSelfTestFailed
        | Rv::LibraryLoadFailed
        | Rv::RandomNoRng
        | Rv::VendorDefined(_)
        | Rv::UnknownErrorCode(_) => (Cause::DeviceFailed, Remedy::Restart),

        // The module cannot work in a process with threads. Nothing but another module helps.
        Rv::NeedToCreateThreads | Rv::CantLock => (Cause::ModuleUnusable, Remedy::Park),

        // Everything about PINs and users, wherever it turns up: no more logins by ourselves (I10).
        Rv::PinIncorrect
        | Rv::PinInvalid
        | Rv::PinLenRange
        | Rv::PinExpired
        | Rv::PinLocked
        | Rv::PinTooWeak
        | Rv::UserPinNotInitialized
        | Rv::UserAlreadyLoggedIn
        | Rv::UserAnotherAlreadyLoggedIn
        | Rv::UserTooManyTypes
        | Rv::UserTypeInvalid
        | Rv::NewPinMode
        | Rv::NextOtp => (Cause::LoginFailed, Remedy::Park),

        Rv::MechanismInvalid
        | Rv::MechanismParamInvalid
        | Rv::CurveNotSupported
        | Rv::DomainParamsInvalid
        | Rv::FunctionNotSupported
        | Rv::FunctionNotParallel
        | Rv::SessionParallelNotSupported
        | Rv::RandomSeedNotSupported => (Cause::MechanismMissing, Remedy::Refuse),

        Rv::KeyFunctionNotPermitted
        | Rv::KeyTypeInconsistent
        | Rv::KeySizeRange
        | Rv::KeyUnextractable
        | Rv::KeyNotWrappable
        | Rv::KeyIndigestible
        | Rv::KeyNotNeeded
        | Rv::KeyNeeded
        | Rv::KeyChanged
        | Rv::PublicKeyInvalid => (Cause::KeyUnusable, Remedy::Refuse),

        // The device is well and says no to this very call.
        Rv::ArgumentsBad
        | Rv::ActionProhibited
        | Rv::AttributeReadOnly
        | Rv::AttributeSensitive
        | Rv::AttributeTypeInvalid
        | Rv::AttributeValueInvalid
        | Rv::TemplateIncomplete
        | Rv::TemplateInconsistent
        | Rv::DataInvalid
        | Rv::DataLenRange
        | Rv::BufferTooSmall
        | Rv::FunctionRejected
        | Rv::InformationSensitive
        | Rv::TokenWriteProtected
        | Rv::SessionReadOnly
        | Rv::SessionExists
        | Rv::SessionReadOnlyExists
        | Rv::SessionReadWriteSoExists
        | Rv::StateUnsaveable
        | Rv::SavedStateInvalid
        | Rv::NoEvent
        | Rv::ExceededMaxIterations
        | Rv::SignatureInvalid
        | Rv::SignatureLenRange
        | Rv::EncryptedDataInvalid
        | Rv::EncryptedDataLenRange
        | Rv::UnwrappingKeyHandleInvalid
        | Rv::UnwrappingKeySizeRange
        | Rv::UnwrappingKeyTypeInconsistent
        | Rv::WrappedKeyInvalid
        | Rv::WrappedKeyLenRange
        | Rv::WrappingKeyHandleInvalid
        | Rv::WrappingKeySizeRange
        | Rv::WrappingKeyTypeInconsistent => (Cause::DeviceFailed, Remedy::Refuse),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signing(value: RvError) -> DeviceError {
        fault("signing", &Error::Pkcs11(value, Function::Sign))
    }

    #[test]
    fn the_fault_table() {
        for (value, cause, remedy) in [
            (RvError::SessionHandleInvalid, Cause::SessionLost, Remedy::Reopen),
            (RvError::UserNotLoggedIn, Cause::SessionLost, Remedy::Reopen),
            (RvError::KeyHandleInvalid, Cause::SessionLost, Remedy::Reopen),
            (RvError::OperationActive, Cause::OperationActive, Remedy::Reopen),
            (RvError::DeviceError, Cause::DeviceFailed, Remedy::Restart),
            (RvError::GeneralError, Cause::DeviceFailed, Remedy::Restart),
            (RvError::TokenNotPresent, Cause::DeviceFailed, Remedy::Restart),
            (RvError::CryptokiNotInitialized, Cause::DeviceFailed, Remedy::Restart),
            (RvError::VendorDefined(0x8000_0001), Cause::DeviceFailed, Remedy::Restart),
            (RvError::SessionCount, Cause::OutOfResources, Remedy::Restart),
            (RvError::DeviceMemory, Cause::OutOfResources, Remedy::Restart),
            (RvError::PinLocked, Cause::LoginFailed, Remedy::Park),
            (RvError::MechanismInvalid, Cause::MechanismMissing, Remedy::Refuse),
        ] {
            let error = signing(value);
            assert_eq!((error.cause, error.remedy), (cause, remedy), "{value:?}");
        }
    }

    #[test]
    fn a_full_device_refuses_a_key_and_goes_on_signing() {
        let error = Error::Pkcs11(RvError::DeviceMemory, Function::GenerateKeyPair);
        assert_eq!(fault("generating", &error).remedy, Remedy::Refuse);
    }

    #[test]
    fn errors_are_told_in_the_standards_words() {
        assert_eq!(signing(RvError::DeviceError).detail, "signing: C_Sign: CKR_DEVICE_ERROR");
        let detail = signing(RvError::VendorDefined(0x8000_0001)).detail;
        assert_eq!(detail, "signing: C_Sign: CKR_VENDOR_DEFINED (0x80000001)");
    }
}
