//! The form of RFC 8693 section 2.1, as draft-ietf-oauth-transaction-tokens profiles it: parsed once, into a
//! type that only this parser makes.

use std::collections::HashMap;

use mintwarden_client::verify::parse_object;
use serde_json::{Map, Value};

use crate::error::{Code, Refusal};

pub(crate) const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
pub(crate) const TXN_TOKEN: &str = "urn:ietf:params:oauth:token-type:txn_token";
pub(crate) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// Bounds: bytes of a form, of `request_context` and `request_details`, and how many parameters.
pub(crate) const MAX_FORM: usize = 64 * 1024;
const MAX_CONTEXT: usize = 1024;
const MAX_DETAILS: usize = 4096;
const MAX_PARAMETERS: usize = 32;
/// Members of `request_context`, and characters of each.
const MAX_MEMBERS: usize = 16;
const MAX_MEMBER: usize = 256;

/// A request for a Txn-Token. Its tokens are not verified yet.
#[derive(Debug)]
pub(crate) struct TokenRequest {
    pub(crate) audience: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) subject: Subject,
}

/// What the Txn-Token is asked for with.
#[derive(Debug)]
pub(crate) enum Subject {
    /// An access token: a transaction starts.
    Start {
        access_token: String,
        /// An access token of the agent that acts.
        actor_token: Option<String>,
        /// What `rctx` is made from: flat and bounded.
        context: Option<Map<String, Value>>,
        /// What the rules make `tctx` and `agentic_ctx` from.
        details: Map<String, Value>,
    },
    /// A Txn-Token: it is replaced.
    Replacement { txn_token: String },
}

impl TokenRequest {
    /// Parses a form.
    pub(crate) fn parse(content_type: Option<&str>, body: &[u8]) -> Result<Self, Refusal> {
        let media_type = content_type.and_then(|text| text.split(';').next()).map(str::trim);
        if !media_type.is_some_and(|t| t.eq_ignore_ascii_case("application/x-www-form-urlencoded"))
        {
            let message = "send application/x-www-form-urlencoded";
            return Err(Refusal::request("CONTENT_TYPE", message));
        }
        let mut form = Form::parse(body)?;
        if form.required("grant_type")? != TOKEN_EXCHANGE {
            let message = format!("grant_type has to be {TOKEN_EXCHANGE}");
            return Err(Refusal::new(Code::UnsupportedGrantType, "GRANT_TYPE", message));
        }
        form.required_to_be("requested_token_type", TXN_TOKEN)?;
        if form.optional("resource").is_some() {
            let message = "resource is not supported: a Txn-Token is for the trust domain";
            return Err(Refusal::new(Code::InvalidTarget, "RESOURCE", message));
        }
        let audience = form.required("audience")?;
        let scopes = scopes(&form.required("scope")?)?;
        let subject = Subject::parse(&mut form)?;
        Ok(Self { audience, scopes, subject })
    }
}

impl Subject {
    fn parse(form: &mut Form) -> Result<Self, Refusal> {
        let token = form.required("subject_token")?;
        let token_type = form.required("subject_token_type")?;
        let actor_token = form.actor_token()?;
        match token_type.as_str() {
            ACCESS_TOKEN => Ok(Self::Start {
                access_token: token,
                actor_token,
                context: form.optional("request_context").map(|text| context(&text)).transpose()?,
                details: form
                    .optional("request_details")
                    .map(|text| object("request_details", &text, MAX_DETAILS))
                    .transpose()?
                    .unwrap_or_default(),
            }),
            TXN_TOKEN => {
                // All of these are decided when the transaction starts.
                let late = ["request_context", "request_details"].iter();
                let late = late.filter(|name| form.optional(name).is_some()).copied();
                let actor = actor_token.map(|_| "actor_token");
                match late.chain(actor).next() {
                    None => Ok(Self::Replacement { txn_token: token }),
                    Some(name) => Err(Refusal::request(
                        "FIXED_AT_START",
                        format!(
                            "{name} is fixed when a transaction starts: leave it out to replace a token"
                        ),
                    )),
                }
            }
            _ => Err(Refusal::request(
                "SUBJECT_TOKEN_TYPE",
                format!("subject_token_type has to be {ACCESS_TOKEN} or {TXN_TOKEN}"),
            )),
        }
    }
}

/// The parameters, each there once.
struct Form(HashMap<String, String>);

impl Form {
    fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let mut parameters = HashMap::new();
        for (name, value) in form_urlencoded::parse(body) {
            // What is not UTF-8 was replaced by this character: nobody means it.
            if name.contains('\u{fffd}') || value.contains('\u{fffd}') {
                return Err(Refusal::request("NOT_UTF8", "a parameter is not UTF-8"));
            }
            if parameters.len() == MAX_PARAMETERS {
                let message = format!("at most {MAX_PARAMETERS} parameters");
                return Err(Refusal::request("TOO_MANY_PARAMETERS", message));
            }
            // RFC 6749 section 3.2: no parameter stands more than once.
            if parameters.contains_key(&*name) {
                let name: String = name.chars().take(64).collect();
                let message = format!("the parameter {name} stands twice");
                return Err(Refusal::request("DUPLICATE_PARAMETER", message));
            }
            parameters.insert(name.into_owned(), value.into_owned());
        }
        Ok(Self(parameters))
    }

    /// A parameter without a value counts as left out (RFC 6749 section 3.2).
    fn optional(&mut self, name: &str) -> Option<String> {
        self.0.remove(name).filter(|value| !value.is_empty())
    }

    fn required(&mut self, name: &str) -> Result<String, Refusal> {
        let missing =
            || Refusal::request("MISSING_PARAMETER", format!("the parameter {name} is missing"));
        self.optional(name).ok_or_else(missing)
    }

    fn required_to_be(&mut self, name: &'static str, value: &str) -> Result<(), Refusal> {
        if self.required(name)? == value {
            return Ok(());
        }
        Err(Refusal::request("TOKEN_TYPE", format!("{name} has to be {value}")))
    }

    /// `actor_token` and `actor_token_type` stand together (RFC 8693 section 2.1).
    fn actor_token(&mut self) -> Result<Option<String>, Refusal> {
        match (self.optional("actor_token"), self.optional("actor_token_type").as_deref()) {
            (None, None) => Ok(None),
            (Some(token), Some(ACCESS_TOKEN)) => Ok(Some(token)),
            (Some(_), Some(_)) => Err(Refusal::request(
                "ACTOR_TOKEN_TYPE",
                format!("actor_token_type has to be {ACCESS_TOKEN}"),
            )),
            _ => Err(Refusal::request(
                "MISSING_PARAMETER",
                "actor_token and actor_token_type stand together",
            )),
        }
    }
}

/// RFC 6749 section 3.3.
fn scopes(text: &str) -> Result<Vec<String>, Refusal> {
    let mut scopes: Vec<String> = Vec::new();
    for scope in text.split(' ') {
        let allowed = |c: char| matches!(c, '!' | '#'..='[' | ']'..='~');
        if scope.is_empty() || !scope.chars().all(allowed) {
            let message = "scope has to be values of printable ASCII, one space between them";
            return Err(Refusal::scope("SCOPE_MALFORMED", message));
        }
        if !scopes.iter().any(|known| known == scope) {
            scopes.push(scope.to_owned());
        }
    }
    Ok(scopes)
}

fn object(name: &str, text: &str, limit: usize) -> Result<Map<String, Value>, Refusal> {
    if text.len() > limit {
        let message = format!("{name} is longer than {limit} bytes");
        return Err(Refusal::request("TOO_LARGE", message));
    }
    parse_object(text.as_bytes())
        .map_err(|error| Refusal::request("NOT_JSON", format!("{name}: {error}")))
}

/// `request_context`: flat, so that nothing can hide in it.
fn context(text: &str) -> Result<Map<String, Value>, Refusal> {
    let members = object("request_context", text, MAX_CONTEXT)?;
    let bounded = |value: &Value| match value {
        Value::String(text) => text.chars().count() <= MAX_MEMBER,
        Value::Bool(_) | Value::Number(_) => true,
        _ => false,
    };
    if members.len() > MAX_MEMBERS || !members.values().all(bounded) {
        let message = format!(
            "request_context has at most {MAX_MEMBERS} members: numbers, booleans and strings of at \
             most {MAX_MEMBER} characters"
        );
        return Err(Refusal::request("CONTEXT", message));
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: &str = "application/x-www-form-urlencoded";

    fn good() -> Vec<(&'static str, String)> {
        vec![
            ("grant_type", TOKEN_EXCHANGE.into()),
            ("requested_token_type", TXN_TOKEN.into()),
            ("audience", "trust-domain.example".into()),
            ("scope", "trade.stocks trade.read trade.stocks".into()),
            ("subject_token", "a.b.c".into()),
            ("subject_token_type", ACCESS_TOKEN.into()),
        ]
    }

    fn encode(parameters: &[(&str, String)]) -> Vec<u8> {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish().into()
    }

    fn parse(parameters: &[(&str, String)]) -> Result<TokenRequest, Refusal> {
        TokenRequest::parse(Some(FORM), &encode(parameters))
    }

    fn with(name: &'static str, value: impl Into<String>) -> Vec<(&'static str, String)> {
        let mut parameters = good();
        parameters.retain(|(known, _)| *known != name);
        parameters.push((name, value.into()));
        parameters
    }

    #[test]
    fn a_good_form_is_understood() {
        let mut parameters = with("request_context", r#"{"req_ip":"192.0.2.1"}"#);
        parameters.push(("request_details", r#"{"amount":5}"#.into()));
        parameters.push(("a_parameter_nobody_knows", "x".into()));
        parameters.push(("resource", String::new()));
        let request = parse(&parameters).unwrap();
        assert_eq!(request.audience, "trust-domain.example");
        assert_eq!(request.scopes, ["trade.stocks", "trade.read"]);
        let Subject::Start { access_token, actor_token: None, context, details } = request.subject
        else {
            panic!("{:?}", request.subject);
        };
        assert_eq!(access_token, "a.b.c");
        assert_eq!(context.unwrap()["req_ip"], "192.0.2.1");
        assert_eq!(details["amount"], 5);
    }

    #[test]
    fn what_is_missing_is_named() {
        for at in 0..good().len() {
            let mut parameters = good();
            let (name, _) = parameters.remove(at);
            let missing = parse(&parameters).unwrap_err();
            assert_eq!((missing.code, missing.reason), (Code::InvalidRequest, "MISSING_PARAMETER"));
            assert!(missing.message.contains(name), "{}", missing.message);
            // One without a value is no better.
            parameters.push((name, String::new()));
            assert_eq!(parse(&parameters).unwrap_err(), missing);
        }
    }

    #[test]
    fn no_parameter_stands_twice_known_or_not() {
        let names: Vec<_> = good().into_iter().map(|(name, _)| name).collect();
        for name in names.into_iter().chain(["x"]) {
            let mut parameters = good();
            parameters.extend([(name, "1".to_owned()), (name, "1".to_owned())]);
            let refused = parse(&parameters).unwrap_err();
            assert_eq!(refused.reason, "DUPLICATE_PARAMETER");
            assert!(refused.message.contains(name), "{}", refused.message);
        }
    }

    #[test]
    fn values_that_are_not_known_are_refused() {
        let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(40), "]".repeat(40));
        for (name, value, code, reason) in [
            ("grant_type", "authorization_code".into(), Code::UnsupportedGrantType, "GRANT_TYPE"),
            ("requested_token_type", ACCESS_TOKEN.into(), Code::InvalidRequest, "TOKEN_TYPE"),
            (
                "subject_token_type",
                "urn:ietf:params:oauth:token-type:refresh_token".into(),
                Code::InvalidRequest,
                "SUBJECT_TOKEN_TYPE",
            ),
            ("resource", "https://a.example/".into(), Code::InvalidTarget, "RESOURCE"),
            ("scope", "a  b".into(), Code::InvalidScope, "SCOPE_MALFORMED"),
            ("scope", " ".into(), Code::InvalidScope, "SCOPE_MALFORMED"),
            ("scope", "a\tb".into(), Code::InvalidScope, "SCOPE_MALFORMED"),
            ("scope", "ä".into(), Code::InvalidScope, "SCOPE_MALFORMED"),
            ("request_details", "[]".into(), Code::InvalidRequest, "NOT_JSON"),
            ("request_details", "{".into(), Code::InvalidRequest, "NOT_JSON"),
            ("request_details", r#"{"a":1,"a":2}"#.into(), Code::InvalidRequest, "NOT_JSON"),
            ("request_details", deep, Code::InvalidRequest, "NOT_JSON"),
            (
                "request_details",
                format!("{{\"a\":\"{}\"}}", "x".repeat(4096)),
                Code::InvalidRequest,
                "TOO_LARGE",
            ),
            (
                "request_context",
                format!("{{\"a\":\"{}\"}}", "x".repeat(1024)),
                Code::InvalidRequest,
                "TOO_LARGE",
            ),
            (
                "request_context",
                format!("{{\"a\":\"{}\"}}", "x".repeat(257)),
                Code::InvalidRequest,
                "CONTEXT",
            ),
            ("request_context", r#"{"a":{}}"#.into(), Code::InvalidRequest, "CONTEXT"),
            ("request_context", r#"{"a":null}"#.into(), Code::InvalidRequest, "CONTEXT"),
            ("actor_token", "a.b.c".into(), Code::InvalidRequest, "MISSING_PARAMETER"),
            ("actor_token_type", ACCESS_TOKEN.into(), Code::InvalidRequest, "MISSING_PARAMETER"),
        ] {
            let refused = parse(&with(name, value)).unwrap_err();
            assert_eq!(
                (refused.code, refused.reason),
                (code, reason),
                "{name}: {}",
                refused.message
            );
        }
    }

    #[test]
    fn only_forms_in_utf8_are_read() {
        let body = encode(&good());
        for content_type in [None, Some("application/json"), Some("")] {
            assert_eq!(
                TokenRequest::parse(content_type, &body).unwrap_err().reason,
                "CONTENT_TYPE"
            );
        }
        TokenRequest::parse(Some("Application/X-WWW-Form-Urlencoded; charset=utf-8"), &body)
            .unwrap();
        let broken = [&body[..], b"&x=%ff"].concat();
        assert_eq!(TokenRequest::parse(Some(FORM), &broken).unwrap_err().reason, "NOT_UTF8");
        let many: Vec<_> = (0..33).map(|n| format!("p{n}=1&").into_bytes()).collect();
        let refused = TokenRequest::parse(Some(FORM), &many.concat()).unwrap_err();
        assert_eq!(refused.reason, "TOO_MANY_PARAMETERS");
    }

    #[test]
    fn a_replacement_brings_nothing_new() {
        let mut parameters = with("subject_token_type", TXN_TOKEN);
        let request = parse(&parameters).unwrap();
        assert!(matches!(request.subject, Subject::Replacement { .. }));
        for name in ["request_context", "request_details"] {
            parameters.push((name, "{}".into()));
            let refused = parse(&parameters).unwrap_err();
            assert_eq!(refused.reason, "FIXED_AT_START");
            assert!(refused.message.contains(name), "{}", refused.message);
            parameters.pop();
        }
        parameters.extend([("actor_token", "a".into()), ("actor_token_type", ACCESS_TOKEN.into())]);
        assert_eq!(parse(&parameters).unwrap_err().reason, "FIXED_AT_START");
    }
}
