//! Slots, the PKCS#11 token, sessions and the login.

use std::{
    ffi::c_void,
    sync::atomic::{AtomicU64, Ordering},
};

use cryptoki_sys::{
    CK_BBOOL, CK_FLAGS, CK_NOTIFY, CK_RV, CK_SESSION_HANDLE, CK_SLOT_ID, CK_TOKEN_INFO, CK_ULONG,
    CKF_SERIAL_SESSION, CKR_DEVICE_REMOVED, CKR_OK, CKR_SESSION_COUNT, CKR_TOKEN_NOT_PRESENT,
};

use super::{Engine, entry::forward};
use crate::{Action, Function};

/// The slot of the session that was opened last.
static SLOT: AtomicU64 = AtomicU64::new(0);

/// What a function returns while the PKCS#11 token is not there; `None`: what it always does.
pub(super) fn absent(function: Function) -> Option<CK_RV> {
    use Function as F;
    match function {
        F::C_Initialize | F::C_Finalize | F::C_GetInfo | F::C_GetSlotList | F::C_GetSlotInfo => {
            None
        }
        F::C_GetTokenInfo
        | F::C_GetMechanismList
        | F::C_GetMechanismInfo
        | F::C_InitToken
        | F::C_OpenSession
        | F::C_CloseAllSessions => Some(CKR_TOKEN_NOT_PRESENT),
        function if function.finds_others() => None,
        _ => Some(CKR_DEVICE_REMOVED),
    }
}

/// Ends the login of this process.
pub(super) fn log_out(engine: &Engine) {
    let slot = SLOT.load(Ordering::SeqCst);
    let mut session = 0;
    // SAFETY: the real functions with valid arguments; the login is of all sessions alike, so that
    // one opened for this purpose does.
    unsafe {
        let opened = forward!(
            engine,
            Function::C_OpenSession,
            (CK_SLOT_ID, CK_FLAGS, *mut c_void, CK_NOTIFY, *mut CK_SESSION_HANDLE),
            (slot, CKF_SERIAL_SESSION, std::ptr::null_mut(), None, &raw mut session)
        );
        if opened == CKR_OK {
            forward!(engine, Function::C_Logout, (CK_SESSION_HANDLE), (session));
            forward!(engine, Function::C_CloseSession, (CK_SESSION_HANDLE), (session));
        }
    }
}

pub(super) unsafe extern "C" fn slot_list(
    present: CK_BBOOL,
    slots: *mut CK_SLOT_ID,
    count: *mut CK_ULONG,
) -> CK_RV {
    let engine = Engine::get();
    // Also where only the number is asked for: it is the answer.
    engine.call(Function::C_GetSlotList, false, |effects| {
        let absent = effects.iter().any(|effect| matches!(effect.rule.action, Action::TokenAbsent));
        if absent && present != 0 && !count.is_null() {
            // SAFETY: the caller's pointer, which is not null.
            unsafe { *count = 0 };
            return CKR_OK;
        }
        // SAFETY: the caller's arguments, as they are.
        unsafe {
            forward!(
                engine,
                Function::C_GetSlotList,
                (CK_BBOOL, *mut CK_SLOT_ID, *mut CK_ULONG),
                (present, slots, count)
            )
        }
    })
}

pub(super) unsafe extern "C" fn token_info(slot: CK_SLOT_ID, info: *mut CK_TOKEN_INFO) -> CK_RV {
    let engine = Engine::get();
    engine.call(Function::C_GetTokenInfo, false, |effects| {
        // SAFETY: the caller's arguments, as they are.
        let value = unsafe {
            forward!(
                engine,
                Function::C_GetTokenInfo,
                (CK_SLOT_ID, *mut CK_TOKEN_INFO),
                (slot, info)
            )
        };
        if value != CKR_OK || info.is_null() {
            return value;
        }
        // SAFETY: the real module has just written there.
        let info = unsafe { &mut *info };
        for effect in effects {
            match effect.rule.action {
                Action::TokenFlags { set, clear } => info.flags = info.flags & !clear | set,
                Action::MaxSessions(count) => info.ulMaxSessionCount = count,
                _ => {}
            }
        }
        value
    })
}

pub(super) unsafe extern "C" fn open_session(
    slot: CK_SLOT_ID,
    flags: CK_FLAGS,
    application: *mut c_void,
    notify: CK_NOTIFY,
    session: *mut CK_SESSION_HANDLE,
) -> CK_RV {
    let engine = Engine::get();
    engine.call(Function::C_OpenSession, false, |effects| {
        let open = engine.state.sessions();
        let over = effects.iter().any(
            |effect| matches!(effect.rule.action, Action::SessionLimit(limit) if open >= limit),
        );
        if over {
            return CKR_SESSION_COUNT;
        }
        // SAFETY: the caller's arguments, as they are.
        let value = unsafe {
            forward!(
                engine,
                Function::C_OpenSession,
                (CK_SLOT_ID, CK_FLAGS, *mut c_void, CK_NOTIFY, *mut CK_SESSION_HANDLE),
                (slot, flags, application, notify, session)
            )
        };
        if value == CKR_OK {
            SLOT.store(slot, Ordering::SeqCst);
            engine.sessions.fetch_add(1, Ordering::SeqCst);
            engine.state.session_opened();
        }
        value
    })
}

pub(super) unsafe extern "C" fn close_session(session: CK_SESSION_HANDLE) -> CK_RV {
    let engine = Engine::get();
    engine.call(Function::C_CloseSession, false, |_| {
        // SAFETY: the caller's argument, as it is.
        let value =
            unsafe { forward!(engine, Function::C_CloseSession, (CK_SESSION_HANDLE), (session)) };
        if value == CKR_OK {
            let less = |open: u64| Some(open.saturating_sub(1));
            // Never refused: the function always gives a number.
            let _before = engine.sessions.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
            engine.state.sessions_closed(1);
        }
        value
    })
}

/// For one PKCS#11 token: with several, sessions with the others are taken for closed too.
pub(super) unsafe extern "C" fn close_all_sessions(slot: CK_SLOT_ID) -> CK_RV {
    let engine = Engine::get();
    engine.call(Function::C_CloseAllSessions, false, |_| {
        // SAFETY: the caller's argument, as it is.
        let value = unsafe { forward!(engine, Function::C_CloseAllSessions, (CK_SLOT_ID), (slot)) };
        if value == CKR_OK {
            engine.state.sessions_closed(engine.sessions.swap(0, Ordering::SeqCst));
        }
        value
    })
}

pub(super) unsafe extern "C" fn finalize(reserved: *mut c_void) -> CK_RV {
    let engine = Engine::get();
    engine.call(Function::C_Finalize, false, |_| {
        // SAFETY: the caller's argument, as it is.
        let value = unsafe { forward!(engine, Function::C_Finalize, (*mut c_void), (reserved)) };
        if value == CKR_OK {
            engine.state.sessions_closed(engine.sessions.swap(0, Ordering::SeqCst));
        }
        value
    })
}
