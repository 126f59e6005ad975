//! What a caller may do: the grants of the configuration. Nothing is allowed that no grant allows.

use std::collections::{BTreeMap, HashMap, HashSet};

use mintwarden_worker::IssuerName;

use crate::{
    config::{Config, Grant, Person, Role},
    identity::Caller,
};

/// All grants, ready to ask.
#[derive(Debug)]
pub struct Access {
    issuers: HashSet<IssuerName>,
    granted: HashMap<Caller, HashSet<(Role, IssuerName)>>,
    persons: HashMap<Caller, Person>,
}

/// A custodian who is there: an authenticated identity, and the person that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Custodian {
    /// The person.
    pub person: Person,
    /// By which identity.
    pub identity: Caller,
}

/// The custodians of one issuer: which identity belongs to which person, by the configuration in
/// force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Custodians(BTreeMap<String, Person>);

impl Custodians {
    /// Those that the grants of a configuration give an issuer.
    #[must_use]
    pub fn of(config: &Config, issuer: &IssuerName) -> Self {
        let custodian =
            |grant: &&Grant| grant.role == Role::Custodian && grant.issuers.contains(issuer);
        let identities = |grant: &Grant| {
            let person = grant.person.clone();
            let named = |caller: &Caller| Some((caller.to_string(), person.clone()?));
            grant.to.iter().filter_map(named).collect::<Vec<_>>()
        };
        Self(config.grants.iter().filter(custodian).flat_map(identities).collect())
    }

    /// The person to whom an identity belongs, if that is a custodian of the issuer.
    #[must_use]
    pub fn person(&self, identity: &str) -> Option<&Person> {
        self.0.get(identity)
    }
}

/// Why a caller may not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// The caller has no grant of the role for the issuer.
    #[error("no grant gives this caller the role {0} for the issuer")]
    NoGrant(&'static str),
    /// The caller has grants, and the issuer does not exist.
    #[error("there is no such issuer")]
    UnknownIssuer,
}

impl Access {
    /// The grants of a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut granted: HashMap<Caller, HashSet<_>> = HashMap::new();
        let mut persons = HashMap::new();
        for Grant { role, to, issuers, person } in &config.grants {
            for caller in to {
                persons.extend(person.iter().map(|person| (caller.clone(), person.clone())));
                let entry = granted.entry(caller.clone()).or_default();
                entry.extend(issuers.iter().map(|issuer| (*role, issuer.clone())));
            }
        }
        let issuers = config.issuers.iter().map(|issuer| issuer.name().clone()).collect();
        Self { issuers, granted, persons }
    }

    /// The issuer called `issuer`, if `caller` has one of `roles` for it.
    ///
    /// # Errors
    /// [`Denied`]. Whether an issuer exists is told only to callers that have some grant.
    pub fn authorise(
        &self,
        caller: &Caller,
        roles: &[Role],
        issuer: &str,
    ) -> Result<IssuerName, Denied> {
        let denied = Denied::NoGrant(roles.first().map_or("any", |role| role.as_str()));
        let Some(granted) = self.granted.get(caller) else { return Err(denied) };
        let Some(issuer) = self.issuers.iter().find(|name| name.as_str() == issuer) else {
            return Err(Denied::UnknownIssuer);
        };
        let may = |role: &Role| granted.contains(&(*role, issuer.clone()));
        if roles.iter().any(may) { Ok(issuer.clone()) } else { Err(denied) }
    }

    /// The issuer called `issuer`, and the custodian who is calling, if `caller` is one of it.
    ///
    /// # Errors
    /// As [`authorise`](Self::authorise).
    pub fn custodian(
        &self,
        caller: &Caller,
        issuer: &str,
    ) -> Result<(IssuerName, Custodian), Denied> {
        let issuer = self.authorise(caller, &[Role::Custodian], issuer)?;
        let custodian = self.person(caller).ok_or(Denied::NoGrant(Role::Custodian.as_str()))?;
        Ok((issuer, custodian))
    }

    /// The person whose identity is calling, if it is a custodian's of any issuer.
    #[must_use]
    pub fn person(&self, caller: &Caller) -> Option<Custodian> {
        let person = self.persons.get(caller)?.clone();
        Some(Custodian { person, identity: caller.clone() })
    }

    /// Whether `caller` has any grant at all.
    #[must_use]
    pub fn knows(&self, caller: &Caller) -> bool {
        self.granted.contains_key(caller)
    }

    /// The issuers for which `caller` has any role.
    #[must_use]
    pub fn visible(&self, caller: &Caller) -> HashSet<IssuerName> {
        self.visible_as(caller, ANY)
    }

    /// The issuers for which `caller` has one of `roles`.
    #[must_use]
    pub fn visible_as(&self, caller: &Caller, roles: &[Role]) -> HashSet<IssuerName> {
        let granted = self.granted.get(caller).into_iter().flatten();
        let granted = granted.filter(|(role, _)| roles.contains(role));
        granted.map(|(_, issuer)| issuer.clone()).collect()
    }
}

/// Who sees what custodians do and what devices say: not a TTS that may be compromised.
pub const INSIDE: &[Role] = &[Role::Custodian, Role::Auditor];

/// Every role: for what all may read.
pub const ANY: &[Role] = &[Role::Signer, Role::Custodian, Role::Auditor];

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::parse(
            r#"
            state_dir = "/nonexistent"
            listen = { unix = "s" }
            [[device]]
            name = "d"
            kind = "pkcs11"
            model = "softhsm2"
            token_label = "t"
            pin = { file = "pin" }
            [[issuer]]
            name = "a"
            iss = "https://a.example"
            devices = ["d"]
            audience = ["x"]
            [[issuer]]
            name = "b"
            iss = "https://b.example"
            devices = ["d"]
            audience = ["x"]
            [[grant]]
            role = "signer"
            to = ["unix:uid=1"]
            issuers = ["a"]
            [[grant]]
            role = "custodian"
            person = "ada"
            to = ["spiffe://t.example/ada", "Ada.example"]
            [[grant]]
            role = "custodian"
            person = "bob"
            to = ["bob.example"]
            issuers = ["b"]
            "#,
            std::path::Path::new("/nonexistent/mintwarden.toml"),
        )
        .expect("a good configuration")
    }

    fn access() -> Access {
        Access::new(&config())
    }

    #[test]
    fn custodians_are_persons_each_by_all_of_their_identities() {
        let (config, access) = (config(), access());
        let caller = |text: &str| Caller::parse(text).expect("a caller");
        let person = |text: &str, issuer: &str| {
            access.custodian(&caller(text), issuer).map(|(_, custodian)| custodian.person)
        };
        let ada = person("spiffe://t.example/ada", "a").expect("a custodian of all");
        assert_eq!(person("ada.example", "b"), Ok(ada.clone()), "by her other identity");
        assert!(person("bob.example", "b").expect("of this one") != ada);
        assert_eq!(person("bob.example", "a"), Err(Denied::NoGrant("custodian")));
        assert!(access.custodian(&Caller::Unix(1), "a").is_err());
        assert_eq!(access.person(&Caller::Unix(1)), None);
        let of = |issuer: &str| Custodians::of(&config, config.issuer(issuer).expect("is").name());
        assert_eq!(of("a").person("ada.example"), Some(&ada));
        assert_eq!(of("a").person("bob.example"), None);
        assert!(of("b").person("bob.example").is_some() && of("b").person("unix:uid=1").is_none());
    }

    #[test]
    fn i2_only_what_a_grant_allows() {
        let access = access();
        let tts = Caller::Unix(1);
        assert!(access.authorise(&tts, &[Role::Signer], "a").is_ok());
        assert_eq!(access.authorise(&tts, &[Role::Signer], "b"), Err(Denied::NoGrant("signer")));
        assert_eq!(
            access.authorise(&tts, &[Role::Custodian], "a"),
            Err(Denied::NoGrant("custodian"))
        );
        assert_eq!(access.authorise(&tts, &[Role::Signer], "c"), Err(Denied::UnknownIssuer));
        let stranger = Caller::Unix(2);
        assert_eq!(
            access.authorise(&stranger, &[Role::Signer], "a"),
            Err(Denied::NoGrant("signer"))
        );
        assert_eq!(access.authorise(&stranger, ANY, "c"), Err(Denied::NoGrant("signer")));
        assert!(access.visible(&stranger).is_empty());
    }

    #[test]
    fn a_custodian_grant_without_issuers_is_for_all() {
        let access = access();
        let ada = Caller::parse("spiffe://t.example/ada").expect("a caller");
        assert_eq!(access.visible(&ada).len(), 2);
        assert!(access.authorise(&ada, &[Role::Signer], "a").is_err());
    }
}
