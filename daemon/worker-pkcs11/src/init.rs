//! Initialises a PKCS#11 token: for development, tests and images. Tokens of HSMs in production are
//! initialised by their makers' tools and ceremonies.

use std::path::Path;

use cryptoki::{error::Error, session::UserType, types::AuthPin};
use mintwarden_hsm_config::pin::Pin;
use mintwarden_worker::device::DeviceError;

use crate::{
    fault::describe,
    library::Library,
    token::{self, padding_off},
};

/// Length of a label in `CK_TOKEN_INFO`.
const MAX_LABEL: usize = 32;

/// Gives the first PKCS#11 token that is not initialised a label, a security officer's PIN and a
/// user PIN. Returns its serial number.
///
/// # Errors
/// [`InitError`]. After [`InitError::Step`] the token may be initialised in part.
pub fn init_token(
    module: &Path,
    label: &str,
    so_pin: &Pin,
    pin: &Pin,
) -> Result<String, InitError> {
    if label.is_empty() || label.len() > MAX_LABEL || label.ends_with(' ') {
        return Err(InitError::Label { label: label.to_owned() });
    }
    let library = Library::open(module, None)?;
    let context = library.context();
    let tokens = token::all(context)?;
    let same_label = tokens
        .iter()
        .find(|(_, info)| info.token_initialized() && padding_off(info.label()) == label);
    if let Some((_, info)) = same_label {
        let serial = padding_off(info.serial_number()).to_owned();
        return Err(InitError::Exists { label: label.to_owned(), serial });
    }
    let (slot, _) = tokens
        .into_iter()
        .find(|(_, info)| !info.token_initialized())
        .ok_or(InitError::NoneFree)?;

    let step = |doing| move |error: Error| InitError::Step { doing, problem: describe(&error) };
    let so_pin = AuthPin::from(so_pin.expose_secret());
    context.init_token(slot, &so_pin, label).map_err(step("initialising the PKCS#11 token"))?;
    let session = context.open_rw_session(slot).map_err(step("opening a session"))?;
    session.login(UserType::So, Some(&so_pin)).map_err(step("logging the officer in"))?;
    session.init_pin(&AuthPin::from(pin.expose_secret())).map_err(step("setting the user PIN"))?;
    session.close().map_err(step("closing the session"))?;
    let info = context.get_token_info(slot).map_err(step("reading the serial number"))?;
    Ok(padding_off(info.serial_number()).to_owned())
}

/// A PKCS#11 token that was not initialised.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// The label is none.
    #[error(
        "{label:?} is no label for a PKCS#11 token: use 1 to 32 bytes without a blank at the end"
    )]
    Label {
        /// The label.
        label: String,
    },
    /// A PKCS#11 token has the label already.
    #[error(
        "a PKCS#11 token with label {label:?} exists already (serial number {serial:?}); nothing was changed; use another label"
    )]
    Exists {
        /// The label.
        label: String,
        /// The existing one's serial number.
        serial: String,
    },
    /// All PKCS#11 tokens are initialised.
    #[error("the module shows no PKCS#11 token that is not initialised; nothing was changed")]
    NoneFree,
    /// The module cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The module refused a step.
    #[error("{doing}: {problem}")]
    Step {
        /// The step.
        doing: &'static str,
        /// What the module said.
        problem: String,
    },
}
