//! Signatures: another key's, or with a bit flipped.

use std::slice;

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_BYTE, CK_MECHANISM, CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE, CK_ULONG,
    CKA_CLASS, CKA_KEY_TYPE, CKO_PRIVATE_KEY, CKR_KEY_HANDLE_INVALID, CKR_OK,
};

use super::{Effect, Engine, attributes, entry::forward};
use crate::{Action, Function};

pub(super) unsafe extern "C" fn sign_init(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> CK_RV {
    type Mechanism = *mut CK_MECHANISM;
    let engine = Engine::get();
    engine.call(Function::C_SignInit, false, |effects| {
        let Some(mut key) = engine.handles.real(key) else { return CKR_KEY_HANDLE_INVALID };
        if effects.iter().any(|effect| effect.rule.action == Action::OtherKey) {
            key = other_key(engine, session, key).unwrap_or(key);
        }
        // SAFETY: the caller's arguments, with a valid handle.
        unsafe {
            forward!(
                engine,
                Function::C_SignInit,
                (CK_SESSION_HANDLE, Mechanism, CK_OBJECT_HANDLE),
                (session, mechanism, key)
            )
        }
    })
}

/// Another private key of the same type.
fn other_key(
    engine: &Engine,
    session: CK_SESSION_HANDLE,
    key: CK_OBJECT_HANDLE,
) -> Option<CK_OBJECT_HANDLE> {
    let mut key_type = attributes::number(engine, session, key, CKA_KEY_TYPE)?;
    let mut class = CKO_PRIVATE_KEY;
    let mut template = [attribute(CKA_CLASS, &mut class), attribute(CKA_KEY_TYPE, &mut key_type)];
    let (mut found, mut count) = ([0; 64], 0);
    // SAFETY: the template points to numbers that outlive the calls, and `found` has the room that
    // the call is told.
    unsafe {
        let begun = forward!(
            engine,
            Function::C_FindObjectsInit,
            (CK_SESSION_HANDLE, *mut CK_ATTRIBUTE, CK_ULONG),
            (session, template.as_mut_ptr(), template.len() as CK_ULONG)
        );
        if begun != CKR_OK {
            return None;
        }
        forward!(
            engine,
            Function::C_FindObjects,
            (CK_SESSION_HANDLE, *mut CK_OBJECT_HANDLE, CK_ULONG, *mut CK_ULONG),
            (session, found.as_mut_ptr(), found.len() as CK_ULONG, &raw mut count)
        );
        forward!(engine, Function::C_FindObjectsFinal, (CK_SESSION_HANDLE), (session));
    }
    let found = found.iter().take(usize::try_from(count).unwrap_or(0));
    found.copied().find(|other| *other != key)
}

fn attribute(kind: CK_ULONG, value: &mut CK_ULONG) -> CK_ATTRIBUTE {
    CK_ATTRIBUTE {
        type_: kind,
        pValue: (&raw mut *value).cast(),
        ulValueLen: size_of::<CK_ULONG>() as CK_ULONG,
    }
}

pub(super) unsafe extern "C" fn sign(
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    data_len: CK_ULONG,
    signature: *mut CK_BYTE,
    signature_len: *mut CK_ULONG,
) -> CK_RV {
    let engine = Engine::get();
    engine.call(Function::C_Sign, signature.is_null(), |effects| {
        // SAFETY: the caller's arguments, as they are.
        let value = unsafe {
            forward!(
                engine,
                Function::C_Sign,
                (CK_SESSION_HANDLE, *mut CK_BYTE, CK_ULONG, *mut CK_BYTE, *mut CK_ULONG),
                (session, data, data_len, signature, signature_len)
            )
        };
        // SAFETY: as above.
        unsafe { tamper(effects, value, signature, signature_len) };
        value
    })
}

pub(super) unsafe extern "C" fn sign_final(
    session: CK_SESSION_HANDLE,
    signature: *mut CK_BYTE,
    signature_len: *mut CK_ULONG,
) -> CK_RV {
    let engine = Engine::get();
    engine.call(Function::C_SignFinal, signature.is_null(), |effects| {
        // SAFETY: the caller's arguments, as they are.
        let value = unsafe {
            forward!(
                engine,
                Function::C_SignFinal,
                (CK_SESSION_HANDLE, *mut CK_BYTE, *mut CK_ULONG),
                (session, signature, signature_len)
            )
        };
        // SAFETY: as above.
        unsafe { tamper(effects, value, signature, signature_len) };
        value
    })
}

/// Flips bits in a signature that was made.
///
/// # Safety
/// Where `value` is `CKR_OK` and `signature` not null, `signature` has as many bytes as
/// `signature_len` says.
unsafe fn tamper(
    effects: &[Effect],
    value: CK_RV,
    signature: *mut CK_BYTE,
    signature_len: *mut CK_ULONG,
) {
    if value != CKR_OK || signature.is_null() || signature_len.is_null() {
        return;
    }
    // SAFETY: the caller of this function vouches for it.
    let signature = unsafe {
        slice::from_raw_parts_mut(signature, usize::try_from(*signature_len).unwrap_or(0))
    };
    for effect in effects {
        if let Action::FlipBit(bit) = effect.rule.action
            && let Some(byte) = signature.get_mut(bit as usize / 8)
        {
            *byte ^= 1 << (bit % 8);
        }
    }
}
