//! Objects, and what is shown of them.

use std::slice;

use cryptoki_sys::{
    CK_ATTRIBUTE, CK_ATTRIBUTE_TYPE, CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE, CK_ULONG,
    CK_UNAVAILABLE_INFORMATION, CKA_CLASS, CKO_PRIVATE_KEY, CKO_PUBLIC_KEY,
    CKR_ATTRIBUTE_TYPE_INVALID, CKR_BUFFER_TOO_SMALL, CKR_OBJECT_HANDLE_INVALID, CKR_OK,
};

use super::{Engine, entry::forward};
use crate::{Action, AttributeValue, Class, Function};

/// An attribute of an object that is one number.
pub(super) fn number(
    engine: &Engine,
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    kind: CK_ATTRIBUTE_TYPE,
) -> Option<CK_ULONG> {
    let mut value: CK_ULONG = 0;
    let mut template = CK_ATTRIBUTE {
        type_: kind,
        pValue: (&raw mut value).cast(),
        ulValueLen: size_of::<CK_ULONG>() as CK_ULONG,
    };
    // SAFETY: a template of one attribute, with the room that it states.
    let read = unsafe { real_get(engine, session, object, &raw mut template, 1) };
    (read == CKR_OK).then_some(value)
}

unsafe fn real_get(
    engine: &Engine,
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    // SAFETY: the caller of this function vouches for the arguments.
    unsafe {
        forward!(
            engine,
            Function::C_GetAttributeValue,
            (CK_SESSION_HANDLE, CK_OBJECT_HANDLE, *mut CK_ATTRIBUTE, CK_ULONG),
            (session, object, template, count)
        )
    }
}

pub(super) unsafe extern "C" fn get(
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    let engine = Engine::get();
    engine.call(Function::C_GetAttributeValue, false, |effects| {
        let Some(object) = engine.handles.real(object) else { return CKR_OBJECT_HANDLE_INVALID };
        let changes = effects.iter().filter_map(|effect| match &effect.rule.action {
            Action::Attribute { class, attribute, value } => Some((*class, *attribute, value)),
            _ => None,
        });
        let mut changes: Vec<_> = changes.collect();
        if !changes.is_empty() {
            let is = number(engine, session, object, CKA_CLASS);
            changes.retain(|(class, _, _)| class.is_none_or(|class| Some(class.value()) == is));
        }
        let room: Vec<CK_ULONG> = if changes.is_empty() || template.is_null() {
            vec![]
        } else {
            // SAFETY: the caller's template has `count` attributes.
            let template =
                unsafe { slice::from_raw_parts(template, usize::try_from(count).unwrap_or(0)) };
            template.iter().map(|attribute| attribute.ulValueLen).collect()
        };
        // SAFETY: the caller's arguments, with a valid handle.
        let mut value = unsafe { real_get(engine, session, object, template, count) };
        for (place, room) in room.into_iter().enumerate() {
            // SAFETY: the place is within the caller's template.
            let attribute = unsafe { &mut *template.add(place) };
            let kind = attribute.type_;
            for (_, _, shown) in changes.iter().filter(|(_, changed, _)| *changed == kind) {
                // SAFETY: the caller's buffer has the room that the template stated.
                let changed = unsafe { show(shown, attribute, room) };
                if changed != CKR_OK {
                    value = changed;
                }
            }
        }
        value
    })
}

/// Shows a value in place of the one that was read.
///
/// # Safety
/// `attribute.pValue` is null or has `room` bytes.
unsafe fn show(shown: &AttributeValue, attribute: &mut CK_ATTRIBUTE, room: CK_ULONG) -> CK_RV {
    match shown {
        AttributeValue::Absent => {
            attribute.ulValueLen = CK_UNAVAILABLE_INFORMATION;
            CKR_ATTRIBUTE_TYPE_INVALID
        }
        AttributeValue::Bytes(bytes) => {
            attribute.ulValueLen = bytes.0.len() as CK_ULONG;
            if attribute.pValue.is_null() {
                return CKR_OK;
            }
            if room < attribute.ulValueLen {
                attribute.ulValueLen = CK_UNAVAILABLE_INFORMATION;
                return CKR_BUFFER_TOO_SMALL;
            }
            // SAFETY: there is room, as was just checked.
            unsafe {
                attribute
                    .pValue
                    .cast::<u8>()
                    .copy_from_nonoverlapping(bytes.0.as_ptr(), bytes.0.len());
            }
            CKR_OK
        }
        AttributeValue::FlipBit(bit) => {
            if attribute.pValue.is_null() || attribute.ulValueLen > room {
                return CKR_OK;
            }
            let len = usize::try_from(attribute.ulValueLen).unwrap_or(0);
            // SAFETY: the real module wrote so many bytes there.
            let value = unsafe { slice::from_raw_parts_mut(attribute.pValue.cast::<u8>(), len) };
            if let Some(byte) = value.iter_mut().rev().nth(*bit as usize / 8) {
                *byte ^= 1 << (bit % 8);
            }
            CKR_OK
        }
    }
}

impl Class {
    fn value(self) -> CK_ULONG {
        match self {
            Self::PrivateKey => CKO_PRIVATE_KEY,
            Self::PublicKey => CKO_PUBLIC_KEY,
        }
    }
}

pub(super) unsafe extern "C" fn find(
    session: CK_SESSION_HANDLE,
    objects: *mut CK_OBJECT_HANDLE,
    max: CK_ULONG,
    count: *mut CK_ULONG,
) -> CK_RV {
    let engine = Engine::get();
    engine.call(Function::C_FindObjects, false, |effects| {
        // SAFETY: the caller's arguments, as they are.
        let value = unsafe {
            forward!(
                engine,
                Function::C_FindObjects,
                (CK_SESSION_HANDLE, *mut CK_OBJECT_HANDLE, CK_ULONG, *mut CK_ULONG),
                (session, objects, max, count)
            )
        };
        if value != CKR_OK || count.is_null() || objects.is_null() {
            return value;
        }
        let hidden = effects.iter().any(|effect| effect.rule.action == Action::HideObjects);
        // SAFETY: the real module has just written `count`, and so many objects.
        unsafe {
            if hidden {
                *count = 0;
            }
            let found = slice::from_raw_parts_mut(objects, usize::try_from(*count).unwrap_or(0));
            found.iter_mut().for_each(|object| *object = engine.handles.shown(*object));
        }
        value
    })
}

pub(super) unsafe extern "C" fn create(
    session: CK_SESSION_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    object: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    let engine = Engine::get();
    engine.call(Function::C_CreateObject, false, |_| {
        // SAFETY: the caller's arguments, as they are.
        unsafe {
            let value = forward!(
                engine,
                Function::C_CreateObject,
                (CK_SESSION_HANDLE, *mut CK_ATTRIBUTE, CK_ULONG, *mut CK_OBJECT_HANDLE),
                (session, template, count, object)
            );
            show_made(engine, value, object);
            value
        }
    })
}

pub(super) unsafe extern "C" fn copy(
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    made: *mut CK_OBJECT_HANDLE,
) -> CK_RV {
    type Attributes = *mut CK_ATTRIBUTE;
    let engine = Engine::get();
    engine.call(Function::C_CopyObject, false, |_| {
        let Some(object) = engine.handles.real(object) else { return CKR_OBJECT_HANDLE_INVALID };
        // SAFETY: the caller's arguments, with a valid handle.
        unsafe {
            let value = forward!(
                engine,
                Function::C_CopyObject,
                (CK_SESSION_HANDLE, CK_OBJECT_HANDLE, Attributes, CK_ULONG, *mut CK_OBJECT_HANDLE),
                (session, object, template, count, made)
            );
            show_made(engine, value, made);
            value
        }
    })
}

/// Shows the handle of an object that was made, if it was.
///
/// # Safety
/// Where `value` is `CKR_OK`, the real module has written to `object`, unless that is null.
pub(super) unsafe fn show_made(engine: &Engine, value: CK_RV, object: *mut CK_OBJECT_HANDLE) {
    if value == CKR_OK && !object.is_null() {
        // SAFETY: the caller of this function vouches for it.
        unsafe { *object = engine.handles.shown(*object) };
    }
}
