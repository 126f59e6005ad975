//! Keys that are made: whole or by halves, twice, with other attributes than asked for.

use std::slice;

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_BYTE, CK_MECHANISM, CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE, CK_ULONG,
    CKR_KEY_HANDLE_INVALID, CKR_OK, CKR_WRAPPING_KEY_HANDLE_INVALID,
};

use super::{Effect, Engine, attributes::show_made, entry::forward};
use crate::{Action, Function, Half};

type Mechanism = *mut CK_MECHANISM;
type Attributes = *mut CK_ATTRIBUTE;
type Object = *mut CK_OBJECT_HANDLE;

pub(super) unsafe extern "C" fn generate(
    session: CK_SESSION_HANDLE,
    mechanism: Mechanism,
    public: Attributes,
    public_count: CK_ULONG,
    private: Attributes,
    private_count: CK_ULONG,
    public_key: Object,
    private_key: Object,
) -> CK_RV {
    let engine = Engine::get();
    engine.call(Function::C_GenerateKeyPair, false, |effects| {
        // SAFETY: the caller's templates have as many attributes as the caller says.
        let (mut public, mut private) = unsafe {
            (
                Template::new(effects, Half::Public, public, public_count),
                Template::new(effects, Half::Private, private, private_count),
            )
        };
        let mut make = |public_key: Object, private_key: Object| {
            // SAFETY: the caller's arguments, with templates that live on the stack of this call.
            unsafe {
                forward!(
                    engine,
                    Function::C_GenerateKeyPair,
                    (
                        CK_SESSION_HANDLE,
                        Mechanism,
                        Attributes,
                        CK_ULONG,
                        Attributes,
                        CK_ULONG,
                        Object,
                        Object
                    ),
                    (
                        session,
                        mechanism,
                        public.0.as_mut_ptr(),
                        public.0.len() as CK_ULONG,
                        private.0.as_mut_ptr(),
                        private.0.len() as CK_ULONG,
                        public_key,
                        private_key
                    )
                )
            }
        };
        let value = make(public_key, private_key);
        if value != CKR_OK || public_key.is_null() || private_key.is_null() {
            return value;
        }
        for effect in effects {
            match effect.rule.action {
                Action::Twin => {
                    let (mut twin, mut other) = (0, 0);
                    make(&raw mut twin, &raw mut other);
                }
                Action::LoseHalf(half) => {
                    let lost = if half == Half::Private { private_key } else { public_key };
                    // SAFETY: the real module has just written the handle.
                    unsafe {
                        forward!(
                            engine,
                            Function::C_DestroyObject,
                            (CK_SESSION_HANDLE, CK_OBJECT_HANDLE),
                            (session, *lost)
                        );
                    }
                }
                _ => {}
            }
        }
        // SAFETY: the real module has written both handles.
        unsafe {
            show_made(engine, value, public_key);
            show_made(engine, value, private_key);
        }
        value
    })
}

/// A template as the real module gets it: the values stay the caller's, or a rule's.
struct Template(Vec<CK_ATTRIBUTE>);

impl Template {
    /// # Safety
    /// `asked` is null or has `count` attributes.
    unsafe fn new(effects: &[Effect], of: Half, asked: Attributes, count: CK_ULONG) -> Self {
        let mut template = if asked.is_null() {
            vec![]
        } else {
            // SAFETY: the caller of this function vouches for it.
            unsafe { slice::from_raw_parts(asked, usize::try_from(count).unwrap_or(0)) }.to_vec()
        };
        for effect in effects {
            let Action::Template { half, attribute, value } = &effect.rule.action else { continue };
            if *half != of {
                continue;
            }
            template.retain(|asked| asked.type_ != *attribute);
            if let Some(value) = value {
                template.push(CK_ATTRIBUTE {
                    type_: *attribute,
                    pValue: value.0.as_ptr().cast_mut().cast(),
                    ulValueLen: value.0.len() as CK_ULONG,
                });
            }
        }
        Self(template)
    }
}

pub(super) unsafe extern "C" fn generate_key(
    session: CK_SESSION_HANDLE,
    mechanism: Mechanism,
    template: Attributes,
    count: CK_ULONG,
    key: Object,
) -> CK_RV {
    let engine = Engine::get();
    engine.call(Function::C_GenerateKey, false, |_| {
        // SAFETY: the caller's arguments, as they are.
        unsafe {
            let value = forward!(
                engine,
                Function::C_GenerateKey,
                (CK_SESSION_HANDLE, Mechanism, Attributes, CK_ULONG, Object),
                (session, mechanism, template, count, key)
            );
            show_made(engine, value, key);
            value
        }
    })
}

pub(super) unsafe extern "C" fn derive(
    session: CK_SESSION_HANDLE,
    mechanism: Mechanism,
    base: CK_OBJECT_HANDLE,
    template: Attributes,
    count: CK_ULONG,
    key: Object,
) -> CK_RV {
    let engine = Engine::get();
    engine.call(Function::C_DeriveKey, false, |_| {
        let Some(base) = engine.handles.real(base) else { return CKR_KEY_HANDLE_INVALID };
        // SAFETY: the caller's arguments, with a valid handle.
        unsafe {
            let value = forward!(
                engine,
                Function::C_DeriveKey,
                (CK_SESSION_HANDLE, Mechanism, CK_OBJECT_HANDLE, Attributes, CK_ULONG, Object),
                (session, mechanism, base, template, count, key)
            );
            show_made(engine, value, key);
            value
        }
    })
}

pub(super) unsafe extern "C" fn wrap(
    session: CK_SESSION_HANDLE,
    mechanism: Mechanism,
    wrapping: CK_OBJECT_HANDLE,
    key: CK_OBJECT_HANDLE,
    wrapped: *mut CK_BYTE,
    wrapped_len: *mut CK_ULONG,
) -> CK_RV {
    type Len = *mut CK_ULONG;
    let engine = Engine::get();
    engine.call(Function::C_WrapKey, wrapped.is_null(), |_| {
        let Some(wrapping) = engine.handles.real(wrapping) else {
            return CKR_WRAPPING_KEY_HANDLE_INVALID;
        };
        let Some(key) = engine.handles.real(key) else { return CKR_KEY_HANDLE_INVALID };
        // SAFETY: the caller's arguments, with valid handles.
        unsafe {
            forward!(
                engine,
                Function::C_WrapKey,
                (
                    CK_SESSION_HANDLE,
                    Mechanism,
                    CK_OBJECT_HANDLE,
                    CK_OBJECT_HANDLE,
                    *mut CK_BYTE,
                    Len
                ),
                (session, mechanism, wrapping, key, wrapped, wrapped_len)
            )
        }
    })
}

pub(super) unsafe extern "C" fn unwrap(
    session: CK_SESSION_HANDLE,
    mechanism: Mechanism,
    unwrapping: CK_OBJECT_HANDLE,
    wrapped: *mut CK_BYTE,
    wrapped_len: CK_ULONG,
    template: Attributes,
    count: CK_ULONG,
    key: Object,
) -> CK_RV {
    type Handle = CK_OBJECT_HANDLE;
    let engine = Engine::get();
    engine.call(Function::C_UnwrapKey, false, |_| {
        let Some(unwrapping) = engine.handles.real(unwrapping) else {
            return cryptoki_sys::CKR_UNWRAPPING_KEY_HANDLE_INVALID;
        };
        // SAFETY: the caller's arguments, with a valid handle.
        unsafe {
            let value = forward!(
                engine,
                Function::C_UnwrapKey,
                (
                    CK_SESSION_HANDLE,
                    Mechanism,
                    Handle,
                    *mut CK_BYTE,
                    CK_ULONG,
                    Attributes,
                    CK_ULONG,
                    Object
                ),
                (session, mechanism, unwrapping, wrapped, wrapped_len, template, count, key)
            );
            show_made(engine, value, key);
            value
        }
    })
}
