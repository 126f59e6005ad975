//! What goes into `tctx` and `agentic_ctx`, and who may ask for it.
//!
//! A rule for each scope; what no rule names, nobody gets. Contexts are built member by member from what a rule
//! takes out of the request, each checked: the request itself is never copied, and a member that no rule takes
//! is refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{Code, Refusal};

/// The member of `request_details` that `agentic_ctx` is made from.
const AGENTIC: &str = "agentic_ctx";

/// The longest string that a field takes where its rule does not say, characters.
const MAX_LENGTH: usize = 64;

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RulesFile {
    rule: Vec<RuleEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleEntry {
    scope: String,
    /// Workloads that may start a transaction with this scope.
    #[serde(default)]
    may_start: BTreeSet<String>,
    /// Workloads that may have a token of such a transaction replaced.
    #[serde(default)]
    may_replace: BTreeSet<String>,
    #[serde(default)]
    tctx: BTreeMap<String, FieldEntry>,
    #[serde(default)]
    agentic_ctx: BTreeMap<String, FieldEntry>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct FieldEntry {
    value: Option<Value>,
    from: Option<String>,
    r#type: Option<Type>,
    one_of: Option<Vec<Value>>,
    max_length: Option<usize>,
    min: Option<i64>,
    max: Option<i64>,
    #[serde(default)]
    required: bool,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Type {
    String,
    Integer,
    Boolean,
}

/// What a requester wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Start,
    Replace,
}

/// The rules, ready to decide.
#[derive(Debug)]
pub(crate) struct Rules(BTreeMap<String, Rule>);

#[derive(Debug)]
struct Rule {
    may_start: BTreeSet<String>,
    may_replace: BTreeSet<String>,
    tctx: BTreeMap<String, Field>,
    agentic_ctx: BTreeMap<String, Field>,
}

/// Where a member of a context comes from.
#[derive(Clone, Debug, PartialEq)]
enum Field {
    Fixed(Value),
    Taken { from: String, check: Check, required: bool },
}

#[derive(Clone, Debug, PartialEq)]
enum Check {
    OneOf(Vec<Value>),
    String { max_length: usize },
    Integer { min: i64, max: i64 },
    Boolean,
}

/// What the rules make of a request.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Contexts {
    pub(crate) tctx: Map<String, Value>,
    pub(crate) agentic_ctx: Map<String, Value>,
}

/// What is wrong with the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RulesError {
    #[error("two rules for the scope {0:?}: make them one")]
    TwoRules(String),
    #[error("rule {scope:?}, {field}: {problem}")]
    Field { scope: String, field: String, problem: &'static str },
    #[error(
        "{field} has different rules for {one:?} and {other:?}: a request with both scopes could not be met"
    )]
    Conflict { field: String, one: String, other: String },
}

impl Rules {
    pub(crate) fn parse(file: RulesFile) -> Result<Self, RulesError> {
        let mut rules = BTreeMap::new();
        for entry in file.rule {
            let scope = entry.scope.clone();
            if rules.insert(scope.clone(), Rule::parse(entry)?).is_some() {
                return Err(RulesError::TwoRules(scope));
            }
        }
        refuse_conflicts(&rules)?;
        Ok(Self(rules))
    }

    /// Whether this workload may do this for all of these scopes.
    pub(crate) fn permit(
        &self,
        workload: &str,
        purpose: Purpose,
        scopes: &[String],
    ) -> Result<(), Refusal> {
        for scope in scopes {
            let rule = self.rule(scope)?;
            let allowed = match purpose {
                Purpose::Start => &rule.may_start,
                Purpose::Replace => &rule.may_replace,
            };
            if !allowed.contains(workload) {
                let doing = if purpose == Purpose::Start { "start" } else { "replace" };
                let message = format!("this workload may not {doing} a transaction for {scope}");
                return Err(Refusal::new(
                    Code::UnauthorizedClient,
                    "REQUESTER_NOT_ALLOWED",
                    message,
                ));
            }
        }
        Ok(())
    }

    /// What `request_details` come to for these scopes. Only where an agent acts is there an `agentic_ctx`.
    pub(crate) fn contexts(
        &self,
        scopes: &[String],
        mut details: Map<String, Value>,
        delegated: bool,
    ) -> Result<Contexts, Refusal> {
        let rules: Vec<_> =
            scopes.iter().map(|scope| self.rule(scope)).collect::<Result<_, _>>()?;
        let agentic = match details.remove(AGENTIC) {
            None => Map::new(),
            Some(_) if !delegated => {
                let message = "request_details.agentic_ctx: there is no actor";
                return Err(Refusal::request("NO_ACTOR", message));
            }
            Some(Value::Object(members)) => members,
            Some(_) => {
                let message = "request_details.agentic_ctx has to be an object";
                return Err(Refusal::request("DETAIL_REFUSED", message));
            }
        };
        let tctx = build("request_details", rules.iter().map(|rule| &rule.tctx), details)?;
        let agentic_ctx = if delegated {
            let fields = rules.iter().map(|rule| &rule.agentic_ctx);
            build("request_details.agentic_ctx", fields, agentic)?
        } else {
            Map::new()
        };
        Ok(Contexts { tctx, agentic_ctx })
    }

    fn rule(&self, scope: &str) -> Result<&Rule, Refusal> {
        let unknown =
            || Refusal::scope("SCOPE_UNKNOWN", format!("no rule knows the scope {scope}"));
        self.0.get(scope).ok_or_else(unknown)
    }
}

/// Builds a context, member by member; what is left of the request then was not taken by anybody.
fn build<'a>(
    place: &str,
    rules: impl Iterator<Item = &'a BTreeMap<String, Field>>,
    details: Map<String, Value>,
) -> Result<Map<String, Value>, Refusal> {
    let mut left: BTreeSet<&str> = details.keys().map(String::as_str).collect();
    let mut context = Map::new();
    for (name, field) in rules.flatten() {
        match field {
            Field::Fixed(value) => {
                context.insert(name.clone(), value.clone());
            }
            Field::Taken { from, check, required } => match details.get(from) {
                None if *required => {
                    let message = format!("{place}.{from} is missing");
                    return Err(Refusal::request("DETAIL_MISSING", message));
                }
                None => {}
                Some(value) if check.accepts(value) => {
                    left.remove(from.as_str());
                    context.insert(name.clone(), value.clone());
                }
                Some(_) => {
                    let message = format!("{place}.{from} has to be {check}");
                    return Err(Refusal::request("DETAIL_REFUSED", message));
                }
            },
        }
    }
    match left.first() {
        None => Ok(context),
        Some(name) => {
            let name: String = name.chars().take(64).collect();
            let message = format!("{place}.{name}: no rule takes it");
            Err(Refusal::request("DETAIL_UNKNOWN", message))
        }
    }
}

impl Rule {
    fn parse(entry: RuleEntry) -> Result<Self, RulesError> {
        let RuleEntry { scope, may_start, may_replace, tctx, agentic_ctx } = entry;
        let fields = |context: &str, entries: BTreeMap<String, FieldEntry>| {
            let parse = |(name, entry): (String, FieldEntry)| match Field::parse(entry) {
                Ok(field) => Ok((name, field)),
                Err(problem) => {
                    let field = format!("{context}.{name}");
                    Err(RulesError::Field { scope: scope.clone(), field, problem })
                }
            };
            entries.into_iter().map(parse).collect::<Result<_, _>>()
        };
        let (tctx, agentic_ctx) = (fields("tctx", tctx)?, fields(AGENTIC, agentic_ctx)?);
        Ok(Self { may_start, may_replace, tctx, agentic_ctx })
    }
}

impl Field {
    fn parse(entry: FieldEntry) -> Result<Self, &'static str> {
        let FieldEntry { value, from, r#type, one_of, max_length, min, max, required } = entry;
        let from = match (value, from) {
            (Some(value), None) => {
                let bare = r#type.is_none() && one_of.is_none() && max_length.is_none();
                let bare = bare && min.is_none() && max.is_none() && !required;
                return if bare { Ok(Self::Fixed(value)) } else { Err("a `value` stands alone") };
            }
            (None, Some(from)) => from,
            _ => return Err("give either `value` or `from`"),
        };
        let range = min.is_some() || max.is_some();
        let check = match (r#type, one_of) {
            (None, Some(values)) if max_length.is_none() && !range => Check::OneOf(values),
            (_, Some(_)) => return Err("`one_of` needs neither `type` nor bounds"),
            (None | Some(Type::String), None) if !range => {
                Check::String { max_length: max_length.unwrap_or(MAX_LENGTH) }
            }
            (Some(Type::Integer), None) if max_length.is_none() => match (min, max) {
                (Some(min), Some(max)) if min <= max => Check::Integer { min, max },
                _ => return Err("an integer needs `min` and `max`"),
            },
            (Some(Type::Boolean), None) if max_length.is_none() && !range => Check::Boolean,
            _ => return Err("a bound does not fit its type"),
        };
        Ok(Self::Taken { from, check, required })
    }
}

/// One context is built for all scopes of a request: what two rules say of one member has to be the same.
fn refuse_conflicts(rules: &BTreeMap<String, Rule>) -> Result<(), RulesError> {
    let mut seen: BTreeMap<(&str, &str), (&str, &Field)> = BTreeMap::new();
    for (scope, rule) in rules {
        for (context, fields) in [("tctx", &rule.tctx), (AGENTIC, &rule.agentic_ctx)] {
            for (name, field) in fields {
                let (one, first) = *seen.entry((context, name)).or_insert((scope, field));
                if first != field {
                    let (one, other) = (one.to_owned(), scope.clone());
                    let field = format!("{context}.{name}");
                    return Err(RulesError::Conflict { field, one, other });
                }
            }
        }
    }
    Ok(())
}

impl Check {
    fn accepts(&self, value: &Value) -> bool {
        match self {
            Self::OneOf(values) => values.contains(value),
            Self::String { max_length } => {
                value.as_str().is_some_and(|text| (1..=*max_length).contains(&text.chars().count()))
            }
            Self::Integer { min, max } => {
                value.as_i64().is_some_and(|number| (*min..=*max).contains(&number))
            }
            Self::Boolean => value.is_boolean(),
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OneOf(values) => {
                let values: Vec<_> = values.iter().map(ToString::to_string).collect();
                write!(f, "one of {}", values.join(", "))
            }
            Self::String { max_length } => write!(f, "a string of 1 to {max_length} characters"),
            Self::Integer { min, max } => write!(f, "an integer from {min} to {max}"),
            Self::Boolean => f.write_str("true or false"),
        }
    }
}

#[cfg(test)]
mod tests;
