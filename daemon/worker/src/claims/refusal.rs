//! Why a payload is not signed.

use std::{borrow::Cow, fmt};

use super::claim::Claim;

/// Why a payload is not signed: one rule, and the claim that breaks it.
///
/// [`reason`](Self::reason), [`claim`](Self::claim) and [`rule`](Self::rule) are stable and for
/// programs; `Display` is one sentence for a person. Neither holds anything of the payload but the
/// name of a claim, and that only where the profile or the configuration knows the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    rule: Rule,
    claim: Option<Cow<'static, str>>,
    limit: Option<u64>,
    position: Option<Position>,
}

impl Refusal {
    /// Of a payload that is no strict JSON object. `claim`: the known one inside of which it shows.
    pub(super) fn malformed(rule: Rule, claim: Option<Claim>, position: Option<Position>) -> Self {
        let claim = claim.map(|claim| Cow::Borrowed(claim.as_str()));
        Self { rule, claim, limit: None, position }
    }

    /// Of a claim that the profile knows.
    pub(super) fn of(claim: Claim, rule: Rule) -> Self {
        Self::named(Cow::Borrowed(claim.as_str()), rule)
    }

    /// Of a claim that the configuration names.
    pub(super) fn named(claim: Cow<'static, str>, rule: Rule) -> Self {
        Self { rule, claim: Some(claim), limit: None, position: None }
    }

    /// Says the limit that was exceeded, in the unit of the rule.
    pub(super) fn at_most(self, limit: u64) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// The stable reason code: `PAYLOAD_MALFORMED` or `CLAIM_REFUSED`.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.rule.reason()
    }

    /// The claim at the top of the payload that is at fault. Always there for `CLAIM_REFUSED`; for
    /// `PAYLOAD_MALFORMED` the claim inside of which the fault shows, if it is one that the profile
    /// knows.
    #[must_use]
    pub fn claim(&self) -> Option<&str> {
        self.claim.as_deref()
    }

    /// The rule that is broken; [`Rule::as_str`] is its stable word.
    #[must_use]
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// The limit that is exceeded, where the rule has one: bytes for [`Rule::Size`], levels for
    /// [`Rule::Depth`] and [`Rule::DelegationDepth`], seconds for [`Rule::Lifetime`] and
    /// [`Rule::Future`].
    #[must_use]
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Where in a malformed payload reading stopped.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.position
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sentence = self.rule.sentence();
        match (&self.claim, self.rule.is_malformed()) {
            (Some(claim), false) => write!(f, "claim `{claim}` {sentence}")?,
            (Some(claim), true) => write!(f, "the payload {sentence}, in claim `{claim}`")?,
            (None, _) => write!(f, "the payload {sentence}")?,
        }
        if let (Some(limit), Some(unit)) = (self.limit, self.rule.unit()) {
            write!(f, " (at most {limit} {unit})")?;
        }
        if let Some(Position { line, column }) = self.position {
            write!(f, " (line {line}, column {column})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

/// A place in a payload, both counted from 1; column in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The byte in the line.
    pub column: usize,
}

/// A rule of the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// `size`: the payload has no more than `max_claims_bytes` bytes.
    Size,
    /// `utf8`: the payload is UTF-8 (RFC 8259 section 8.1).
    Utf8,
    /// `json`: the payload is JSON (RFC 8259), without a byte order mark and without lone surrogates
    /// in its strings (RFC 7493 section 2.1).
    Json,
    /// `payload_object`: the JSON is an object (RFC 7519 section 7.1).
    PayloadObject,
    /// `trailing_bytes`: only white space follows the object.
    TrailingBytes,
    /// `duplicate_name`: no object has a name twice, whichever way it is escaped (RFC 7493 section 2.3).
    DuplicateName,
    /// `depth`: objects and arrays nest no deeper than [`Profile::MAX_DEPTH`](super::Profile::MAX_DEPTH).
    Depth,
    /// `number_range`: a double can hold the magnitude of every number (RFC 7493 section 2.2).
    NumberRange,

    /// `required`: the claim is there and is not null.
    Required,
    /// `not_empty`: a string, or a required claim of any type, is not empty.
    NotEmpty,
    /// `string`: the claim is a string.
    String,
    /// `string_or_array`: the claim is a string or a non-empty array of strings (RFC 7519 section 4.1.3).
    StringOrArray,
    /// `numeric_date`: the claim is a NumericDate (RFC 7519 section 2) written as an integer from 0 to
    /// 2^53 - 1: no fraction, no exponent.
    NumericDate,
    /// `object`: the claim is an object; for `act`, the `act` inside of it too (RFC 8693 section 4.1).
    Object,
    /// `array_of_objects`: the claim is an array of objects; what is `act` in these is an object too.
    ArrayOfObjects,
    /// `issuer`: `iss` is the issuer's own.
    Issuer,
    /// `audience`: every value of `aud` is one of the issuer's.
    Audience,
    /// `workload`: `req_wl` is one of those that the issuer is limited to.
    Workload,
    /// `future`: `iat` is not later than now and the tolerance for clocks.
    Future,
    /// `expired`: `exp` is later than now.
    Expired,
    /// `after_iat`: `exp` is later than `iat`.
    AfterIat,
    /// `lifetime`: `exp` is no more than `max_token_lifetime` after `iat`, and after now.
    Lifetime,
    /// `before_exp`: `nbf` is earlier than `exp`; otherwise the token would never be valid.
    BeforeExp,
    /// `delegation_depth`: `act` nests no deeper, and `act_chain` is no longer, than `max_act_depth`.
    DelegationDepth,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 24] = [
        Self::Size,
        Self::Utf8,
        Self::Json,
        Self::PayloadObject,
        Self::TrailingBytes,
        Self::DuplicateName,
        Self::Depth,
        Self::NumberRange,
        Self::Required,
        Self::NotEmpty,
        Self::String,
        Self::StringOrArray,
        Self::NumericDate,
        Self::Object,
        Self::ArrayOfObjects,
        Self::Issuer,
        Self::Audience,
        Self::Workload,
        Self::Future,
        Self::Expired,
        Self::AfterIat,
        Self::Lifetime,
        Self::BeforeExp,
        Self::DelegationDepth,
    ];

    /// The rule with this stable word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == word)
    }

    /// The stable reason of a refusal by it: `PAYLOAD_MALFORMED` or `CLAIM_REFUSED`.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        if self.is_malformed() { "PAYLOAD_MALFORMED" } else { "CLAIM_REFUSED" }
    }

    /// The stable word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Utf8 => "utf8",
            Self::Json => "json",
            Self::PayloadObject => "payload_object",
            Self::TrailingBytes => "trailing_bytes",
            Self::DuplicateName => "duplicate_name",
            Self::Depth => "depth",
            Self::NumberRange => "number_range",
            Self::Required => "required",
            Self::NotEmpty => "not_empty",
            Self::String => "string",
            Self::StringOrArray => "string_or_array",
            Self::NumericDate => "numeric_date",
            Self::Object => "object",
            Self::ArrayOfObjects => "array_of_objects",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Workload => "workload",
            Self::Future => "future",
            Self::Expired => "expired",
            Self::AfterIat => "after_iat",
            Self::Lifetime => "lifetime",
            Self::BeforeExp => "before_exp",
            Self::DelegationDepth => "delegation_depth",
        }
    }

    /// Whether breaking it makes the payload malformed, in whatever claim it is.
    const fn is_malformed(self) -> bool {
        matches!(
            self,
            Self::Size
                | Self::Utf8
                | Self::Json
                | Self::PayloadObject
                | Self::TrailingBytes
                | Self::DuplicateName
                | Self::Depth
                | Self::NumberRange
        )
    }

    /// What a claim or payload that breaks it is told.
    const fn sentence(self) -> &'static str {
        match self {
            Self::Size => "is larger than the issuer's max_claims_bytes",
            Self::Utf8 => "is not UTF-8",
            Self::Json => "is not strict JSON",
            Self::PayloadObject => "is not a JSON object",
            Self::TrailingBytes => "goes on after the end of its JSON object",
            Self::DuplicateName => "has an object with the same name twice",
            Self::Depth => "nests objects or arrays too deep",
            Self::NumberRange => "has a number that no double can hold",
            Self::Required => "is required, but absent or null",
            Self::NotEmpty => "must not be empty",
            Self::String => "must be a string",
            Self::StringOrArray => "must be a string or a non-empty array of strings",
            Self::NumericDate => "must be whole seconds since 1970, written as a plain integer",
            Self::Object => "must be an object, and so must each `act` in it",
            Self::ArrayOfObjects => "must be an array of objects",
            Self::Issuer => "is not the issuer's; leave it out or correct it",
            Self::Audience => "has a value that is not in the issuer's audience",
            Self::Workload => "is not one of the workloads that the issuer is limited to",
            Self::Future => "lies in the future; check the clocks",
            Self::Expired => "has passed; check the clocks",
            Self::AfterIat => "must be later than `iat`",
            Self::Lifetime => {
                "is further from `iat` or from now than the issuer's max_token_lifetime"
            }
            Self::BeforeExp => "must be earlier than `exp`",
            Self::DelegationDepth => "delegates more often than the issuer's max_act_depth",
        }
    }

    /// The unit of [`Refusal::limit`].
    const fn unit(self) -> Option<&'static str> {
        match self {
            Self::Size => Some("bytes"),
            Self::Depth | Self::DelegationDepth => Some("levels"),
            Self::Future | Self::Lifetime => Some("seconds"),
            _ => None,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
