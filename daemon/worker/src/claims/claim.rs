//! The claims that the profile knows.

/// A claim whose type or value the profile checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// RFC 7519 section 4.1.1.
    Iss,
    /// RFC 7519 section 4.1.2.
    Sub,
    /// RFC 7519 section 4.1.3.
    Aud,
    /// RFC 8417 section 2.2: the transaction.
    Txn,
    /// RFC 8693 section 4.2.
    Scope,
    /// The purpose: earlier texts of the draft have it in place of `scope`.
    Purp,
    /// The draft's requesting workload.
    ReqWl,
    /// RFC 7519 section 4.1.7.
    Jti,
    /// RFC 7519 section 4.1.6.
    Iat,
    /// RFC 7519 section 4.1.5.
    Nbf,
    /// RFC 7519 section 4.1.4.
    Exp,
    /// The draft's transaction context.
    Tctx,
    /// The draft's requester context.
    Rctx,
    /// The context of an agent, from the draft's companion for agents.
    AgenticCtx,
    /// RFC 8693 section 4.1: who acts for the subject.
    Act,
    /// Who acted before, from the draft's companion for agents.
    ActChain,
}

impl Claim {
    /// How many there are.
    pub(super) const COUNT: usize = Self::ActChain as usize + 1;

    /// The claim with this name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "iss" => Self::Iss,
            "sub" => Self::Sub,
            "aud" => Self::Aud,
            "txn" => Self::Txn,
            "scope" => Self::Scope,
            "purp" => Self::Purp,
            "req_wl" => Self::ReqWl,
            "jti" => Self::Jti,
            "iat" => Self::Iat,
            "nbf" => Self::Nbf,
            "exp" => Self::Exp,
            "tctx" => Self::Tctx,
            "rctx" => Self::Rctx,
            "agentic_ctx" => Self::AgenticCtx,
            "act" => Self::Act,
            "act_chain" => Self::ActChain,
            _ => return None,
        })
    }

    /// Its name in a payload.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Iss => "iss",
            Self::Sub => "sub",
            Self::Aud => "aud",
            Self::Txn => "txn",
            Self::Scope => "scope",
            Self::Purp => "purp",
            Self::ReqWl => "req_wl",
            Self::Jti => "jti",
            Self::Iat => "iat",
            Self::Nbf => "nbf",
            Self::Exp => "exp",
            Self::Tctx => "tctx",
            Self::Rctx => "rctx",
            Self::AgenticCtx => "agentic_ctx",
            Self::Act => "act",
            Self::ActChain => "act_chain",
        }
    }
}
