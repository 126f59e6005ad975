//! An issuer's key as its keyset keeps it: what it was made for, its public half, and the private area
//! that its TPM alone can decrypt.
//!
//! Of the public area only what the template does not say is kept. A key whose attributes are others than
//! the template's therefore does not load: the private area is bound to the public one (TPM 2.0 part 1
//! section 22), so that I1 holds for whatever a keyset says.

use mintwarden_attestation::{
    pcr::{KeyPolicy, PcrState},
    tpm::{Hash, Name},
};
use mintwarden_worker::{
    KeySpec,
    algorithm::RsaBits,
    device::{Cause, DeviceError, Remedy, WrappedKey},
    jwk::PublicJwk,
    label::Label,
};
use tss_esapi::structures::{Private, Public};

use crate::template::{self, Unique};

/// The form: a key begins with it.
const FORM: &[u8] = b"mintwarden/tpm/key/1";

/// That of a key that is bound to PCRs: the bank, the PCRs, their values and the authority's name, which may be empty,
/// follow. From these its policy is computed anew, so that one of which other ones are claimed does not load.
const BOUND: &[u8] = b"mintwarden/tpm/key/2";

/// An issuer's key, as far as its TPM is not needed for it.
#[derive(Clone, Debug)]
pub(crate) struct TpmKey {
    /// The issuer and the algorithm that it was made for, as its keyset claims. Only with the right ones
    /// does its authorisation value come out right.
    pub(crate) label: Label,
    /// The name of the storage key that it was made under: tells why it does not load.
    pub(crate) parent: Vec<u8>,
    /// The public key.
    pub(crate) jwk: PublicJwk,
    /// What it asks for beside its authorisation value, where it is bound to PCRs.
    pub(crate) policy: Option<KeyPolicy>,
    unique: Unique,
    private: Private,
}

impl TpmKey {
    /// A key as its TPM has just made it.
    ///
    /// # Errors
    /// [`Cause::Malformed`] if it is none.
    pub(crate) fn new(
        label: Label,
        parent: &[u8],
        public: &Public,
        private: Private,
        policy: Option<KeyPolicy>,
    ) -> Result<Self, DeviceError> {
        let unique = template::unique(public)?;
        let jwk = jwk(&label, &unique).map_err(malformed)?;
        Ok(Self { label, parent: parent.to_vec(), jwk, policy, unique, private })
    }

    /// Reads what a keyset keeps.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub(crate) fn decode(wrapped: &WrappedKey) -> Result<Self, String> {
        let mut rest = wrapped.as_bytes();
        let mut next = || {
            let (length, after) = rest.split_first_chunk::<2>()?;
            let (field, after) = after.split_at_checked(u16::from_be_bytes(*length).into())?;
            rest = after;
            Some(field)
        };
        let fields = [(); 6].map(|()| next());
        let [Some(form), Some(label), Some(parent), Some(a), Some(b), Some(private)] = fields
        else {
            return Err("it is cut short".to_owned());
        };
        let policy = match form {
            BOUND => {
                let [Some(bank), Some(pcrs), Some(values), Some(authority)] =
                    [(); 4].map(|()| next())
                else {
                    return Err("it is cut short".to_owned());
                };
                Some(policy(bank, pcrs, values, authority)?)
            }
            _ => None,
        };
        if ![FORM, BOUND].contains(&form) || !rest.is_empty() {
            return Err("it is of another form than this version writes".to_owned());
        }
        let label = Label::parse(label).ok_or("it names no issuer and algorithm")?;
        let unique = if b.is_empty() {
            Unique::Modulus(a.to_vec())
        } else {
            Unique::Point { x: a.to_vec(), y: b.to_vec() }
        };
        let jwk = jwk(&label, &unique)?;
        let private = Private::try_from(private).map_err(|_| "its private area is too long")?;
        Ok(Self { label, parent: parent.to_vec(), jwk, policy, unique, private })
    }

    /// Writes what a keyset keeps.
    ///
    /// # Errors
    /// [`Cause::Malformed`] if it is longer than a keyset takes.
    pub(crate) fn encode(&self) -> Result<WrappedKey, DeviceError> {
        let label = self.label.to_string();
        let (a, b): (&[u8], &[u8]) = match &self.unique {
            Unique::Point { x, y } => (x, y),
            Unique::Modulus(modulus) => (modulus, &[]),
        };
        let form = if self.policy.is_some() { BOUND } else { FORM };
        let mut fields: Vec<Vec<u8>> =
            [form, label.as_bytes(), &self.parent, a, b, self.private.value()]
                .map(<[u8]>::to_vec)
                .into();
        if let Some(KeyPolicy { state, authority }) = &self.policy {
            let selection = state.selection();
            let authority = authority.as_ref().map(Name::to_bytes).unwrap_or_default();
            fields.push(selection.bank().name().into());
            fields.extend([selection.pcrs().to_vec(), state.concatenated(), authority]);
        }
        let mut bytes = Vec::new();
        for field in &fields {
            let length =
                u16::try_from(field.len()).map_err(|error| malformed(error.to_string()))?;
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(field);
        }
        WrappedKey::new(bytes).ok_or_else(|| malformed("it is longer than any key".to_owned()))
    }

    /// What the TPM has to be given to load it.
    pub(crate) fn areas(&self) -> Result<(Private, Public), tss_esapi::Error> {
        let policy = self.policy.as_ref();
        Ok((self.private.clone(), template::key(self.spec(), Some(&self.unique), policy)?))
    }

    fn spec(&self) -> KeySpec {
        let bits: Option<RsaBits> = self.jwk.rsa_bits();
        KeySpec::new(self.label.algorithm, bits).unwrap_or_else(|_| self.label.algorithm.into())
    }
}

fn policy(bank: &[u8], pcrs: &[u8], values: &[u8], authority: &[u8]) -> Result<KeyPolicy, String> {
    let told = |problem: &dyn std::fmt::Display| format!("what it is bound to: {problem}");
    let bank = std::str::from_utf8(bank).ok().and_then(Hash::from_name);
    let bank = bank.ok_or_else(|| told(&"no bank that keys are bound to"))?;
    let in_order = pcrs.windows(2).all(|two| two[0] < two[1]);
    if !in_order || values.len() != pcrs.len() * bank.digest_len() {
        return Err(told(&"not one value for each PCR"));
    }
    let values = values.chunks(bank.digest_len()).map(<[u8]>::to_vec);
    let values = pcrs.iter().copied().zip(values).collect();
    let state = PcrState::new(bank, values).map_err(|error| told(&error))?;
    let authority = match authority {
        [] => None,
        name => Some(Name::parse(name).map_err(|error| told(&error))?),
    };
    Ok(KeyPolicy { state, authority })
}

fn malformed(problem: String) -> DeviceError {
    let detail = format!("the key that the TPM made: {problem}");
    DeviceError::new(Cause::Malformed, Remedy::Refuse, detail)
}

fn jwk(label: &Label, unique: &Unique) -> Result<PublicJwk, String> {
    let jwk = match unique {
        Unique::Point { x, y } => PublicJwk::from_sec1(&[&[4], &x[..], &y[..]].concat()),
        Unique::Modulus(modulus) => PublicJwk::from_rsa(label.algorithm, modulus, &[1, 0, 1]),
    };
    let jwk = jwk.map_err(|error| error.to_string())?;
    if jwk.algorithm() == label.algorithm {
        Ok(jwk)
    } else {
        Err(format!("it is no key for {}", label.algorithm))
    }
}

#[cfg(test)]
mod tests {
    use mintwarden_worker::{Algorithm, IssuerName};

    use super::*;

    fn key() -> TpmKey {
        bound_to(None)
    }

    fn bound() -> TpmKey {
        let values = [(0, vec![1; 32]), (7, vec![2; 32])];
        let state = PcrState::new(Hash::Sha256, values.into()).expect("a state");
        let name = [&[0, 0x0b][..], &[5; 32]].concat();
        let authority = Some(Name::parse(&name).expect("a name"));
        bound_to(Some(KeyPolicy { state, authority }))
    }

    fn bound_to(policy: Option<KeyPolicy>) -> TpmKey {
        let hex = |text: &str| {
            let digit = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("a byte");
            (0..text.len()).step_by(2).map(digit).collect::<Vec<_>>()
        };
        // The base point of P-256 (SEC 2 section 2.4.2).
        let x = hex("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296");
        let y = hex("4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5");
        let label =
            Label { issuer: IssuerName::parse("a").expect("a name"), algorithm: Algorithm::ES256 };
        let unique = Unique::Point { x, y };
        let public = template::key(Algorithm::ES256.into(), Some(&unique), policy.as_ref());
        let public = public.expect("a template");
        let private = Private::try_from(vec![7; 100]).expect("short enough");
        TpmKey::new(label, &[9; 34], &public, private, policy).expect("a key")
    }

    #[test]
    fn a_key_is_read_as_it_was_written() {
        for key in [key(), bound()] {
            let read = TpmKey::decode(&key.encode().expect("written")).expect("read");
            assert_eq!((&read.label, &read.parent, &read.jwk), (&key.label, &key.parent, &key.jwk));
            assert_eq!((&read.policy, read.areas()), (&key.policy, key.areas()));
        }
    }

    #[test]
    fn i1_a_key_that_is_bound_to_pcrs_is_another_object_wherever_its_record_lies() {
        let bound = bound();
        let written = bound.encode().expect("written");
        let claimed = |from: &[u8], to: &[u8]| {
            let bytes = written.as_bytes();
            let at = bytes.windows(from.len()).position(|w| w == from).expect("it is there");
            let bytes = [&bytes[..at], to, &bytes[at + from.len()..]].concat();
            TpmKey::decode(&WrappedKey::new(bytes).expect("not empty"))
        };
        for (from, to) in [
            // Another value, other PCRs, another authority or none.
            (&[1; 32][..], &[3; 32][..]),
            (&[0, 2, 0, 7], &[0, 2, 0, 6]),
            (&[5; 32], &[6; 32]),
            (&[&[0, 34, 0, 0x0b][..], &[5; 32]].concat(), &[0, 0]),
        ] {
            let (_, public) = claimed(from, to).expect("read").areas().expect("a template");
            assert_ne!(public, bound.areas().expect("a template").1);
        }
        for (from, to, words) in [
            (&b"sha256"[..], &b"sha384"[..], "not one value"),
            (b"sha256", b"sha999", "no bank"),
            (&[0, 2, 0, 7], &[0, 2, 7, 0], "not one value"),
            (&[0, 2, 0, 7], &[0, 2, 7, 7], "not one value"),
            (&[0, 2, 0, 7], &[0, 2, 0, 24], "no PCR 24"),
            (&[0, 34, 0, 0x0b], &[0, 34, 0, 0x0c], "name"),
            (b"/key/2", b"/key/1", "another form"),
            (b"/key/2", b"/key/3", "another form"),
        ] {
            let problem = claimed(from, to).expect_err(words);
            assert!(problem.contains(words), "{problem}");
        }
        for cut in 1..written.as_bytes().len() {
            let cut = WrappedKey::new(written.as_bytes()[..cut].to_vec()).expect("not empty");
            assert!(TpmKey::decode(&cut).is_err());
        }
    }

    #[test]
    fn i9_whatever_a_keyset_says_is_read_or_refused() {
        let good = key().encode().expect("written");
        for cut in 1..good.as_bytes().len() {
            let cut = WrappedKey::new(good.as_bytes()[..cut].to_vec()).expect("not empty");
            assert!(TpmKey::decode(&cut).is_err());
        }
        let refuses = |from: &[u8], to: &[u8]| {
            let bytes = good.as_bytes();
            let at = bytes.windows(from.len()).position(|w| w == from).expect("it is there");
            let bytes = [&bytes[..at], to, &bytes[at + from.len()..]].concat();
            TpmKey::decode(&WrappedKey::new(bytes).expect("not empty")).expect_err("refused")
        };
        assert!(refuses(b"/key/1", b"/key/2").contains("cut short"));
        assert!(refuses(b"/key/1", b"/key/3").contains("another form"));
        assert!(refuses(b"ES256", b"ES384").contains("no key for ES384"));
        assert!(refuses(b"mintwarden/a/", b"mintwarden/A/").contains("names no issuer"));
        let longer = [good.as_bytes(), &[0]].concat();
        assert!(TpmKey::decode(&WrappedKey::new(longer).expect("not empty")).is_err());
    }
}
