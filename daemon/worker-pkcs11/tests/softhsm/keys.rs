//! Keys are made, found, examined and used.

use cryptoki::{
    mechanism::Mechanism,
    object::{Attribute, ObjectClass},
    session::Session,
};
use mintwarden_hsm_config::quirks::{Hashing, QuirksEntry};
use mintwarden_pkcs11::Pkcs11Device;
use mintwarden_worker::{
    Algorithm, KeySpec,
    algorithm::{KeyType, RsaBits},
    device::{Cause, Device as _, KeyHandle, Remedy},
    jws::SigningInput,
};

use crate::fixture::{handle, issuer, on_softhsm};

const ES256: Algorithm = Algorithm::ES256;

const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

#[test]
fn a_generated_key_is_listed_found_and_signs() {
    on_softhsm("keys::a_generated_key_is_listed_found_and_signs", |fixture| {
        let id = handle();
        let made = {
            let mut device = fixture.open();
            device.supports(ES256.into()).expect("SoftHSM2 can");
            let made = device.generate(&issuer("payments"), ES256.into(), &id).expect("made");
            assert_eq!(made.defects, Vec::<String>::new());
            assert_eq!((&made.handle, &made.issuer), (&id, &Some(issuer("payments"))));
            made
        };
        // As after a restart.
        let mut device = fixture.open();
        assert_eq!(device.list(), Ok(vec![made.clone()]));
        assert_eq!(device.find(&id), Ok(Some(made.clone())));
        assert_eq!(device.find(&handle()), Ok(None));
        assert_eq!(device.probe(), Ok(()));
        let description = device.describe();
        assert_eq!(description.label, "tts");
        assert!(!description.serial.is_empty() && description.library.contains("SoftHSM"));

        let public = made.public.expect("a public key");
        let mut sessions =
            [(); 2].map(|()| device.open_session().expect("SoftHSM2 has sessions enough"));
        for (round, session) in [0, 1, 0, 1].into_iter().enumerate() {
            let message = format!("message {round}");
            let signature =
                sessions[session].sign(&id, ES256, &input(message.as_bytes())).expect("signed");
            assert_eq!(signature.len(), 64);
            assert!(public.verifies(message.as_bytes(), &signature));
        }
        // The device may go before its sessions: the module stays until the last of them.
        drop(device);
        sessions[0].sign(&id, ES256, &input(b"late")).expect("signed");
    });
}

#[test]
fn i7_generating_never_replaces() {
    on_softhsm("keys::i7_generating_never_replaces", |fixture| {
        let mut device = fixture.open();
        let id = handle();
        let first = device.generate(&issuer("a"), ES256.into(), &id).expect("made");
        let error = device.generate(&issuer("a"), ES256.into(), &id).expect_err("in use");
        assert_eq!((error.cause, error.remedy), (Cause::KeyUnusable, Remedy::Refuse));
        assert!(error.detail.contains("never replaced"), "{error}");
        assert_eq!(device.list(), Ok(vec![first]));
    });
}

#[test]
fn i3_an_unknown_handle_and_a_foreign_key_do_not_sign() {
    on_softhsm("keys::i3_an_unknown_handle_and_a_foreign_key_do_not_sign", |fixture| {
        let foreign = handle();
        fixture.past_the_device(|session| {
            generate(session, &foreign, "somebody else's", false);
        });
        let mut device = fixture.open();
        assert_eq!(device.list(), Ok(vec![]), "not ours");
        let mut session = device.open_session().expect("a session");
        let message = input(b"message");
        let error = session.sign(&handle(), ES256, &message).expect_err("no such key");
        assert_eq!((error.cause, error.remedy), (Cause::KeyAbsent, Remedy::Refuse));
        let error = session.sign(&foreign, ES256, &message).expect_err("not ours");
        assert_eq!((error.cause, error.remedy), (Cause::KeyUnusable, Remedy::Refuse));
    });
}

#[test]
fn i1_an_extractable_key_past_the_device_is_reported_as_defective() {
    on_softhsm("keys::i1_an_extractable_key_past_the_device_is_reported_as_defective", |fixture| {
        let id = handle();
        fixture.past_the_device(|session| generate(session, &id, "mintwarden/payments", true));
        let key = fixture.open().find(&id).expect("found").expect("there");
        for attribute in ["CKA_EXTRACTABLE is true", "CKA_NEVER_EXTRACTABLE is false"] {
            let defect = format!("private half: {attribute}");
            assert!(key.defects.contains(&defect), "{:?}", key.defects);
        }
    });
}

#[test]
fn half_a_pair_and_a_twin_are_reported() {
    on_softhsm("keys::half_a_pair_and_a_twin_are_reported", |fixture| {
        let (half, twin) = (handle(), handle());
        let mut device = fixture.open();
        for id in [&half, &twin] {
            device.generate(&issuer("a"), ES256.into(), id).expect("made");
        }
        drop(device);
        fixture.past_the_device(|session| {
            let public = [id(&half), Attribute::Class(ObjectClass::PUBLIC_KEY)];
            let public = session.find_objects(&public).expect("searched");
            session.destroy_object(public[0]).expect("destroyed");
            generate(session, &twin, "mintwarden/a", false);
        });
        let mut device = fixture.open();
        let key = device.find(&half).expect("found").expect("there");
        assert_eq!(key.defects, ["the public half is missing"]);
        let key = device.find(&twin).expect("found").expect("there");
        assert!(key.defects.iter().any(|defect| defect.starts_with("2 private")), "{key:?}");
        assert_eq!(device.list().expect("listed").len(), 2);
        let mut session = device.open_session().expect("a session");
        let error = session.sign(&twin, ES256, &input(b"m")).expect_err("which?");
        assert_eq!(error.cause, Cause::KeyUnusable);
    });
}

#[test]
fn keys_of_every_kind_are_made_found_and_sign_by_either_mechanism() {
    on_softhsm("keys::keys_of_every_kind_are_made_found_and_sign_by_either_mechanism", |fixture| {
        let keys: Vec<_> = {
            let mut device = fixture.open();
            let made = |key: KeySpec| {
                let id = handle();
                let made = device.generate(&issuer("payments"), key, &id).expect("made");
                assert_eq!(made.defects, Vec::<String>::new(), "{key}");
                let public = made.public.clone().expect("a public key");
                assert_eq!(
                    (public.algorithm(), public.rsa_bits()),
                    (key.algorithm(), key.rsa_bits())
                );
                (id, made)
            };
            // A key of 4096 bits takes SoftHSM2 seconds; its size is a number like the others.
            let small = |key: &KeySpec| key.rsa_bits() != Some(RsaBits::B4096);
            KeySpec::all().filter(small).map(made).collect()
        };
        for hashing in [Hashing::Outside, Hashing::Inside] {
            let quirks = QuirksEntry { hashing: Some(hashing), ..QuirksEntry::default() };
            let setup = fixture.setup(|entry| entry.quirks = Some(quirks));
            let mut device = Pkcs11Device::open(&setup).expect("opens");
            let mut session = device.open_session().expect("a session");
            for (id, made) in &keys {
                assert_eq!(device.find(id), Ok(Some(made.clone())));
                let public = made.public.as_ref().expect("a public key");
                let support = device.supports(KeySpec::from(public.algorithm())).expect("can");
                let rsa = public.algorithm().key_type() == KeyType::Rsa;
                assert_eq!(support.hashes, rsa && hashing == Hashing::Inside, "{support:?}");
                let signature = session.sign(id, public.algorithm(), &input(b"m")).expect("signed");
                assert_eq!(signature.len(), public.signature_len());
                assert!(public.verifies(b"m", &signature), "{support:?}");
                assert!(!public.verifies(b"n", &signature));
            }
        }
    });
}

#[test]
fn i3_a_key_signs_for_the_algorithm_in_its_label_alone() {
    on_softhsm("keys::i3_a_key_signs_for_the_algorithm_in_its_label_alone", |fixture| {
        let id = handle();
        let mut device = fixture.open();
        device.generate(&issuer("a"), Algorithm::EdDSA.into(), &id).expect("made");
        let mut session = device.open_session().expect("a session");
        let error = session.sign(&id, Algorithm::Ed25519, &input(b"m")).expect_err("another");
        assert_eq!((error.cause, error.remedy), (Cause::KeyUnusable, Remedy::Refuse));
        assert!(error.detail.contains("made for EdDSA, not Ed25519"), "{error}");
        session.sign(&id, Algorithm::EdDSA, &input(b"m")).expect("signed");
    });
}

fn input(message: &[u8]) -> SigningInput {
    SigningInput::new(message)
}

/// Makes a pair as another program would.
fn generate(session: &Session, handle: &KeyHandle, label: &str, extractable: bool) {
    let label = Attribute::Label(label.as_bytes().to_vec());
    let private = [
        id(handle),
        label.clone(),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(extractable),
        Attribute::Sign(true),
    ];
    let public = [id(handle), label, Attribute::Token(true), Attribute::EcParams(P256.to_vec())];
    session
        .generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)
        .expect("a pair from outside");
}

fn id(handle: &KeyHandle) -> Attribute {
    Attribute::Id(handle.as_bytes().to_vec())
}
