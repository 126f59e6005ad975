//! From a request to a Txn-Token. The TTS decides; the appliance signs, or refuses.

use std::{
    iter,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::rand;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use mintwarden_client::{
    Error, Issuer, Token, TxnClaims,
    verify::{VerifiedToken, VerifyError},
};
use serde_json::{Map, Value};

use crate::{
    delegation,
    error::{Code, Refusal},
    request::{Subject, TokenRequest},
    rules::{Purpose, Rules},
    subject::Subjects,
};

/// Claims that a replacement keeps as they are: the draft's "MUST NOT modify", and all that was decided when the
/// transaction started.
const KEPT: [&str; 8] = ["txn", "sub", "aud", "tctx", "rctx", "act", "agentic_ctx", "iss"];

/// What the TTS knows and has.
pub(crate) struct Exchange {
    pub(crate) trust_domain: String,
    pub(crate) subjects: Subjects,
    pub(crate) rules: Rules,
    pub(crate) issuer: Issuer,
    pub(crate) limits: Limits,
}

/// What came of a request.
pub(crate) struct Issued {
    pub(crate) token: Token,
    /// The transaction's name: it stands in the logs of TTS and appliance, and so joins them.
    pub(crate) txn: String,
}

pub(crate) struct Limits {
    /// The longest life of a Txn-Token.
    pub(crate) lifetime: Duration,
    /// How long the appliance may take.
    pub(crate) sign_timeout: Duration,
    /// How often a Txn-Token may be replaced.
    pub(crate) replacements: usize,
}

impl Exchange {
    /// Exchanges a token for `requester`, who is authenticated.
    pub(crate) async fn exchange(
        &self,
        requester: &str,
        request: TokenRequest,
    ) -> Result<Issued, Refusal> {
        if request.audience != self.trust_domain {
            let message = format!("audience has to be {}", self.trust_domain);
            return Err(Refusal::new(Code::InvalidTarget, "AUDIENCE", message));
        }
        let (txn, claims) = match request.subject {
            Subject::Start { access_token, actor_token, context, details } => {
                self.rules.permit(requester, Purpose::Start, &request.scopes)?;
                let subject = self.subjects.access_token("subject_token", &access_token)?;
                let actor =
                    actor_token.map(|token| self.subjects.access_token("actor_token", &token));
                let start = Start { subject, actor: actor.transpose()?, context, details };
                self.start(start, &request.scopes)?
            }
            Subject::Replacement { txn_token } => {
                self.rules.permit(requester, Purpose::Replace, &request.scopes)?;
                self.replacement(&self.subjects.txn_token(&txn_token)?, &request.scopes)?
            }
        };
        let claims = claims.scope(request.scopes.join(" ")).requesting_workload(requester);
        let token = self.sign(claims).await?;
        Ok(Issued { token, txn })
    }

    /// The name and the claims of a transaction that starts.
    fn start(&self, start: Start, scopes: &[String]) -> Result<(String, TxnClaims), Refusal> {
        let Start { subject, actor, context, details } = start;
        narrows(&subject, scopes)?;
        let act = delegation::act(&subject, actor.as_ref())?;
        let contexts = self.rules.contexts(scopes, details, act.is_some())?;
        let limits = iter::once(&subject).chain(&actor).map(VerifiedToken::expires_at);
        let txn = unique()?;
        let mut claims = self
            .lifetime(limits)?
            .audience(&self.trust_domain)
            .txn(&*txn)
            .subject(said(&subject, "sub")?)
            .transaction_context(contexts.tctx);
        if let Some(context) = context {
            claims = claims.requester_context(context);
        }
        if let Some(act) = act {
            claims = claims.actor(act);
        }
        if !contexts.agentic_ctx.is_empty() {
            claims = claims.claim("agentic_ctx", contexts.agentic_ctx);
        }
        Ok((txn, claims))
    }

    /// The name of a transaction, and the claims of a token that takes the place of another of the same transaction.
    fn replacement(
        &self,
        replaced: &VerifiedToken,
        scopes: &[String],
    ) -> Result<(String, TxnClaims), Refusal> {
        narrows(replaced, scopes)?;
        let mut hops: Vec<Value> = replaced.hops().map(Value::from).collect();
        if hops.len() > self.limits.replacements {
            let message = format!("a token is replaced at most {} times", self.limits.replacements);
            return Err(Refusal::request("TOO_MANY_REPLACEMENTS", message));
        }
        hops.reverse();
        let mut claims = self.lifetime([replaced.expires_at()])?.claim("req_wl_chain", hops);
        for name in KEPT {
            if let Some(value) = replaced.claims().get(name) {
                claims = claims.claim(name, value.clone());
            }
        }
        Ok((said(replaced, "txn")?.to_owned(), claims))
    }

    /// Claims that live as long as they may, and no longer than what they are exchanged for.
    fn lifetime(&self, limits: impl IntoIterator<Item = u64>) -> Result<TxnClaims, Refusal> {
        let now = now();
        let longest = now.saturating_add(self.limits.lifetime.as_secs());
        let exp = limits.into_iter().fold(longest, u64::min);
        if exp <= now {
            return Err(Refusal::request("EXPIRED", "a token expires just now"));
        }
        let claims = TxnClaims::new(self.limits.lifetime);
        Ok(claims.claim("iat", now).claim("exp", exp))
    }

    async fn sign(&self, claims: TxnClaims) -> Result<Token, Refusal> {
        let signed = self.issuer.sign_within(claims, self.limits.sign_timeout).await;
        signed.map_err(|error| {
            // Nobody but the appliance signs: whatever its reason, there is no token. What it is goes to the log.
            tracing::error!(reason = error.reason(), %error, "no signature");
            let reason = match error {
                Error::DeadlineExceeded => "APPLIANCE_SLOW",
                Error::Overloaded { .. } => "OVERLOADED",
                Error::Refused(_) => "APPLIANCE_REFUSED",
                _ => "APPLIANCE_DOWN",
            };
            Refusal::unavailable(reason, error.retry_after())
        })
    }
}

struct Start {
    subject: VerifiedToken,
    actor: Option<VerifiedToken>,
    context: Option<Map<String, Value>>,
    details: Map<String, Value>,
}

/// The scopes asked for are among those that the token has. One that says nothing of scope has none (the draft,
/// "Unknown subject_token scope").
fn narrows(token: &VerifiedToken, scopes: &[String]) -> Result<(), Refusal> {
    for scope in scopes {
        if !token.scopes().any(|has| has == scope) {
            let message = format!("subject_token does not have the scope {scope}");
            return Err(Refusal::scope("SCOPE_EXCEEDS_SUBJECT", message));
        }
    }
    Ok(())
}

fn said<'a>(token: &'a VerifiedToken, claim: &str) -> Result<&'a str, Refusal> {
    let refuse = |error: VerifyError| Refusal::request(error.reason(), error.to_string());
    token.text(claim).map_err(refuse)
}

/// A transaction's name: 144 random bits.
fn unique() -> Result<String, Refusal> {
    let mut bytes = [0; 18];
    rand::fill(&mut bytes).map_err(|_| Refusal::unavailable("NO_RANDOMNESS", None))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the only place in this program that reads the clock"
)]
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
