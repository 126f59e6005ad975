use std::time::Duration;

use mintwarden_worker::{
    claims::{Profile, Refusal},
    clock::UnixTime,
};

use crate::second_reader::read_again;

/// When the payloads in `seeds/` are new.
const NOW: UnixTime = UnixTime(1_750_000_000);

fn profile() -> Profile {
    // Parsed as a launcher would send it, so that it is what a configuration can say.
    let config = mintwarden::config::Config::parse(
        include_str!("profile.toml"),
        std::path::Path::new("/nonexistent/mintwarden.toml"),
    );
    config.expect("a good configuration").issuers.remove(0).profile
}

/// A payload that the profile accepts is read in the same way by two readers, has no name twice, and says
/// what the facts say; one that it refuses is named with a rule.
///
/// # Panics
/// Where that does not hold.
pub fn claims(payload: &[u8]) {
    thread_local!(static PROFILE: Profile = profile());
    PROFILE.with(|profile| match profile.check(payload, NOW) {
        Ok(checked) => {
            assert_eq!(checked.payload(), payload);
            let value: serde_json::Value = serde_json::from_slice(payload).expect("JSON");
            read_again(payload, &value);
            let facts = checked.facts();
            assert_eq!(value["txn"], *facts.txn);
            assert_eq!(value["req_wl"], *facts.req_wl);
            assert_eq!(value["exp"], facts.exp.0);
            let (iat, exp) = (value["iat"].as_i64().unwrap(), facts.exp.0);
            let longest = i64::try_from(profile.max_token_lifetime.as_secs()).unwrap();
            assert!(exp > NOW.0 && exp > iat && exp - iat <= longest && exp - NOW.0 <= longest);
            assert!(iat <= NOW.plus(Duration::from_secs(30)).0);
            let allowed = |aud: &serde_json::Value| profile.audience.iter().any(|a| aud == &**a);
            let aud = &value["aud"];
            assert!(aud.as_array().map_or_else(|| allowed(aud), |all| all.iter().all(allowed)));
            assert!(value.get("iss").is_none_or(|iss| *iss == *profile.iss));
            assert!(facts.delegation_depth <= profile.max_act_depth);
        }
        Err(refusal) => named(&refusal),
    });
}

fn named(refusal: &Refusal) {
    let rule = refusal.rule();
    assert_eq!(mintwarden_worker::claims::Rule::from_word(rule.as_str()), Some(rule));
    assert_eq!(refusal.reason(), rule.reason());
    assert!(refusal.to_string().len() < 256);
}
