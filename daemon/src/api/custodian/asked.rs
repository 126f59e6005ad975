//! Requests of custodians as values: what they name is parsed here, once.

use mintwarden_hsm_config::name::DeviceName;
use mintwarden_proto::v1::{self, RevokeFallback};

use crate::{
    api::errors::{ApiError, MAX_REASON},
    keyset::{
        act::{CustodianAct, Fallback},
        proposal::ProposalId,
    },
};

/// An act as it was asked for. What is wrong with it is told only to those who may ask.
pub(super) struct Asked {
    /// The issuer's name, not looked up yet.
    pub(super) issuer: String,
    /// Why, as the custodian says.
    pub(super) reason: Result<String, ApiError>,
    /// What.
    pub(super) act: Result<CustodianAct, ApiError>,
}

impl Asked {
    fn new(issuer: String, why: String, act: Result<CustodianAct, ApiError>) -> Self {
        Self { issuer, reason: reason(why), act }
    }
}

/// The text that a custodian gives as reason. Other custodians read it in their terminals, so that it
/// has nothing in it that a terminal obeys.
///
/// # Errors
/// [`ApiError`] where it is too long, or more than text.
pub(super) fn reason(text: String) -> Result<String, ApiError> {
    if text.len() > MAX_REASON {
        return Err(ApiError::ReasonTooLong);
    }
    // Beside control characters those that change the order in which others are shown.
    let obeyed = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if text.contains(obeyed) {
        return Err(ApiError::Field { name: "reason", problem: "it has control characters" });
    }
    Ok(text)
}

/// A `kid` as all keys have it. It need not exist.
///
/// # Errors
/// [`ApiError`] for what can be none.
pub(super) fn kid(text: String) -> Result<String, ApiError> {
    let base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if text.len() == 43 && text.bytes().all(base64url) {
        return Ok(text);
    }
    Err(ApiError::Field { name: "kid", problem: "a kid has 43 characters of base64url" })
}

/// The name of a proposal. There need not be one.
///
/// # Errors
/// [`ApiError`] for what can be none.
pub(super) fn proposal(text: String) -> Result<ProposalId, ApiError> {
    let problem = "a proposal's id has 32 digits of lower-case hex";
    text.try_into().map_err(|_| ApiError::Field { name: "id", problem })
}

fn device(text: &str) -> Result<Option<String>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let name: DeviceName = text.parse().map_err(|_| ApiError::UnknownDevice)?;
    Ok(Some(name.to_string()))
}

fn fallback(number: i32) -> Result<Option<Fallback>, ApiError> {
    match RevokeFallback::try_from(number) {
        Ok(RevokeFallback::Unspecified) => Ok(None),
        Ok(RevokeFallback::ActivateImmature) => Ok(Some(Fallback::DangerImmature)),
        Ok(RevokeFallback::Wait) => Ok(Some(Fallback::Wait)),
        Err(_) => Err(ApiError::Field { name: "fallback", problem: "there is no such choice" }),
    }
}

impl From<v1::InitRequest> for Asked {
    fn from(v1::InitRequest { issuer, reason }: v1::InitRequest) -> Self {
        Self::new(issuer, reason, Ok(CustodianAct::Init))
    }
}

impl From<v1::RecoverRequest> for Asked {
    fn from(request: v1::RecoverRequest) -> Self {
        let v1::RecoverRequest { issuer, reason, danger_immature } = request;
        Self::new(issuer, reason, Ok(CustodianAct::Recover { danger_immature }))
    }
}

impl From<v1::RotateRequest> for Asked {
    fn from(v1::RotateRequest { issuer, reason, device: name }: v1::RotateRequest) -> Self {
        let act = device(&name).map(|device| CustodianAct::Rotate { device });
        Self::new(issuer, reason, act)
    }
}

impl From<v1::ActivateRequest> for Asked {
    fn from(request: v1::ActivateRequest) -> Self {
        let v1::ActivateRequest { issuer, reason, kid: text, danger_immature } = request;
        let act = kid(text).map(|kid| CustodianAct::Activate { kid, danger_immature });
        Self::new(issuer, reason, act)
    }
}

impl From<v1::SuspendRequest> for Asked {
    fn from(v1::SuspendRequest { issuer, reason, kid: text }: v1::SuspendRequest) -> Self {
        Self::new(issuer, reason, kid(text).map(|kid| CustodianAct::Suspend { kid }))
    }
}

impl From<v1::ResumeRequest> for Asked {
    fn from(v1::ResumeRequest { issuer, reason, kid: text }: v1::ResumeRequest) -> Self {
        Self::new(issuer, reason, kid(text).map(|kid| CustodianAct::Resume { kid }))
    }
}

impl From<v1::RevokeRequest> for Asked {
    fn from(request: v1::RevokeRequest) -> Self {
        let v1::RevokeRequest { issuer, reason, kid: text, fallback: choice } = request;
        let act =
            kid(text).and_then(|kid| Ok(CustodianAct::Revoke { kid, fallback: fallback(choice)? }));
        Self::new(issuer, reason, act)
    }
}

impl From<v1::DestroyRequest> for Asked {
    fn from(v1::DestroyRequest { issuer, reason, kid: text }: v1::DestroyRequest) -> Self {
        Self::new(issuer, reason, kid(text).map(|kid| CustodianAct::Destroy { kid }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_bounded_text_that_no_terminal_obeys() {
        assert_eq!(
            reason("change 4711 – Schlüssel".into()).expect("text"),
            "change 4711 – Schlüssel"
        );
        assert!(reason("x".repeat(MAX_REASON)).is_ok());
        assert!(matches!(reason("x".repeat(MAX_REASON + 1)), Err(ApiError::ReasonTooLong)));
        for bad in ["\u{1b}[2J", "two\nlines", "\u{9b}1m", "a\u{202e}b", "\0"] {
            assert!(matches!(reason(bad.into()), Err(ApiError::Field { .. })), "{bad:?}");
        }
    }

    #[test]
    fn a_kid_is_a_thumbprint() {
        let thumbprint = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
        assert_eq!(kid(thumbprint.into()).expect("RFC 7638 section 3.1"), thumbprint);
        for bad in ["", "NzbLs", &thumbprint.replace('-', "+"), &format!("{thumbprint}=")] {
            assert!(matches!(kid(bad.into()), Err(ApiError::Field { .. })), "{bad:?}");
        }
    }

    #[test]
    fn a_proposals_id_is_hex() {
        let id = "0123456789abcdef0123456789abcdef";
        assert_eq!(proposal(id.into()).expect("an id").as_str(), id);
        for bad in ["", "0", &id.to_uppercase(), &format!("{id}0")] {
            assert!(matches!(proposal(bad.into()), Err(ApiError::Field { .. })), "{bad:?}");
        }
    }

    #[test]
    fn choices_that_do_not_exist_are_none() {
        assert!(matches!(fallback(0), Ok(None)));
        assert!(matches!(fallback(2), Ok(Some(Fallback::Wait))));
        assert!(matches!(fallback(7), Err(ApiError::Field { .. })));
        assert!(matches!(device("no such/name"), Err(ApiError::UnknownDevice)));
    }
}
