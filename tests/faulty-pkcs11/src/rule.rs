//! What goes wrong, and when: rules, as a test writes them and as they travel.

use serde::{Deserialize, Serialize};

use crate::{Ckr, Function};

/// One thing that goes wrong.
///
/// Each call of a function that the rule is for is a *match*, counted over all processes that share
/// the same state. The first `after` matches pass; of those that follow, each takes effect, or each
/// with a probability, until the rule has taken effect `times` times. Several rules take effect on one
/// call in the order in which they were set; one that ends the call hides it from those after it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The functions that it is for; none named: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<Function>,
    /// How many matches pass before it takes effect.
    #[serde(default)]
    pub after: u64,
    /// How often it takes effect; absent: until it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// With which probability it takes effect; absent: always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chance: Option<Chance>,
    /// Before or after the real module was called, where that makes a difference.
    #[serde(default)]
    pub when: When,
    /// What it does.
    #[serde(rename = "do")]
    pub action: Action,
}

/// A probability, reproducible: whether the n-th match takes effect depends on nothing but the seed
/// and n.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chance {
    /// 0 to 1.
    pub probability: f64,
    /// Any number.
    pub seed: u64,
}

/// Before or after the real module was called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Before: the real module does not hear of a call that fails, blocks or crashes.
    #[default]
    Before,
    /// After: what was asked has been done, only the caller does not learn of it.
    After,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Action {
    /// The call takes at least so many microseconds, counted from its start.
    LatencyUs(u64),
    /// At most so many calls at a time in one process; others wait for their turn.
    Parallel(u32),
    /// The call returns this. [`When::After`]: although the real module did it.
    Fail(Ckr),
    /// The call does not return until the rule is removed.
    Block,
    /// The process ends.
    Crash(Crash),
    /// The call is made, and from there on the process crashes (SIGSEGV) when it ends by exit(3), or
    /// unloads the module: as with a library that cleans up under its own threads.
    CrashAtExit,
    /// All sessions of the process are closed, before the call.
    LoseSessions,
    /// The login is lost (`C_Logout`), before the call.
    LoseLogin,
    /// Every object handle given out until now is invalid, before the call.
    LoseHandles,
    /// The PKCS#11 token is not there, and with it no session: for rules on all functions. It is
    /// inserted again when the rule is removed.
    TokenAbsent,
    /// `C_GetTokenInfo` answers with these flags (`CKF_…`) set and cleared.
    TokenFlags {
        /// Flags to set.
        #[serde(default)]
        set: u64,
        /// Flags to clear.
        #[serde(default)]
        clear: u64,
    },
    /// `C_GetTokenInfo` states this `ulMaxSessionCount`.
    MaxSessions(u64),
    /// `C_OpenSession` fails with `CKR_SESSION_COUNT` while so many sessions are open, those of
    /// processes that ended without closing theirs included: see
    /// [`Faulty::forget_sessions`](crate::Faulty::forget_sessions).
    SessionLimit(u64),
    /// One bit of the signature is flipped (`C_Sign`, `C_SignFinal`): bit 0 is the lowest of the
    /// first byte.
    FlipBit(u32),
    /// Another private key of the same type signs (`C_SignInit`); where there is none, the right one.
    OtherKey,
    /// `C_FindObjects` shows nothing.
    HideObjects,
    /// `C_GetAttributeValue` shows another value than the real one.
    Attribute {
        /// For objects of this class only; absent: of any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        class: Option<Class>,
        /// The attribute (`CKA_…`).
        attribute: u64,
        /// What it shows.
        value: AttributeValue,
    },
    /// `C_GenerateKeyPair` asks the real module for this value, whatever it was asked for.
    Template {
        /// In which half's template.
        half: Half,
        /// The attribute (`CKA_…`).
        attribute: u64,
        /// Its value; absent: the attribute is left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<Bytes>,
    },
    /// `C_GenerateKeyPair` leaves only half a pair: this half is destroyed.
    LoseHalf(Half),
    /// `C_GenerateKeyPair` makes two pairs from the same templates, with the same `CKA_ID`.
    Twin,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Crash {
    /// SIGSEGV.
    Segfault,
    /// SIGABRT.
    Abort,
    /// SIGKILL: nobody is asked.
    Kill,
}

/// A class of key objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// `CKO_PRIVATE_KEY`.
    PrivateKey,
    /// `CKO_PUBLIC_KEY`.
    PublicKey,
}

/// One half of a key pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Half {
    /// The private key.
    Private,
    /// The public key.
    Public,
}

/// What an attribute shows in place of its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttributeValue {
    /// These bytes.
    Bytes(Bytes),
    /// The real value with this bit flipped, counted from the lowest of the *last* byte.
    FlipBit(u32),
    /// Nothing: `CKR_ATTRIBUTE_TYPE_INVALID`.
    Absent,
}

/// Bytes; in JSON hexadecimal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(pub Vec<u8>);

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> Self {
        bytes.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl TryFrom<String> for Bytes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.as_bytes().chunks(2).map(|pair| {
            let pair = str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
            u8::from_str_radix(pair, 16).ok()
        });
        let bytes = digits.collect::<Option<_>>();
        bytes.map(Self).ok_or_else(|| format!("{text:?} is no hexadecimal"))
    }
}

/// A script file: rules, in order; the place in the list is the rule's slot in the state file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// The rules.
    pub rules: Vec<Rule>,
}

/// Begins a rule for one function.
pub fn on(function: Function) -> On {
    On::new(vec![function])
}

/// Begins a rule for all functions but those that find the others.
pub fn any() -> On {
    On::new(vec![])
}

/// A rule that does not say yet what it does.
#[derive(Clone, Debug)]
#[must_use = "say what goes wrong"]
pub struct On {
    on: Vec<Function>,
    after: u64,
    times: Option<u64>,
    chance: Option<Chance>,
    when: When,
}

impl On {
    fn new(on: Vec<Function>) -> Self {
        Self { on, after: 0, times: None, chance: None, when: When::Before }
    }

    /// Also for this function.
    pub fn or(mut self, function: Function) -> Self {
        self.on.push(function);
        self
    }

    /// So many matches pass first.
    pub fn after(mut self, matches: u64) -> Self {
        self.after = matches;
        self
    }

    /// Takes effect once.
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// Takes effect so often.
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// Takes effect with this probability (0 to 1), reproducibly.
    pub fn with_probability(mut self, probability: f64, seed: u64) -> Self {
        self.chance = Some(Chance { probability, seed });
        self
    }

    /// When the real module has done what was asked.
    pub fn after_the_call(mut self) -> Self {
        self.when = When::After;
        self
    }

    /// [`Action::Fail`]
    pub fn fails(self, value: Ckr) -> Rule {
        self.does(Action::Fail(value))
    }

    /// [`Action::LatencyUs`]
    pub fn takes(self, latency: std::time::Duration) -> Rule {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.does(Action::LatencyUs(micros))
    }

    /// [`Action::Block`]
    pub fn blocks(self) -> Rule {
        self.does(Action::Block)
    }

    /// [`Action::Crash`]
    pub fn crashes(self, how: Crash) -> Rule {
        self.does(Action::Crash(how))
    }

    /// Anything else.
    pub fn does(self, action: Action) -> Rule {
        let Self { on, after, times, chance, when } = self;
        Rule { on, after, times, chance, when, action }
    }
}

impl Rule {
    /// Whether calls of `function` are matches.
    pub(crate) fn is_for(&self, function: Function) -> bool {
        if self.on.is_empty() { !function.finds_others() } else { self.on.contains(&function) }
    }

    /// Whether neither the real module nor a later rule hears of a call that it takes effect on.
    pub(crate) fn ends_the_call(&self) -> bool {
        self.when == When::Before && matches!(self.action, Action::Fail(_) | Action::Crash(_))
    }
}

impl Chance {
    /// Whether the n-th match takes effect: SplitMix64 of seed and n, against the probability.
    #[allow(clippy::cast_precision_loss, reason = "53 bits are a double's")]
    pub(crate) fn hits(self, n: u64) -> bool {
        let mut z = self.seed ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (((z >> 11) as f64) / ((1_u64 << 53) as f64)) < self.probability
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_travel_as_json_and_come_back() {
        let rules = [
            on(Function::C_Sign).or(Function::C_SignFinal).after(3).once().fails(Ckr(0x8000_0001)),
            any().does(Action::TokenAbsent),
            on(Function::C_Login).after_the_call().crashes(Crash::Kill),
            on(Function::C_GetAttributeValue).with_probability(0.5, 7).does(Action::Attribute {
                class: Some(Class::PrivateKey),
                attribute: 0x162,
                value: AttributeValue::Bytes(Bytes(vec![1])),
            }),
        ];
        let script = Script { rules: rules.to_vec() };
        let text = serde_json::to_string(&script).expect("JSON");
        assert_eq!(serde_json::from_str::<Script>(&text).expect("the same"), script);
    }

    #[test]
    fn what_the_readme_shows_is_a_script() {
        let readme = include_str!("../README.md");
        let scripts = readme.split("```json\n").skip(1);
        let scripts: Vec<_> = scripts.filter_map(|rest| rest.split("```").next()).collect();
        assert!(!scripts.is_empty());
        for script in scripts {
            let parsed = serde_json::from_str::<Script>(script);
            assert!(parsed.is_ok_and(|script| !script.rules.is_empty()), "{script}");
        }
    }

    #[test]
    fn mistakes_in_a_script_are_named() {
        for (rule, word) in [
            (r#"{"on":["C_Sing"],"do":"block"}"#, "C_Sing"),
            (r#"{"on":["C_Sign"],"do":{"fail":"CKR_NONSENSE"}}"#, "CKR_NONSENSE"),
            (r#"{"on":["C_Sign"],"do":"explode"}"#, "explode"),
            (r#"{"on":["C_Sign"],"time":1,"do":"block"}"#, "time"),
        ] {
            let error = serde_json::from_str::<Rule>(rule).expect_err(rule).to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_chance_is_reproducible_and_about_as_likely_as_it_says() {
        let chance = Chance { probability: 0.1, seed: 42 };
        let hits: Vec<_> = (0..10_000).filter(|n| chance.hits(*n)).collect();
        assert!((900..1100).contains(&hits.len()), "{}", hits.len());
        assert!(hits.iter().all(|n| chance.hits(*n)));
        let other = Chance { seed: 43, ..chance };
        assert!(hits.iter().any(|n| !other.hits(*n)));
        assert!((0..1000).all(|n| Chance { probability: 1.0, seed: 1 }.hits(n)));
    }
}
