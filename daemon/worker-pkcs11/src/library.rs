//! The PKCS#11 module: loaded and initialised once, finalised when nobody uses it any more.

use std::{ffi::CString, path::Path, ptr::NonNull, sync::Arc};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::Error,
};
use mintwarden_worker::{
    device::{Cause, DeviceError},
    watch,
};

use crate::fault::{describe, fault};

/// A module that was initialised. Whoever holds a session holds one of these too, *declared after
/// the session*, so that sessions are closed before the module is finalised.
#[derive(Clone, Debug)]
pub(crate) struct Library(Arc<Initialised>);

impl Library {
    /// Loads the module at `path` and initialises it for use from several threads, with the string
    /// that some modules want in `pReserved`.
    pub(crate) fn open(path: &Path, init_args: Option<&str>) -> Result<Self, DeviceError> {
        let context = load(path)?;
        let reserved = init_args.map(CString::new).transpose().map_err(|_| {
            let detail = "init_args has a NUL; write what the module's maker says";
            DeviceError::of(Cause::ModuleUnusable, detail)
        })?;
        // A module that insists on locks from the application or on none is refused: signing
        // threads work side by side.
        let flags = CInitializeFlags::OS_LOCKING_OK;
        let arguments = match &reserved {
            None => CInitializeArgs::new(flags),
            Some(text) => with_reserved(flags, text),
        };
        watch::call(|| context.initialize(arguments)).map_err(|error| {
            let hint = if reserved.is_some() { " with `init_args`" } else { "" };
            fault(&format!("initialising {}{hint}", path.display()), &error)
        })?;
        // Never unloaded: that would take code away under a module's own threads, and run its exit handlers.
        std::mem::forget(context.clone());
        Ok(Self(Arc::new(Initialised { context, _reserved: reserved })))
    }

    pub(crate) fn context(&self) -> &Pkcs11 {
        &self.0.context
    }

    /// The library's own description and version (`CK_INFO`).
    pub(crate) fn describe(&self) -> String {
        watch::call(|| self.context().get_library_info()).map_or_else(
            |error| describe(&error),
            |info| {
                let version = info.library_version();
                format!(
                    "{} {} {}.{}",
                    info.manufacturer_id(),
                    info.library_description(),
                    version.major(),
                    version.minor()
                )
            },
        )
    }
}

#[derive(Debug)]
struct Initialised {
    context: Pkcs11,
    /// What `pReserved` pointed to: modules may go on reading it.
    _reserved: Option<CString>,
}

impl Drop for Initialised {
    fn drop(&mut self) {
        if let Err(error) = self.context.clone().finalize() {
            tracing::warn!(error = describe(&error), "the PKCS#11 module was not finalised");
        }
    }
}

#[expect(unsafe_code, reason = "pReserved is a pointer of which the module knows the type")]
fn with_reserved(flags: CInitializeFlags, text: &CString) -> CInitializeArgs {
    let pointer = NonNull::new(text.as_ptr().cast_mut().cast());
    let pointer = pointer.expect("a CString is never at the null pointer");
    // SAFETY: the pointer is to a NUL-terminated string, which is what modules that read `pReserved` expect
    // it to be, and `Initialised` keeps the string for as long as the module is initialised. Modules
    // only read it.
    unsafe { CInitializeArgs::new_with_reserved(flags, pointer) }
}

fn load(path: &Path) -> Result<Pkcs11, DeviceError> {
    let unusable = |problem: String| {
        let detail = format!(
            "{}: {problem}; set the device's `module` to the path of its PKCS#11 library",
            path.display()
        );
        // The same file fails in the same way until somebody acts.
        DeviceError::of(Cause::ModuleUnusable, detail)
    };
    match path.metadata() {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err(unusable("is not a file".to_owned())),
        Err(error) => return Err(unusable(error.to_string())),
    }
    watch::call(|| Pkcs11::new(path)).map_err(|error| {
        unusable(match error {
            Error::LibraryLoading(problem) => format!("cannot be loaded: {problem}"),
            Error::MissingSymbol(symbol) => {
                format!("is a library, but not a PKCS#11 one: it has no {symbol}")
            }
            other => format!("does not start as a PKCS#11 library: {}", describe(&other)),
        })
    })
}
