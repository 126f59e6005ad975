//! Wrong signatures, wrong attributes, wrong pairs.

use cryptoki::object::{Attribute, AttributeType, ObjectClass};
use cryptoki_sys::{CKA_EXTRACTABLE, CKA_LABEL, CKA_SENSITIVE};
use faulty_pkcs11::{Action, AttributeValue, Bytes, Class, Function, Half, on};

use crate::fixture::{Fixture, ID, generate, sign, verifies};

#[test]
fn a_signature_can_be_another_keys() {
    let fixture = Fixture::new();
    let session = fixture.session();
    let (public, private) = generate(&session, ID).unwrap();
    let (other, _) = generate(&session, &[2]).unwrap();
    fixture.faulty.add(on(Function::C_SignInit).once().does(Action::OtherKey)).unwrap();
    let signature = sign(&session, private).unwrap();
    assert!(!verifies(&session, public, &signature));
    assert!(verifies(&session, other, &signature));
    assert!(verifies(&session, public, &sign(&session, private).unwrap()));
}

#[test]
fn a_bit_of_a_signature_can_be_flipped() {
    let fixture = Fixture::new();
    let session = fixture.session();
    let (public, private) = generate(&session, ID).unwrap();
    fixture.faulty.add(on(Function::C_Sign).once().does(Action::FlipBit(17))).unwrap();
    let mut signature = sign(&session, private).unwrap();
    assert!(!verifies(&session, public, &signature));
    signature[2] ^= 2;
    assert!(verifies(&session, public, &signature));
}

#[test]
fn attributes_can_be_shown_otherwise_for_one_class() {
    let fixture = Fixture::new();
    let session = fixture.session();
    let (public, private) = generate(&session, ID).unwrap();
    let change = |attribute, value| {
        let class = Some(Class::PrivateKey);
        let action = Action::Attribute { class, attribute, value };
        fixture.faulty.add(on(Function::C_GetAttributeValue).does(action)).unwrap()
    };
    let extractable = change(CKA_EXTRACTABLE, AttributeValue::Bytes(Bytes(vec![1])));
    let sensitive = change(CKA_SENSITIVE, AttributeValue::Absent);
    change(CKA_LABEL, AttributeValue::Bytes(Bytes(b"other".to_vec())));
    let shown = session
        .get_attributes(
            private,
            &[AttributeType::Extractable, AttributeType::Sensitive, AttributeType::Label],
        )
        .unwrap();
    let label = |label: &str| Attribute::Label(label.as_bytes().to_vec());
    assert_eq!(shown, [Attribute::Extractable(true), label("other")]);
    assert_eq!(session.get_attributes(public, &[AttributeType::Label]).unwrap(), [label("")]);
    fixture.faulty.remove(extractable).unwrap();
    fixture.faulty.remove(sensitive).unwrap();
    let kinds = [AttributeType::Extractable, AttributeType::Sensitive];
    let shown = session.get_attributes(private, &kinds).unwrap();
    assert_eq!(shown, [Attribute::Extractable(false), Attribute::Sensitive(true)]);
}

#[test]
fn pairs_can_be_halves_or_twins_or_other_than_asked_for() {
    let fixture = Fixture::new();
    let session = fixture.session();
    let count = |id: u8, class| {
        session.find_objects(&[Attribute::Id(vec![id]), Attribute::Class(class)]).unwrap().len()
    };
    let next = |action| {
        fixture.faulty.add(on(Function::C_GenerateKeyPair).once().does(action)).unwrap();
    };
    next(Action::LoseHalf(Half::Private));
    let (_, private) = generate(&session, &[1]).unwrap();
    assert_eq!((count(1, ObjectClass::PUBLIC_KEY), count(1, ObjectClass::PRIVATE_KEY)), (1, 0));
    sign(&session, private).unwrap_err();
    next(Action::LoseHalf(Half::Public));
    generate(&session, &[2]).unwrap();
    assert_eq!((count(2, ObjectClass::PUBLIC_KEY), count(2, ObjectClass::PRIVATE_KEY)), (0, 1));
    next(Action::Twin);
    generate(&session, &[3]).unwrap();
    assert_eq!((count(3, ObjectClass::PUBLIC_KEY), count(3, ObjectClass::PRIVATE_KEY)), (2, 2));
    let value = Some(Bytes(vec![1]));
    next(Action::Template { half: Half::Private, attribute: CKA_EXTRACTABLE, value });
    let (_, private) = generate(&session, &[4]).unwrap();
    let shown = session.get_attributes(private, &[AttributeType::Extractable]).unwrap();
    assert_eq!(shown, [Attribute::Extractable(true)]);
}

#[test]
fn objects_can_be_hidden() {
    let fixture = Fixture::new();
    let session = fixture.session();
    generate(&session, ID).unwrap();
    let hidden = fixture.faulty.add(on(Function::C_FindObjects).does(Action::HideObjects)).unwrap();
    assert_eq!(session.find_objects(&[]).unwrap(), []);
    fixture.faulty.remove(hidden).unwrap();
    assert_eq!(session.find_objects(&[]).unwrap().len(), 2);
}
