use std::borrow::Cow;

use serde_json::json;

use crate::TRUST_DOMAIN;

const TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type";

/// The parameters of a token request (RFC 8693 section 2.1), good or bad.
#[derive(Clone, Debug)]
pub struct Form(Vec<(Cow<'static, str>, String)>);

impl Form {
    /// Asks for a transaction to start: to buy 100 MSFT.
    #[must_use]
    pub fn start(access_token: &str) -> Self {
        let details = json!({ "action": "BUY", "ticker": "MSFT", "amount": 100 });
        Self::new("trade.stocks", access_token, "access_token")
            .set("request_context", json!({ "req_ip": "192.0.2.17" }).to_string())
            .set("request_details", details.to_string())
    }

    /// Asks for another token in the place of this one.
    #[must_use]
    pub fn replacement(txn_token: &str) -> Self {
        Self::new("trade.stocks", txn_token, "txn_token")
    }

    fn new(scope: &str, subject_token: &str, kind: &str) -> Self {
        let form = Self(Vec::new())
            .set("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
            .set("requested_token_type", format!("{TOKEN_TYPE}:txn_token"));
        form.set("audience", TRUST_DOMAIN)
            .set("scope", scope)
            .set("subject_token", subject_token)
            .set("subject_token_type", format!("{TOKEN_TYPE}:{kind}"))
    }

    /// With this actor's access token.
    #[must_use]
    pub fn actor(self, token: &str) -> Self {
        self.set("actor_token", token).set("actor_token_type", format!("{TOKEN_TYPE}:access_token"))
    }

    /// With this value, and no other, of a parameter.
    #[must_use]
    pub fn set(self, name: &'static str, value: impl Into<String>) -> Self {
        self.without(name).and(name, value)
    }

    /// With one more parameter, which may be there already.
    #[must_use]
    pub fn and(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.push((name.into(), value.into()));
        self
    }

    /// Without a parameter.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.0.retain(|(known, _)| known != name);
        self
    }

    /// As `application/x-www-form-urlencoded`.
    #[must_use]
    pub fn encode(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.0).finish()
    }
}
