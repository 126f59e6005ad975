//! A PKCS#11 module that loads a real one, passes every call through, and misbehaves on command.
//!
//! Hardware security modules time out, drop sessions, reboot and answer garbage; SoftHSM2 does none of
//! that. Load this library in its place, name the real one in `FAULTY_PKCS11_MODULE`, and say what is
//! to go wrong: from a test, while the program under test runs, with [`Faulty`]; or with a script
//! file. README.md beside this crate has both, and the wire format for other languages.
//!
//! ```no_run
//! use faulty_pkcs11::{Ckr, Faulty, Function, on};
//!
//! # fn example(directory: &std::path::Path, softhsm2: &std::path::Path) -> Result<(), faulty_pkcs11::Error> {
//! let faulty = Faulty::listen(directory)?;
//! // Start the program under test with this library as its PKCS#11 module and these variables.
//! let environment = faulty.environment(softhsm2);
//! // Its third signature from now on fails, once.
//! let rule = faulty.add(on(Function::C_Sign).after(2).once().fails(Ckr::CKR_DEVICE_ERROR))?;
//! // … the program signs …
//! assert_eq!(faulty.fired(&rule), 1);
//! assert_eq!(faulty.calls(Function::C_Login), 1, "also counted over any number of processes");
//! # Ok(())
//! # }
//! ```

mod ckr;
mod control;
mod function;
mod module;
mod rule;
mod state;

pub use ckr::{Ckr, UnknownValue};
pub use control::{Applied, Error, Faulty, Variables};
pub use function::Function;
pub use rule::{
    Action, AttributeValue, Bytes, Chance, Class, Crash, Half, On, Rule, Script, When, any, on,
};
