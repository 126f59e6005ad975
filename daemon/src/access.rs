//! What a caller may do: the grants of the configuration. Nothing is allowed that no grant allows.

use std::collections::{HashMap, HashSet};

use mintwarden_worker::IssuerName;

use crate::{
    config::{Config, Grant, Role},
    identity::Caller,
};

/// All grants, ready to ask.
#[derive(Debug)]
pub struct Access {
    issuers: HashSet<IssuerName>,
    granted: HashMap<Caller, HashSet<(Role, IssuerName)>>,
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
        for Grant { role, to, issuers, .. } in &config.grants {
            for caller in to {
                let entry = granted.entry(caller.clone()).or_default();
                entry.extend(issuers.iter().map(|issuer| (*role, issuer.clone())));
            }
        }
        let issuers = config.issuers.iter().map(|issuer| issuer.name().clone()).collect();
        Self { issuers, granted }
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

    /// Whether `caller` has any grant at all.
    #[must_use]
    pub fn knows(&self, caller: &Caller) -> bool {
        self.granted.contains_key(caller)
    }

    /// The issuers for which `caller` has any role.
    #[must_use]
    pub fn visible(&self, caller: &Caller) -> HashSet<IssuerName> {
        let granted = self.granted.get(caller).into_iter().flatten();
        granted.map(|(_, issuer)| issuer.clone()).collect()
    }
}

/// Every role: for what all may read.
pub const ANY: &[Role] = &[Role::Signer, Role::Custodian, Role::Auditor];

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        let config = Config::parse(
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
            to = ["spiffe://t.example/ada"]
            "#,
            std::path::Path::new("/nonexistent/mintwarden.toml"),
        );
        Access::new(&config.expect("a good configuration"))
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
