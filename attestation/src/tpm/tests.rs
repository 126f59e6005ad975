//! Against what swtpm, tpm2-tools and openssl made.

use aws_lc_rs::{
    agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree},
    cipher::{AES_128, DecryptionContext, StreamingDecryptingKey, UnboundCipherKey},
    iv::FixedLength,
    rsa::{OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey},
};

use super::{
    credential::integrity,
    kdf::{kdfa, kdfe},
    reader::Reader,
    *,
};
use crate::{
    EkCertificate,
    vectors::{ak, public, vector},
};

#[test]
fn names_are_those_that_the_tpm_gives() {
    let parent = public(vector!("parent.pub"));
    let owner = Name::qualified_primary(Hierarchy::Owner, &parent);
    assert_eq!(owner.to_bytes(), vector!("parent.qualified-name"));
    let attestation_key = public(vector!("ak.pub"));
    let qualified = Name::qualified_primary(Hierarchy::Endorsement, &attestation_key);
    assert_eq!(qualified.to_bytes(), vector!("ak.qualified-name"));
    for (area, name, qualified) in [
        (vector!("ak.pub"), vector!("ak.name"), None),
        (vector!("parent.pub"), vector!("parent.name"), None),
        (
            vector!("key-ecc256.pub"),
            vector!("key-ecc256.name"),
            Some(vector!("key-ecc256.qualified-name")),
        ),
        (
            vector!("key-ecc384.pub"),
            vector!("key-ecc384.name"),
            Some(vector!("key-ecc384.qualified-name")),
        ),
        (
            vector!("key-rsa2048.pub"),
            vector!("key-rsa2048.name"),
            Some(vector!("key-rsa2048.qualified-name")),
        ),
    ] {
        assert_eq!(public(area).name().to_bytes(), name);
        assert_eq!(public(area).to_sized(), area);
        if let Some(qualified) = qualified {
            assert_eq!(owner.qualified_child(&public(area)).to_bytes(), qualified);
        }
    }
}

#[test]
fn a_certification_is_read_whole() {
    let attest = Attest::parse(vector!("certify.attest")).unwrap();
    assert_eq!(attest.extra_data, vector!("nonce"));
    assert_eq!(attest.signer.to_bytes(), vector!("ak.qualified-name"));
    assert_eq!(attest.name.to_bytes(), vector!("key-ecc256.name"));
    assert_eq!(attest.qualified_name.to_bytes(), vector!("key-ecc256.qualified-name"));
    assert_eq!(attest.firmware_version, 0x2019_1023_0016_3636);
    let signature = Signature::parse(vector!("certify.signature")).unwrap();
    assert!(signature.is_by(&public(vector!("ak.pub")), vector!("certify.attest")));
    assert!(!signature.is_by(&public(vector!("key-ecc256.pub")), vector!("certify.attest")));
    assert!(!signature.is_by(&public(vector!("key-rsa2048.pub")), vector!("certify.attest")));
}

#[test]
fn structures_are_read_to_their_last_byte_and_no_further() {
    type Read = fn(&[u8]) -> bool;
    let read: [(&[u8], Read); 6] = [
        (vector!("certify.attest"), |bytes| Attest::parse(bytes).is_ok()),
        (vector!("certify.signature"), |bytes| Signature::parse(bytes).is_ok()),
        (vector!("ak.name"), |bytes| Name::parse(bytes).is_ok()),
        (vector!("parent.pub"), |bytes| Public::parse(bytes).is_ok()),
        (vector!("ek-rsa.pub"), |bytes| Public::parse(bytes).is_ok()),
        (vector!("key-ecc384.pub"), |bytes| Public::parse(bytes).is_ok()),
    ];
    for (whole, parse) in read {
        assert!(parse(whole));
        assert!((0..whole.len()).all(|cut| !parse(&whole[..cut])), "cut short");
        assert!(!parse(&[whole, &[0]].concat()), "one byte too many");
    }
}

#[test]
fn i9_sizes_are_bounded_before_anything_is_taken() {
    let mut reader = Reader::new(&[0xff, 0xff, 0, 0]);
    let refused = reader.sized("nonce", 66);
    assert_eq!(refused, Err(Malformed::TooLong { what: "nonce", size: 0xffff, max: 66 }));
    assert!(Public::parse(&[0xff; 70_000]).is_err());
}

#[test]
fn an_endorsement_keys_certificate_gives_its_public_area() {
    let certificate = EkCertificate::parse(vector!("ek-rsa.der")).unwrap();
    assert_eq!(certificate.public().to_sized(), vector!("ek-rsa.pub"));
    // By the same template as tpm2-tools' for P-256.
    let ecc = public(vector!("ek-ecc.pub"));
    assert_eq!(Public::endorsement(ecc.key()), Ok(ecc));
    assert!(Public::endorsement(public(vector!("key-ecc384.pub")).key()).is_err());
}

/// Opens a credential as a TPM does, with the private half of an endorsement key.
fn open(ek: &str, credential: &Credential, name: &Name) -> Option<Vec<u8>> {
    let (id_object, encrypted) = (credential.id_object(), credential.encrypted_secret());
    let mut encrypted = Reader::new(&encrypted);
    let encrypted = encrypted.sized("secret", 512).unwrap();
    let seed = match ek {
        "rsa" => {
            let key = PrivateDecryptingKey::from_pkcs8(vector!("known-rsa.der")).unwrap();
            let key = OaepPrivateDecryptingKey::new(key).unwrap();
            let mut seed = vec![0; key.min_output_size()];
            let label = Some(&b"IDENTITY\0"[..]);
            key.decrypt(&OAEP_SHA256_MGF1SHA256, encrypted, &mut seed, label).ok()?.to_vec()
        }
        _ => {
            let key = PrivateKey::from_private_key_der(&ECDH_P256, vector!("known-ecc.der"));
            let mut point = Reader::new(encrypted);
            let (x, y) = (point.sized("x", 32).unwrap(), point.sized("y", 32).unwrap());
            let theirs = UnparsedPublicKey::new(&ECDH_P256, [&[4], x, y].concat());
            let Key::Ecc { x: ours, .. } = public(vector!("known-ecc.pub")).key().clone() else {
                unreachable!("the other is RSA")
            };
            let kdf = |z: &[u8]| Ok(kdfe(Hash::Sha256, z, "IDENTITY", x, &ours, 256).to_vec());
            agree(&key.unwrap(), theirs, (), kdf).ok()?
        }
    };
    let mut object = Reader::new(&id_object);
    let mut object = Reader::new(object.sized("object", 132).unwrap());
    let (mac, identity) = (object.sized("mac", 32).unwrap(), object.rest());
    let name = name.to_bytes();
    if integrity(Hash::Sha256, &seed, identity, &name).as_ref() != mac {
        return None;
    }
    let key = kdfa(Hash::Sha256, &seed, "STORAGE", &name, &[], 128);
    let key = UnboundCipherKey::new(&AES_128, &key).unwrap();
    let zero = DecryptionContext::Iv128(FixedLength::from([0; 16]));
    let mut key = StreamingDecryptingKey::cfb128(key, zero).unwrap();
    let mut plain = vec![0; identity.len() + 16];
    let written = key.update(identity, &mut plain).unwrap().written().len();
    let last = key.finish(&mut plain[written..]).unwrap();
    let length = written + last.written().len();
    let mut plain = Reader::new(&plain[..length]);
    let secret = plain.sized("secret", 32).unwrap().to_vec();
    plain.end().unwrap();
    Some(secret)
}

/// What tpm2_makecredential writes: magic, version, the two structures.
fn of_tools(file: &[u8]) -> Credential {
    assert_eq!(file[..8], [0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1]);
    let length = 2 + usize::from(u16::from_be_bytes([file[8], file[9]]));
    let (id_object, encrypted) = file[8..].split_at(length);
    Credential::parse(id_object, encrypted).unwrap()
}

#[test]
fn credentials_are_those_of_tpm2_makecredential() {
    for (ek, area, made) in [
        ("rsa", vector!("known-rsa.pub"), vector!("known-rsa.credential")),
        ("ecc", vector!("known-ecc.pub"), vector!("known-ecc.credential")),
    ] {
        let opened = open(ek, &of_tools(made), &ak());
        assert_eq!(opened.as_deref(), Some(vector!("secret")), "{ek}");
        let ours = Credential::make(&public(area), &ak(), vector!("secret")).unwrap();
        assert_eq!(open(ek, &ours, &ak()).as_deref(), Some(vector!("secret")), "{ek}");
        assert_eq!(ours.id_object().len(), of_tools(made).id_object().len());
        assert_eq!(ours.encrypted_secret().len(), of_tools(made).encrypted_secret().len());
        let other = Name::parse(vector!("parent.name")).unwrap();
        assert_eq!(open(ek, &ours, &other), None, "of another attestation key");
    }
}

#[test]
fn credentials_are_for_endorsement_keys_only() {
    let make = |area, secret: &[u8]| Credential::make(&public(area), &ak(), secret);
    assert_eq!(make(vector!("ak.pub"), b"s"), Err(CredentialError::NotStorage));
    assert_eq!(make(vector!("ek-rsa.pub"), &[0; 33]), Err(CredentialError::TooLong));
    // A point that is on no curve.
    let mut off = vector!("ek-ecc.pub").to_vec();
    *off.last_mut().unwrap() ^= 1;
    assert_eq!(make(&off, b"s"), Err(CredentialError::Key));
}
