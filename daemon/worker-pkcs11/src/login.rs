//! The one login of this process, through the record that outlives it (I10).

use cryptoki::{
    error::{Error, RvError},
    session::{Session, SessionState, UserType},
    slot::TokenInfo,
    types::AuthPin,
};
use mintwarden_hsm_config::pin::PinSource;
use mintwarden_worker::{
    device::{Cause, DeviceError},
    login::Ledger,
    watch,
};

use crate::fault::{describe, fault};

/// Logs the user in on `session`, and thereby all sessions of this process with the PKCS#11 token.
///
/// Only `CKR_OK` and `CKR_USER_ALREADY_LOGGED_IN` count as success, and both only if the session
/// then says that a user is logged in. The second means that the module logged in by itself (some
/// do, by a credential of their own): the PIN was not looked at, so none of its tries is used up,
/// and there is nothing that a repetition could make worse. Any other result parks.
pub(crate) fn login(
    session: &Session,
    token: &TokenInfo,
    source: &PinSource,
    ledger: &Ledger,
    resume: bool,
) -> Result<(), DeviceError> {
    let pin = source.read().map_err(|error| {
        // Nothing was attempted, so a later start may look again.
        DeviceError::of(Cause::PinUnavailable, error.to_string())
    })?;
    let login = ledger.begin(&pin, resume)?;
    if token.user_pin_locked() {
        return Err(login.failed("the PKCS#11 token says that its user PIN is locked"));
    }
    if token.user_pin_final_try() {
        tracing::warn!("the PKCS#11 token has one try left for its user PIN");
    }
    let secret = AuthPin::from(pin.expose_secret());
    match watch::call(|| session.login(UserType::User, Some(&secret))) {
        Ok(()) => {}
        Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {
            tracing::warn!(
                "the module was logged in before the PIN was given; the PIN is unproven"
            );
        }
        Err(error) => return Err(login.failed(&describe(&error))),
    }
    match is_logged_in(session) {
        Ok(true) => login.succeeded(),
        Ok(false) => Err(login.failed("C_Login succeeded, yet the session is not logged in")),
        Err(error) => Err(login.failed(&error.detail)),
    }
}

/// Refuses what was seen on a session that is not logged in: without the login no private object is shown,
/// and a key that is there would look as if it was not.
///
/// # Errors
/// [`Cause::SessionLost`]; whether only this session lost the login, a new one will tell.
pub(crate) fn still_logged_in(session: &Session) -> Result<(), DeviceError> {
    if is_logged_in(session)? {
        return Ok(());
    }
    Err(DeviceError::of(Cause::SessionLost, "the session is not logged in any more"))
}

/// Whether the session says that the user is logged in.
pub(crate) fn is_logged_in(session: &Session) -> Result<bool, DeviceError> {
    let info = watch::call(|| session.get_session_info())
        .map_err(|error| fault("asking a session whether it is logged in", &error))?;
    Ok(matches!(info.session_state(), SessionState::RoUser | SessionState::RwUser))
}
