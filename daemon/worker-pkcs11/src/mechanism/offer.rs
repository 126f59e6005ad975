//! What a PKCS#11 token lists, and what is chosen of it.

use cryptoki::{
    context::Pkcs11,
    mechanism::{Mechanism, MechanismInfo, MechanismType},
    slot::Slot,
};
use mintwarden_hsm_config::quirks::Hashing;
use mintwarden_worker::{
    Algorithm, KeySpec,
    algorithm::KeyType,
    device::{Cause, DeviceError, Support},
    watch,
};

use super::{Signing, generating};
use crate::fault::{describe, fault};

/// The mechanisms that a PKCS#11 token lists.
#[derive(Debug)]
pub(crate) struct Offer {
    listed: Vec<Listed>,
}

#[derive(Clone, Debug)]
struct Listed {
    mechanism: MechanismType,
    /// What the module says of it, or why it does not; only for mechanisms that could be of use.
    info: Result<Info, String>,
}

/// The part of `CK_MECHANISM_INFO` that matters here.
#[derive(Clone, Copy, Debug)]
struct Info {
    signs: bool,
    generates_pairs: bool,
    sizes: (usize, usize),
}

impl From<MechanismInfo> for Info {
    fn from(info: MechanismInfo) -> Self {
        Self {
            signs: info.sign(),
            generates_pairs: info.generate_key_pair(),
            sizes: (info.min_key_size(), info.max_key_size()),
        }
    }
}

/// What a mechanism is wanted for.
#[derive(Clone, Copy)]
enum Use {
    Generating,
    Signing,
}

impl Offer {
    /// Asks the module.
    pub(crate) fn read(context: &Pkcs11, slot: Slot) -> Result<Self, DeviceError> {
        let mechanisms = watch::call(|| context.get_mechanism_list(slot))
            .map_err(|error| fault("listing the mechanisms", &error))?;
        let useful = useful();
        let listed = mechanisms.into_iter().map(|mechanism| {
            let info = if useful.contains(&mechanism) {
                let info = watch::call(|| context.get_mechanism_info(slot, mechanism));
                info.map(Info::from).map_err(|error| describe(&error))
            } else {
                Err("not asked".to_owned())
            };
            Listed { mechanism, info }
        });
        Ok(Self { listed: listed.collect() })
    }

    /// How keys like `key` are made and used here: the mechanism that makes the pair, and the one
    /// that signs, which is the `preferred` one where there are two.
    pub(crate) fn choose(
        &self,
        key: KeySpec,
        preferred: Hashing,
    ) -> Result<(Mechanism<'static>, Signing), DeviceError> {
        let making = generating(key.algorithm().key_type());
        let signing = Signing::candidates(key.algorithm(), preferred);
        let unfit = |mechanism, wanted| self.unfit(mechanism, wanted, key);
        let cannot_make = unfit(making.mechanism_type(), Use::Generating);
        let chosen = signing.iter().find(|s| unfit(s.kind(), Use::Signing).is_none());
        if let (None, Some(chosen)) = (&cannot_make, chosen) {
            return Ok((making, *chosen));
        }
        let mut wants = Vec::new();
        if let Some(why) = cannot_make {
            wants.push(format!("{} to make the pair ({why})", making.mechanism_type()));
        }
        if chosen.is_none() {
            let each = |s: &Signing| {
                let why = unfit(s.kind(), Use::Signing).unwrap_or_default();
                format!("{} ({why})", s.kind())
            };
            let each: Vec<_> = signing.iter().map(each).collect();
            wants.push(format!("{} to sign", each.join(" or ")));
        }
        let there: Vec<_> = self.listed.iter().map(|l| l.mechanism.to_string()).collect();
        let detail = format!(
            "{key} needs {}; this PKCS#11 token lists {}",
            wants.join(", and "),
            if there.is_empty() { "nothing".to_owned() } else { there.join(", ") }
        );
        Err(DeviceError::of(Cause::MechanismMissing, detail))
    }

    /// Why a mechanism is of no use for `key`; `None` if it is of use.
    fn unfit(&self, mechanism: MechanismType, wanted: Use, key: KeySpec) -> Option<String> {
        let Some(listed) = self.listed.iter().find(|listed| listed.mechanism == mechanism) else {
            return Some("not listed".to_owned());
        };
        let info = match &listed.info {
            Ok(info) => info,
            Err(problem) => return Some(format!("listed, but {problem}")),
        };
        let (flag, name) = match wanted {
            Use::Generating => (info.generates_pairs, "CKF_GENERATE_KEY_PAIR"),
            Use::Signing => (info.signs, "CKF_SIGN"),
        };
        if !flag {
            return Some(format!("listed without {name}"));
        }
        let (min, max) = info.sizes;
        (!fits(key, min, max)).then(|| format!("listed for key sizes {min} to {max}"))
    }
}

/// Whether a key's size lies in a mechanism's range. The standard counts bits for RSA and ECDSA;
/// some modules count bytes, which shows in a bound that no key could meet in bits. A range that ends
/// at 0 says nothing.
fn fits(key: KeySpec, min: usize, max: usize) -> bool {
    let bits = match key.algorithm().key_type() {
        KeyType::P256 => 256,
        KeyType::P384 => 384,
        // Modules say 255 or 256, or give the size of the encoded point or of the order.
        KeyType::Ed25519 => return true,
        KeyType::Rsa => key.rsa_bits().map_or(0, |size| size.bits() as usize),
    };
    let in_bytes = match key.algorithm().key_type() {
        KeyType::Rsa => max <= 1024,
        _ => max <= 66,
    };
    let size = if in_bytes { bits / 8 } else { bits };
    max == 0 || (min..=max).contains(&size)
}

/// All mechanisms that could be of use.
fn useful() -> Vec<MechanismType> {
    let signing = Algorithm::ALL.into_iter().flat_map(|algorithm| {
        Signing::candidates(algorithm, Hashing::Outside).into_iter().map(Signing::kind)
    });
    let making = Algorithm::ALL.into_iter().map(|a| generating(a.key_type()).mechanism_type());
    signing.chain(making).collect()
}

/// The mechanisms that this process uses with one PKCS#11 token.
#[derive(Debug)]
pub(crate) struct Mechanisms {
    offer: Offer,
    preferred: Hashing,
    /// For keys that exist: the mechanism that signs, whatever makes new ones.
    signing: Vec<(Algorithm, Result<Signing, DeviceError>)>,
}

impl Mechanisms {
    /// Chooses from an offer.
    pub(crate) fn new(offer: Offer, preferred: Hashing) -> Self {
        let signing = Algorithm::ALL.into_iter().map(|algorithm| {
            let mut any = KeySpec::all().filter(|key| key.algorithm() == algorithm);
            let usable = any.find_map(|key| {
                let mut candidates = Signing::candidates(algorithm, preferred).into_iter();
                candidates.find(|s| offer.unfit(s.kind(), Use::Signing, key).is_none())
            });
            let signing = usable.ok_or_else(|| {
                let error = offer.choose(algorithm.into(), preferred).err();
                error.expect("a mechanism that signs is part of every choice")
            });
            (algorithm, signing)
        });
        let signing = signing.collect();
        Self { offer, preferred, signing }
    }

    /// How keys like `key` are made.
    pub(crate) fn making(&self, key: KeySpec) -> Result<Mechanism<'static>, DeviceError> {
        Ok(self.offer.choose(key, self.preferred)?.0)
    }

    /// What signs with an existing key of `algorithm`.
    pub(crate) fn signing(&self, algorithm: Algorithm) -> Result<Signing, DeviceError> {
        let found = self.signing.iter().find(|(of, _)| *of == algorithm);
        found.expect("every algorithm is there").1.clone()
    }

    /// How keys like `key` are made and used, in words.
    pub(crate) fn support(&self, key: KeySpec) -> Result<Support, DeviceError> {
        let (making, signing) = self.offer.choose(key, self.preferred)?;
        Ok(Support {
            key,
            generates: making.mechanism_type().to_string(),
            signs: signing.kind().to_string(),
            hashes: signing.hashes(),
        })
    }
}

#[cfg(test)]
mod tests {
    use mintwarden_worker::{algorithm::RsaBits, device::Remedy};

    use super::*;

    const SIGN: Info = Info { signs: true, generates_pairs: false, sizes: (0, 0) };
    const MAKE: Info = Info { signs: false, generates_pairs: true, sizes: (0, 0) };

    fn offer(mechanisms: &[(MechanismType, Info)]) -> Offer {
        let listed = mechanisms
            .iter()
            .map(|(mechanism, info)| Listed { mechanism: *mechanism, info: Ok(*info) });
        Offer { listed: listed.collect() }
    }

    fn chosen(offer: &Offer, key: impl Into<KeySpec>, preferred: Hashing) -> Signing {
        offer.choose(key.into(), preferred).expect("something is there").1
    }

    fn refused(offer: &Offer, key: impl Into<KeySpec>) -> String {
        let error = offer.choose(key.into(), Hashing::Outside).expect_err("lacking");
        assert_eq!((error.cause, error.remedy), (Cause::MechanismMissing, Remedy::Refuse));
        error.detail
    }

    #[test]
    fn where_both_are_there_the_preference_decides_and_else_what_is_there() {
        let both = offer(&[
            (MechanismType::ECC_KEY_PAIR_GEN, MAKE),
            (MechanismType::ECDSA, SIGN),
            (MechanismType::ECDSA_SHA256, SIGN),
        ]);
        assert_eq!(chosen(&both, Algorithm::ES256, Hashing::Outside), Signing::Ecdsa);
        assert_eq!(chosen(&both, Algorithm::ES256, Hashing::Inside), Signing::EcdsaSha256);
        assert_eq!(chosen(&both, Algorithm::ES384, Hashing::Inside), Signing::Ecdsa);
        let inside = offer(&[
            (MechanismType::RSA_PKCS_KEY_PAIR_GEN, MAKE),
            (MechanismType::SHA256_RSA_PKCS, SIGN),
            (MechanismType::SHA256_RSA_PKCS_PSS, SIGN),
        ]);
        assert_eq!(chosen(&inside, Algorithm::RS256, Hashing::Outside), Signing::Sha256RsaPkcs);
        assert_eq!(chosen(&inside, Algorithm::PS256, Hashing::Outside), Signing::Sha256RsaPkcsPss);
    }

    #[test]
    fn what_is_missing_is_named_with_what_would_do_and_what_is_there() {
        let ec = offer(&[(MechanismType::ECC_KEY_PAIR_GEN, MAKE), (MechanismType::SHA256, SIGN)]);
        let detail = refused(&ec, Algorithm::ES256);
        for part in [
            "ES256 needs CKM_ECDSA (not listed) or CKM_ECDSA_SHA256 (not listed) to sign",
            "lists CKM_EC_KEY_PAIR_GEN, CKM_SHA256",
        ] {
            assert!(detail.contains(part), "{part:?} is not in: {detail}");
        }
        let detail = refused(&offer(&[]), Algorithm::Ed25519);
        for part in
            ["CKM_EC_EDWARDS_KEY_PAIR_GEN to make the pair", "and CKM_EDDSA", "lists nothing"]
        {
            assert!(detail.contains(part), "{part:?} is not in: {detail}");
        }
    }

    #[test]
    fn a_mechanism_without_its_flag_or_with_other_key_sizes_is_as_good_as_none() {
        let unflagged =
            offer(&[(MechanismType::ECC_KEY_PAIR_GEN, SIGN), (MechanismType::ECDSA, MAKE)]);
        let detail = refused(&unflagged, Algorithm::ES256);
        assert!(detail.contains("CKM_ECDSA (listed without CKF_SIGN)"), "{detail}");
        assert!(detail.contains("listed without CKF_GENERATE_KEY_PAIR"), "{detail}");

        let small = offer(&[
            (MechanismType::ECC_KEY_PAIR_GEN, MAKE),
            (MechanismType::ECDSA, Info { sizes: (192, 256), ..SIGN }),
        ]);
        assert_eq!(chosen(&small, Algorithm::ES256, Hashing::Outside), Signing::Ecdsa);
        let detail = refused(&small, Algorithm::ES384);
        assert!(detail.contains("CKM_ECDSA (listed for key sizes 192 to 256)"), "{detail}");
    }

    #[test]
    fn key_sizes_are_counted_in_bits_or_in_bytes() {
        let rsa = |bits| KeySpec::new(Algorithm::RS256, Some(bits)).expect("an RSA key");
        for (key, (min, max), expected) in [
            (Algorithm::ES256.into(), (112, 521), true),
            (Algorithm::ES384.into(), (256, 256), false),
            (Algorithm::ES384.into(), (20, 66), true),
            (Algorithm::ES384.into(), (20, 32), false),
            (Algorithm::ES384.into(), (0, 0), true),
            (rsa(RsaBits::B4096), (512, 16384), true),
            (rsa(RsaBits::B4096), (1024, 3072), false),
            (rsa(RsaBits::B4096), (128, 512), true),
            (rsa(RsaBits::B4096), (128, 384), false),
            (rsa(RsaBits::B2048), (3072, usize::MAX), false),
            (Algorithm::Ed25519.into(), (32, 32), true),
        ] {
            assert_eq!(fits(key, min, max), expected, "{key} in {min} to {max}");
        }
    }

    #[test]
    fn an_existing_key_signs_although_no_new_one_could_be_made() {
        let offer = offer(&[(MechanismType::RSA_PKCS_PSS, Info { sizes: (2048, 2048), ..SIGN })]);
        let mechanisms = Mechanisms::new(offer, Hashing::Outside);
        assert_eq!(mechanisms.signing(Algorithm::PS256), Ok(Signing::RsaPkcsPss));
        assert!(mechanisms.making(Algorithm::PS256.into()).is_err());
        let error = mechanisms.signing(Algorithm::ES256).expect_err("not listed");
        assert!(error.detail.contains("CKM_ECDSA"), "{error}");
    }
}
