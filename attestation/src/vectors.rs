//! What swtpm and tpm2-tools made: see `vectors/make.sh`.

use std::time::Duration;

use crate::{
    Authorities, Challenge, Endorsement, Evidence, Jwks, Members, Nonce, Residence, Secret,
    TpmEvidence,
    encoding::{Bytes, to_text},
    tpm::{Name, Public},
};

/// One of the files.
macro_rules! vector {
    ($name:literal) => {
        &include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/", $name))[..]
    };
}
pub(crate) use vector;

/// 2027-01-01, when the certificates are valid.
pub(crate) const NOW: Duration = Duration::from_secs(1_798_761_600);

pub(crate) fn public(bytes: &[u8]) -> Public {
    Public::parse(bytes).unwrap()
}

pub(crate) fn ak() -> Name {
    Name::parse(vector!("ak.name")).unwrap()
}

pub(crate) fn nonce() -> Nonce {
    Nonce::new(vector!("nonce")).unwrap()
}

/// What a TPM answered to [`nonce`].
pub(crate) fn tpm_evidence() -> TpmEvidence {
    TpmEvidence {
        key: public(vector!("key-ecc256.pub")),
        parent: public(vector!("parent.pub")),
        ak: public(vector!("ak.pub")),
        attest: Bytes(vector!("certify.attest").to_vec()),
        signature: Bytes(vector!("certify.signature").to_vec()),
        endorsement: vec![Endorsement {
            public: public(vector!("ek-rsa.pub")),
            certificate: Some(Bytes(vector!("ek-rsa.der").to_vec())),
        }],
        activated: Some(Bytes(vector!("secret").to_vec())),
    }
}

pub(crate) fn evidence(tpm: TpmEvidence) -> Evidence {
    Evidence::new(nonce(), "payments-tts".into(), Residence::Tpm(Box::new(tpm)))
}

pub(crate) fn jwks() -> Jwks {
    jwks_of(&[Members::from(public(vector!("key-ecc256.pub")).key())])
}

pub(crate) fn jwks_of(keys: &[Members]) -> Jwks {
    let published = |key: &Members| {
        let mut jwk = serde_json::to_value(key).unwrap();
        jwk["kid"] = key.thumbprint().into();
        jwk["use"] = "sig".into();
        jwk
    };
    let keys: Vec<_> = keys.iter().map(published).collect();
    Jwks::parse(serde_json::json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

pub(crate) fn secret() -> Secret {
    secret_of(vector!("nonce"), &public(vector!("ek-rsa.pub")), &ak(), vector!("secret"))
}

pub(crate) fn secret_of(nonce: &[u8], ek: &Public, ak: &Name, secret: &[u8]) -> Secret {
    let document = serde_json::json!({
        "format": "mintwarden-challenge-secret/1",
        "nonce": to_text(nonce),
        "ek": to_text(&ek.to_sized()),
        "ak": to_text(&ak.to_bytes()),
        "secret": to_text(secret),
    });
    assert!(document.to_string().len() < Challenge::MAX);
    Secret::parse(document.to_string().as_bytes()).unwrap()
}

pub(crate) fn authorities() -> Authorities {
    Authorities::parse(&[vector!("ek-root.pem"), vector!("ek-issuer.pem")].concat()).unwrap()
}
