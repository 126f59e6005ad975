//! The entry points: what a program finds by name, and the lists of functions that they return.
//!
//! Most functions are passed on by one of a few generic functions, by the shape of their arguments;
//! those with effects of their own are in the modules beside this one.

use std::ptr;

use cryptoki_sys::{
    CK_BYTE, CK_FLAGS, CK_FUNCTION_LIST, CK_FUNCTION_LIST_3_0, CK_INTERFACE, CK_MECHANISM,
    CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE, CK_ULONG, CK_UTF8CHAR, CK_VERSION,
    CKR_ARGUMENTS_BAD, CKR_BUFFER_TOO_SMALL, CKR_FUNCTION_FAILED, CKR_GENERAL_ERROR,
    CKR_KEY_HANDLE_INVALID, CKR_OBJECT_HANDLE_INVALID, CKR_OK,
};

use super::{Engine, attributes, complain, pairs, signing, token};
use crate::Function;

/// Calls the real function of this name with the caller's arguments, inside an `unsafe` block whose
/// comment vouches for the types; one that the real module does not have is not supported.
macro_rules! forward {
    ($engine:expr, $function:expr, ($($type:ty),*), ($($argument:expr),* $(,)?)) => {
        match $engine.real.function::<unsafe extern "C" fn($($type),*) -> cryptoki_sys::CK_RV>(
            $function,
        ) {
            Some(real) => real($($argument),*),
            None => cryptoki_sys::CKR_FUNCTION_NOT_SUPPORTED,
        }
    };
}
pub(super) use forward;

macro_rules! pass {
    ($($name:ident($($argument:ident: $type:ident),*);)*) => {$(
        unsafe extern "C" fn $name<const F: usize, $($type),*>($($argument: $type),*) -> CK_RV {
            let (engine, function) = (Engine::get(), Function::ALL[F]);
            engine.call(function, false, |_| {
                // SAFETY: the types are those of the list that this function stands in.
                unsafe { forward!(engine, function, ($($type),*), ($($argument),*)) }
            })
        }
    )*};
}

pass! {
    pass1(a: A);
    pass2(a: A, b: B);
    pass3(a: A, b: B, c: C);
    pass4(a: A, b: B, c: C, d: D);
    pass5(a: A, b: B, c: C, d: D, e: E);
    pass6(a: A, b: B, c: C, d: D, e: E, f: G);
    pass7(a: A, b: B, c: C, d: D, e: E, f: G, g: H);
    pass8(a: A, b: B, c: C, d: D, e: E, f: G, g: H, h: I);
    pass9(a: A, b: B, c: C, d: D, e: E, f: G, g: H, h: I, i: J);
}

/// Begins an operation with a key.
unsafe extern "C" fn key_init<const F: usize>(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> CK_RV {
    type Mechanism = *mut CK_MECHANISM;
    let (engine, function) = (Engine::get(), Function::ALL[F]);
    engine.call(function, false, |_| {
        let Some(key) = engine.handles.real(key) else { return CKR_KEY_HANDLE_INVALID };
        // SAFETY: the types are those of the list that this function stands in.
        unsafe {
            forward!(
                engine,
                function,
                (CK_SESSION_HANDLE, Mechanism, CK_OBJECT_HANDLE),
                (session, mechanism, key)
            )
        }
    })
}

/// Input and output.
unsafe extern "C" fn output<const F: usize>(
    session: CK_SESSION_HANDLE,
    input: *mut CK_BYTE,
    input_len: CK_ULONG,
    output: *mut CK_BYTE,
    output_len: *mut CK_ULONG,
) -> CK_RV {
    let (engine, function) = (Engine::get(), Function::ALL[F]);
    engine.call(function, output.is_null(), |_| {
        // SAFETY: the types are those of the list that this function stands in.
        unsafe {
            forward!(
                engine,
                function,
                (CK_SESSION_HANDLE, *mut CK_BYTE, CK_ULONG, *mut CK_BYTE, *mut CK_ULONG),
                (session, input, input_len, output, output_len)
            )
        }
    })
}

/// Output without input.
unsafe extern "C" fn short_output<const F: usize, T>(
    of: CK_ULONG,
    output: *mut T,
    output_len: *mut CK_ULONG,
) -> CK_RV {
    let (engine, function) = (Engine::get(), Function::ALL[F]);
    engine.call(function, output.is_null(), |_| {
        // SAFETY: the types are those of the list that this function stands in.
        unsafe {
            forward!(engine, function, (CK_ULONG, *mut T, *mut CK_ULONG), (of, output, output_len))
        }
    })
}

macro_rules! objects {
    ($($name:ident($($argument:ident: $type:ident),*);)*) => {$(
        /// Does something with an object.
        unsafe extern "C" fn $name<const F: usize, $($type),*>(
            session: CK_SESSION_HANDLE,
            object: CK_OBJECT_HANDLE,
            $($argument: $type),*
        ) -> CK_RV {
            let (engine, function) = (Engine::get(), Function::ALL[F]);
            engine.call(function, false, |_| {
                let Some(object) = engine.handles.real(object) else {
                    return CKR_OBJECT_HANDLE_INVALID;
                };
                // SAFETY: the types are those of the list that this function stands in.
                unsafe {
                    forward!(
                        engine,
                        function,
                        (CK_SESSION_HANDLE, CK_OBJECT_HANDLE $(, $type)*),
                        (session, object $(, $argument)*)
                    )
                }
            })
        }
    )*};
}

objects! {
    object();
    object_and(a: A);
    object_and_two(a: A, b: B);
}

use Function as F;

static LIST_3_0: CK_FUNCTION_LIST_3_0 = CK_FUNCTION_LIST_3_0 {
    version: CK_VERSION { major: 3, minor: 0 },
    C_Initialize: Some(pass1::<{ F::C_Initialize as usize }, _>),
    C_Finalize: Some(token::finalize),
    C_GetInfo: Some(pass1::<{ F::C_GetInfo as usize }, _>),
    C_GetFunctionList: Some(C_GetFunctionList),
    C_GetSlotList: Some(token::slot_list),
    C_GetSlotInfo: Some(pass2::<{ F::C_GetSlotInfo as usize }, _, _>),
    C_GetTokenInfo: Some(token::token_info),
    C_GetMechanismList: Some(short_output::<{ F::C_GetMechanismList as usize }, _>),
    C_GetMechanismInfo: Some(pass3::<{ F::C_GetMechanismInfo as usize }, _, _, _>),
    C_InitToken: Some(pass4::<{ F::C_InitToken as usize }, _, _, _, _>),
    C_InitPIN: Some(pass3::<{ F::C_InitPIN as usize }, _, _, _>),
    C_SetPIN: Some(pass5::<{ F::C_SetPIN as usize }, _, _, _, _, _>),
    C_OpenSession: Some(token::open_session),
    C_CloseSession: Some(token::close_session),
    C_CloseAllSessions: Some(token::close_all_sessions),
    C_GetSessionInfo: Some(pass2::<{ F::C_GetSessionInfo as usize }, _, _>),
    C_GetOperationState: Some(short_output::<{ F::C_GetOperationState as usize }, _>),
    C_SetOperationState: Some(pass5::<{ F::C_SetOperationState as usize }, _, _, _, _, _>),
    C_Login: Some(pass4::<{ F::C_Login as usize }, _, _, _, _>),
    C_Logout: Some(pass1::<{ F::C_Logout as usize }, _>),
    C_CreateObject: Some(attributes::create),
    C_CopyObject: Some(attributes::copy),
    C_DestroyObject: Some(object::<{ F::C_DestroyObject as usize }>),
    C_GetObjectSize: Some(object_and::<{ F::C_GetObjectSize as usize }, _>),
    C_GetAttributeValue: Some(attributes::get),
    C_SetAttributeValue: Some(object_and_two::<{ F::C_SetAttributeValue as usize }, _, _>),
    C_FindObjectsInit: Some(pass3::<{ F::C_FindObjectsInit as usize }, _, _, _>),
    C_FindObjects: Some(attributes::find),
    C_FindObjectsFinal: Some(pass1::<{ F::C_FindObjectsFinal as usize }, _>),
    C_EncryptInit: Some(key_init::<{ F::C_EncryptInit as usize }>),
    C_Encrypt: Some(output::<{ F::C_Encrypt as usize }>),
    C_EncryptUpdate: Some(output::<{ F::C_EncryptUpdate as usize }>),
    C_EncryptFinal: Some(short_output::<{ F::C_EncryptFinal as usize }, _>),
    C_DecryptInit: Some(key_init::<{ F::C_DecryptInit as usize }>),
    C_Decrypt: Some(output::<{ F::C_Decrypt as usize }>),
    C_DecryptUpdate: Some(output::<{ F::C_DecryptUpdate as usize }>),
    C_DecryptFinal: Some(short_output::<{ F::C_DecryptFinal as usize }, _>),
    C_DigestInit: Some(pass2::<{ F::C_DigestInit as usize }, _, _>),
    C_Digest: Some(output::<{ F::C_Digest as usize }>),
    C_DigestUpdate: Some(pass3::<{ F::C_DigestUpdate as usize }, _, _, _>),
    C_DigestKey: Some(object::<{ F::C_DigestKey as usize }>),
    C_DigestFinal: Some(short_output::<{ F::C_DigestFinal as usize }, _>),
    C_SignInit: Some(signing::sign_init),
    C_Sign: Some(signing::sign),
    C_SignUpdate: Some(pass3::<{ F::C_SignUpdate as usize }, _, _, _>),
    C_SignFinal: Some(signing::sign_final),
    C_SignRecoverInit: Some(key_init::<{ F::C_SignRecoverInit as usize }>),
    C_SignRecover: Some(output::<{ F::C_SignRecover as usize }>),
    C_VerifyInit: Some(key_init::<{ F::C_VerifyInit as usize }>),
    C_Verify: Some(pass5::<{ F::C_Verify as usize }, _, _, _, _, _>),
    C_VerifyUpdate: Some(pass3::<{ F::C_VerifyUpdate as usize }, _, _, _>),
    C_VerifyFinal: Some(pass3::<{ F::C_VerifyFinal as usize }, _, _, _>),
    C_VerifyRecoverInit: Some(key_init::<{ F::C_VerifyRecoverInit as usize }>),
    C_VerifyRecover: Some(output::<{ F::C_VerifyRecover as usize }>),
    C_DigestEncryptUpdate: Some(output::<{ F::C_DigestEncryptUpdate as usize }>),
    C_DecryptDigestUpdate: Some(output::<{ F::C_DecryptDigestUpdate as usize }>),
    C_SignEncryptUpdate: Some(output::<{ F::C_SignEncryptUpdate as usize }>),
    C_DecryptVerifyUpdate: Some(output::<{ F::C_DecryptVerifyUpdate as usize }>),
    C_GenerateKey: Some(pairs::generate_key),
    C_GenerateKeyPair: Some(pairs::generate),
    C_WrapKey: Some(pairs::wrap),
    C_UnwrapKey: Some(pairs::unwrap),
    C_DeriveKey: Some(pairs::derive),
    C_SeedRandom: Some(pass3::<{ F::C_SeedRandom as usize }, _, _, _>),
    C_GenerateRandom: Some(pass3::<{ F::C_GenerateRandom as usize }, _, _, _>),
    C_GetFunctionStatus: Some(pass1::<{ F::C_GetFunctionStatus as usize }, _>),
    C_CancelFunction: Some(pass1::<{ F::C_CancelFunction as usize }, _>),
    C_WaitForSlotEvent: Some(pass3::<{ F::C_WaitForSlotEvent as usize }, _, _, _>),
    C_GetInterfaceList: Some(C_GetInterfaceList),
    C_GetInterface: Some(C_GetInterface),
    C_LoginUser: Some(pass6::<{ F::C_LoginUser as usize }, _, _, _, _, _, _>),
    C_SessionCancel: Some(pass2::<{ F::C_SessionCancel as usize }, _, _>),
    C_MessageEncryptInit: Some(key_init::<{ F::C_MessageEncryptInit as usize }>),
    C_EncryptMessage: Some(pass9::<{ F::C_EncryptMessage as usize }, _, _, _, _, _, _, _, _, _>),
    C_EncryptMessageBegin: Some(pass5::<{ F::C_EncryptMessageBegin as usize }, _, _, _, _, _>),
    C_EncryptMessageNext: Some(
        pass8::<{ F::C_EncryptMessageNext as usize }, _, _, _, _, _, _, _, _>,
    ),
    C_MessageEncryptFinal: Some(pass1::<{ F::C_MessageEncryptFinal as usize }, _>),
    C_MessageDecryptInit: Some(key_init::<{ F::C_MessageDecryptInit as usize }>),
    C_DecryptMessage: Some(pass9::<{ F::C_DecryptMessage as usize }, _, _, _, _, _, _, _, _, _>),
    C_DecryptMessageBegin: Some(pass5::<{ F::C_DecryptMessageBegin as usize }, _, _, _, _, _>),
    C_DecryptMessageNext: Some(
        pass8::<{ F::C_DecryptMessageNext as usize }, _, _, _, _, _, _, _, _>,
    ),
    C_MessageDecryptFinal: Some(pass1::<{ F::C_MessageDecryptFinal as usize }, _>),
    C_MessageSignInit: Some(key_init::<{ F::C_MessageSignInit as usize }>),
    C_SignMessage: Some(pass7::<{ F::C_SignMessage as usize }, _, _, _, _, _, _, _>),
    C_SignMessageBegin: Some(pass3::<{ F::C_SignMessageBegin as usize }, _, _, _>),
    C_SignMessageNext: Some(pass7::<{ F::C_SignMessageNext as usize }, _, _, _, _, _, _, _>),
    C_MessageSignFinal: Some(pass1::<{ F::C_MessageSignFinal as usize }, _>),
    C_MessageVerifyInit: Some(key_init::<{ F::C_MessageVerifyInit as usize }>),
    C_VerifyMessage: Some(pass7::<{ F::C_VerifyMessage as usize }, _, _, _, _, _, _, _>),
    C_VerifyMessageBegin: Some(pass3::<{ F::C_VerifyMessageBegin as usize }, _, _, _>),
    C_VerifyMessageNext: Some(pass7::<{ F::C_VerifyMessageNext as usize }, _, _, _, _, _, _, _>),
    C_MessageVerifyFinal: Some(pass1::<{ F::C_MessageVerifyFinal as usize }, _>),
};

/// The list of 2.40, whose functions are the first of those of 3.0.
static LIST_2_40: CK_FUNCTION_LIST = {
    // SAFETY: both are `repr(C)`: a version, then nullable function pointers, of which the older
    // list has the first ones, of the same types.
    let mut list = unsafe { ptr::read((&raw const LIST_3_0).cast::<CK_FUNCTION_LIST>()) };
    list.version = CK_VERSION { major: 2, minor: 40 };
    list
};

struct Interfaces([CK_INTERFACE; 2]);

// SAFETY: never changed, and what it points to are statics that are never changed either.
unsafe impl Sync for Interfaces {}

/// The default one first.
static INTERFACES: Interfaces = Interfaces([
    interface((&raw const LIST_3_0).cast_mut().cast()),
    interface((&raw const LIST_2_40).cast_mut().cast()),
]);

const NAME: &[u8] = b"PKCS 11\0";

const fn interface(list: *mut std::ffi::c_void) -> CK_INTERFACE {
    CK_INTERFACE { pInterfaceName: NAME.as_ptr().cast_mut(), pFunctionList: list, flags: 0 }
}

fn loaded() -> Result<&'static Engine, CK_RV> {
    Engine::load().map_err(|problem| {
        complain(&problem);
        CKR_GENERAL_ERROR
    })
}

/// Finds the functions of PKCS#11 2.40.
///
/// # Safety
/// As in the standard: `list` is null or can be written to.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the standard's name")]
unsafe extern "C" fn C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    let engine = match loaded() {
        Ok(engine) => engine,
        Err(value) => return value,
    };
    engine.call(Function::C_GetFunctionList, false, |_| {
        if list.is_null() {
            return CKR_ARGUMENTS_BAD;
        }
        // SAFETY: it is not null, and the caller's.
        unsafe { *list = (&raw const LIST_2_40).cast_mut() };
        CKR_OK
    })
}

/// Lists the interfaces.
///
/// # Safety
/// As in the standard: `count` can be written to; `list` is null or has room for `count`.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the standard's name")]
unsafe extern "C" fn C_GetInterfaceList(list: *mut CK_INTERFACE, count: *mut CK_ULONG) -> CK_RV {
    let engine = match loaded() {
        Ok(engine) => engine,
        Err(value) => return value,
    };
    engine.call(Function::C_GetInterfaceList, list.is_null(), |_| {
        if count.is_null() {
            return CKR_ARGUMENTS_BAD;
        }
        let there = INTERFACES.0.len() as CK_ULONG;
        // SAFETY: the caller's pointers, with room for what is written.
        unsafe {
            let room = std::mem::replace(&mut *count, there);
            if list.is_null() {
                return CKR_OK;
            }
            if room < there {
                return CKR_BUFFER_TOO_SMALL;
            }
            ptr::copy_nonoverlapping(INTERFACES.0.as_ptr(), list, INTERFACES.0.len());
        }
        CKR_OK
    })
}

/// Finds the functions of one interface.
///
/// # Safety
/// As in the standard: `name` is null or a C string, `version` null or readable, `found` can be
/// written to.
#[unsafe(no_mangle)]
#[allow(non_snake_case, reason = "the standard's name")]
unsafe extern "C" fn C_GetInterface(
    name: *mut CK_UTF8CHAR,
    version: *mut CK_VERSION,
    found: *mut *mut CK_INTERFACE,
    flags: CK_FLAGS,
) -> CK_RV {
    let engine = match loaded() {
        Ok(engine) => engine,
        Err(value) => return value,
    };
    engine.call(Function::C_GetInterface, false, |_| {
        if found.is_null() {
            return CKR_ARGUMENTS_BAD;
        }
        // SAFETY: the caller's pointers, where they are not null.
        let (name, version) = unsafe {
            let name = (!name.is_null()).then(|| std::ffi::CStr::from_ptr(name.cast()));
            (name, version.as_ref().map(|version| (version.major, version.minor)))
        };
        let named = name.is_none_or(|name| name.to_bytes_with_nul() == NAME);
        let place = match version {
            None | Some((3, 0)) => Some(0),
            Some((2, 40)) => Some(1),
            Some(_) => None,
        };
        // No interface here has a flag such as CKF_INTERFACE_FORK_SAFE.
        let Some(place) = place.filter(|_| named && flags == 0) else {
            return CKR_FUNCTION_FAILED;
        };
        // SAFETY: it is not null, and the caller's.
        unsafe { *found = (&raw const INTERFACES.0[place]).cast_mut() };
        CKR_OK
    })
}
