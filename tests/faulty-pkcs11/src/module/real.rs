//! The real module.

use std::{ffi::OsStr, mem};

use cryptoki_sys::{
    CK_FUNCTION_LIST, CK_FUNCTION_LIST_3_0, CK_INTERFACE, CK_RV, CK_SLOT_ID, CK_ULONG, CKR_OK,
};
use libloading::Library;

use crate::Function;

/// The functions of the real module, by [`Function`].
pub(super) struct Real {
    functions: [Option<unsafe extern "C" fn()>; Function::COUNT],
    /// Keeps the functions where they are.
    _library: Library,
}

impl Real {
    pub(super) fn load(path: &OsStr) -> Result<Self, String> {
        let problem = |what: String| format!("{}: {what}", path.display());
        // SAFETY: loading a library runs its initialisers; the one named here was chosen to be
        // loaded, as every PKCS#11 module is.
        let library = unsafe { Library::new(path) }.map_err(|error| problem(error.to_string()))?;
        let functions = match functions_3_0(&library) {
            Some(functions) => functions,
            None => functions_2_40(&library).map_err(problem)?,
        };
        Ok(Self { functions, _library: library })
    }

    /// The real function, as the type that its name has in `CK_FUNCTION_LIST_3_0`; `None` where the
    /// real module is older than it.
    ///
    /// # Safety
    /// `F` has to be the function pointer type of `function`.
    pub(super) unsafe fn function<F: Copy>(&self, function: Function) -> Option<F> {
        const { assert!(size_of::<F>() == size_of::<unsafe extern "C" fn()>()) };
        let pointer = self.functions[function as usize]?;
        // SAFETY: both are function pointers, and the caller vouches for the type.
        Some(unsafe { mem::transmute_copy(&pointer) })
    }

    /// Closes all sessions of this process, on every slot.
    pub(super) fn close_all_sessions(&self) {
        type List = unsafe extern "C" fn(u8, *mut CK_SLOT_ID, *mut CK_ULONG) -> CK_RV;
        type Close = unsafe extern "C" fn(CK_SLOT_ID) -> CK_RV;
        // SAFETY: the types are those of the standard.
        let functions = unsafe {
            (
                self.function::<List>(Function::C_GetSlotList),
                self.function::<Close>(Function::C_CloseAllSessions),
            )
        };
        let (Some(list), Some(close)) = functions else { return };
        let mut slots = [0; 64];
        let mut count = slots.len() as CK_ULONG;
        // SAFETY: `count` is the room in `slots`.
        if unsafe { list(1, slots.as_mut_ptr(), &raw mut count) } == CKR_OK {
            for slot in slots.iter().take(usize::try_from(count).unwrap_or(0)) {
                // SAFETY: a plain call.
                unsafe { close(*slot) };
            }
        }
    }
}

type Functions = [Option<unsafe extern "C" fn()>; Function::COUNT];

fn functions_3_0(library: &Library) -> Option<Functions> {
    type Find = unsafe extern "C" fn(*mut u8, *mut u8, *mut *mut CK_INTERFACE, CK_ULONG) -> CK_RV;
    let mut interface: *mut CK_INTERFACE = std::ptr::null_mut();
    // SAFETY: the symbol has this type in the standard; null asks for the default interface; a
    // module that answers CKR_OK has set the pointer to a static structure, whose list begins with
    // its version.
    unsafe {
        let find = library.get::<Find>(b"C_GetInterface\0").ok()?;
        let found =
            find(std::ptr::null_mut(), std::ptr::null_mut(), &raw mut interface, 0) == CKR_OK;
        if !found || interface.is_null() {
            return None;
        }
        let list = (*interface).pFunctionList.cast::<CK_FUNCTION_LIST>();
        if list.is_null() || (*list).version.major < 3 {
            return None;
        }
        Some(pointers::<CK_FUNCTION_LIST_3_0, { Function::COUNT }>(list.cast()))
    }
}

fn functions_2_40(library: &Library) -> Result<Functions, String> {
    type Find = unsafe extern "C" fn(*mut *mut CK_FUNCTION_LIST) -> CK_RV;
    let mut list: *mut CK_FUNCTION_LIST = std::ptr::null_mut();
    // SAFETY: the symbol has this type in the standard, and a module that answers CKR_OK has set the
    // pointer to a static list.
    unsafe {
        let find =
            library.get::<Find>(b"C_GetFunctionList\0").map_err(|error| error.to_string())?;
        match find(&raw mut list) {
            CKR_OK if !list.is_null() => {}
            value => return Err(format!("C_GetFunctionList: {}", crate::Ckr(value))),
        }
        let old = pointers::<CK_FUNCTION_LIST, { Function::COUNT_2_40 }>(list);
        let mut functions = [None; Function::COUNT];
        functions[..old.len()].copy_from_slice(&old);
        Ok(functions)
    }
}

/// The function pointers of a list, which follow its version.
///
/// # Safety
/// `list` has to point to a list of type `L`, which has to have `N` functions.
unsafe fn pointers<L, const N: usize>(list: *const L) -> [Option<unsafe extern "C" fn()>; N] {
    const { assert!(size_of::<L>() == size_of::<[usize; N]>() + size_of::<usize>()) };
    // SAFETY: `repr(C)`: the version, padded to a pointer's alignment, then N nullable pointers.
    unsafe { list.cast::<usize>().add(1).cast::<[Option<unsafe extern "C" fn()>; N]>().read() }
}
