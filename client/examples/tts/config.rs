//! The configuration file, and what it makes. `tts.toml` beside this is a complete one.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use mintwarden_client::{
    Client, Identity, TrustAnchors,
    observe::Observer,
    verify::{Algorithm, JwksCache, Verifier},
};
use serde::{Deserialize, Deserializer, de::Error as _};
use spiffe::TrustDomain;

use crate::{
    exchange::{Exchange, Limits},
    rules::Rules,
    subject::Subjects,
    support::{self, Failure, tls},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    trust_domain: String,
    rules: PathBuf,
    /// The longest life of a Txn-Token.
    #[serde(deserialize_with = "duration")]
    max_lifetime: Duration,
    /// How long the appliance may take for a signature.
    #[serde(deserialize_with = "duration")]
    sign_timeout: Duration,
    /// How often a Txn-Token may be replaced.
    max_replacements: usize,
    /// This server's certificate, and the CA of the workloads.
    pub(crate) tls: tls::Files,
    appliance: Appliance,
    idp: Idp,
}

/// Who signs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Appliance {
    /// `https://HOST[:PORT]` or `unix:/PATH`.
    endpoint: String,
    issuer: String,
    /// Needed for https.
    tls: Option<tls::Files>,
    /// What Txn-Tokens that are to be replaced may be signed with.
    #[serde(deserialize_with = "algorithms")]
    algorithms: Vec<Algorithm>,
}

/// Who issues the access tokens that are exchanged.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Idp {
    /// `iss` of its tokens.
    issuer: String,
    /// What `aud` of a token has to contain for this TTS to take it.
    audience: String,
    jwks: String,
    /// The CA of the JWKS server's certificate.
    ca: PathBuf,
    #[serde(deserialize_with = "algorithms")]
    algorithms: Vec<Algorithm>,
    /// By how much its clock may be off.
    #[serde(deserialize_with = "duration", default)]
    leeway: Duration,
}

/// Reads the file; paths in it are relative to its directory.
pub(crate) fn read(path: &Path) -> Result<Config, Failure> {
    let mut config: Config = support::read_toml(path)?;
    let directory = path.parent().unwrap_or(Path::new(""));
    config.rules = directory.join(&config.rules);
    config.idp.ca = directory.join(&config.idp.ca);
    config.tls.relative_to(directory);
    if let Some(tls) = &mut config.appliance.tls {
        tls.relative_to(directory);
    }
    Ok(config)
}

impl Config {
    pub(crate) fn trust_domain(&self) -> Result<TrustDomain, Failure> {
        TrustDomain::new(&self.trust_domain)
            .map_err(|error| Failure::config(format!("trust_domain: {error}")))
    }

    /// Reads rules and published keys, and connects to the appliance.
    pub(crate) async fn exchange(&self, observer: Arc<impl Observer>) -> Result<Exchange, Failure> {
        let rules = Rules::parse(support::read_toml(&self.rules)?)
            .map_err(|error| Failure::config(format!("{}: {error}", self.rules.display())))?;
        let issuer = self.client(observer)?.issuer(&self.appliance.issuer);
        let own_keys = JwksCache::issuer(&issuer).start().await.map_err(Failure::other)?;
        let idp_keys = JwksCache::https(&self.idp.jwks)
            .ca(TrustAnchors::from_file(&self.idp.ca))
            .start()
            .await
            .map_err(Failure::other)?;
        let subjects = Subjects {
            access_tokens: Verifier::jwt("at+jwt", &self.idp.audience)
                .or_type("application/at+jwt")
                .algorithms(self.idp.algorithms.iter().copied())
                .issuer(&self.idp.issuer)
                .leeway(self.idp.leeway)
                .require(["sub"])
                .build(idp_keys),
            txn_tokens: Verifier::txn_token(&self.trust_domain)
                .algorithms(self.appliance.algorithms.iter().copied())
                .build(own_keys),
        };
        let limits = Limits {
            lifetime: self.max_lifetime,
            sign_timeout: self.sign_timeout,
            replacements: self.max_replacements,
        };
        Ok(Exchange { trust_domain: self.trust_domain.clone(), subjects, rules, issuer, limits })
    }

    fn client(&self, observer: Arc<impl Observer>) -> Result<Client, Failure> {
        let mut builder =
            Client::builder().endpoint(self.appliance.endpoint.as_str()).observer(observer);
        if let Some(tls) = &self.appliance.tls {
            builder = builder
                .identity(Identity::from_files(&tls.certificate, &tls.private_key))
                .ca(TrustAnchors::from_file(&tls.ca));
        }
        builder.build().map_err(|error| Failure::config(format!("appliance: {error}")))
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(D::Error::custom)
}

fn algorithms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Algorithm>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    names.iter().map(|name| name.parse().map_err(D::Error::custom)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_samples_are_good() {
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tts");
        let config = read(&samples.join("tts.toml")).map_err(|e| e.message).unwrap();
        assert_eq!(config.max_lifetime, Duration::from_secs(120));
        assert_eq!(
            config.trust_domain().map_err(|e| e.message).unwrap().to_string(),
            "trust-domain.example"
        );
        let rules = support::read_toml(&config.rules).map_err(|e| e.message).unwrap();
        Rules::parse(rules).unwrap();
    }

    #[test]
    fn mistakes_are_named() {
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tts/tts.toml");
        let good = std::fs::read_to_string(samples).unwrap();
        let directory = tempfile::tempdir().unwrap();
        for (from, to, part) in [
            ("listen =", "lisen =", "unknown field `lisen`"),
            ("\"2m\"", "\"2 parsecs\"", "parsecs"),
            ("\"ES256\"", "\"HS256\"", "\"HS256\" is none of"),
        ] {
            let path = directory.path().join("tts.toml");
            std::fs::write(&path, good.replacen(from, to, 1)).unwrap();
            let failure = read(&path).err().unwrap();
            assert_eq!(failure.status, support::BAD_CONFIG);
            assert!(failure.message.contains(part), "{}", failure.message);
            assert!(failure.message.contains("tts.toml"), "{}", failure.message);
        }
    }
}
