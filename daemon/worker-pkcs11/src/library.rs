//! The PKCS#11 module: loaded and initialised once, finalised when nobody uses it any more.

use std::{path::Path, sync::Arc};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::Error,
};
use mintwarden_worker::{
    device::{Cause, DeviceError, Remedy},
    watch,
};

use crate::fault::{describe, fault};

/// A module that was initialised. Whoever holds a session holds one of these too, *declared after
/// the session*, so that sessions are closed before the module is finalised.
#[derive(Clone, Debug)]
pub(crate) struct Library(Arc<Initialised>);

impl Library {
    /// Loads the module at `path` and initialises it for use from several threads.
    pub(crate) fn open(path: &Path) -> Result<Self, DeviceError> {
        let context = load(path)?;
        // A module that insists on locks from the application or on none is refused: signing
        // threads work side by side.
        let arguments = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
        watch::call(|| context.initialize(arguments))
            .map_err(|error| fault(&format!("initialising {}", path.display()), &error))?;
        Ok(Self(Arc::new(Initialised { context })))
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
}

impl Drop for Initialised {
    fn drop(&mut self) {
        if let Err(error) = self.context.clone().finalize() {
            tracing::warn!(error = describe(&error), "the PKCS#11 module was not finalised");
        }
    }
}

fn load(path: &Path) -> Result<Pkcs11, DeviceError> {
    let unusable = |problem: String| {
        let detail = format!(
            "{}: {problem}; set the device's `module` to the path of its PKCS#11 library",
            path.display()
        );
        // The same file fails in the same way until somebody acts.
        DeviceError::new(Cause::ModuleUnusable, Remedy::Park, detail)
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
