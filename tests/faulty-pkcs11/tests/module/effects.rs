//! Return values, sessions, handles, login, the PKCS#11 token.

use cryptoki::{
    error::RvError,
    object::{Attribute, AttributeType, ObjectClass},
    session::{SessionState, UserType},
    slot::Limit,
    types::AuthPin,
};
use faulty_pkcs11::{Action, Ckr, Function, any, on};

use crate::fixture::{Fixture, ID, PIN, failure, generate, sign, verifies};

#[test]
fn a_value_is_returned_once_or_n_times_or_until_the_rule_is_removed() {
    let fixture = Fixture::new();
    let session = fixture.session();
    let (_, private) = generate(&session, ID).unwrap();
    let signs = || sign(&session, private).map(|_| ());

    let once = on(Function::C_Sign).after(1).once().fails(Ckr::CKR_DEVICE_ERROR);
    let once = fixture.faulty.add(once).unwrap();
    signs().unwrap();
    assert_eq!(failure(signs()), RvError::DeviceError);
    assert_eq!((fixture.faulty.fired(&once), fixture.faulty.matched(&once)), (1, 2));
    // What failed before the real call has left its operation behind, as a device does.
    assert_eq!(failure(signs()), RvError::OperationActive);

    let session = fixture.session();
    let signs = || session.sign_init(&cryptoki::mechanism::Mechanism::Ecdsa, private);
    let twice = on(Function::C_SignInit).times(2).fails(Ckr(0x8000_0001));
    let twice = fixture.faulty.add(twice).unwrap();
    assert_eq!(failure(signs()), RvError::VendorDefined(0x8000_0001));
    assert_eq!(failure(signs()), RvError::VendorDefined(0x8000_0001));
    signs().unwrap();
    assert_eq!(fixture.faulty.remove(twice).unwrap(), 2);

    let until = on(Function::C_GetSessionInfo).fails(Ckr::CKR_GENERAL_ERROR);
    let until = fixture.faulty.add(until).unwrap();
    for _ in 0..3 {
        assert_eq!(failure(session.get_session_info()), RvError::GeneralError);
    }
    assert_eq!(fixture.faulty.remove(until).unwrap(), 3);
    session.get_session_info().unwrap();
}

#[test]
fn a_value_with_a_probability_is_the_same_for_the_same_seed() {
    let fixture = Fixture::new();
    let session = fixture.session();
    let run = |seed| {
        let rule = on(Function::C_GetSessionInfo)
            .with_probability(0.5, seed)
            .fails(Ckr::CKR_FUNCTION_FAILED);
        let rule = fixture.faulty.add(rule).unwrap();
        let answers: Vec<_> = (0..64).map(|_| session.get_session_info().is_ok()).collect();
        fixture.faulty.remove(rule).unwrap();
        answers
    };
    let first = run(1);
    assert_eq!(run(1), first);
    assert_ne!(run(2), first);
    assert!(first.contains(&true) && first.contains(&false));
}

#[test]
fn a_call_that_fails_after_the_real_one_has_done_its_work() {
    let fixture = Fixture::new();
    let session = fixture.session();
    let rule = on(Function::C_GenerateKeyPair).after_the_call().once();
    fixture.faulty.add(rule.fails(Ckr::CKR_DEVICE_ERROR)).unwrap();
    assert_eq!(failure(generate(&session, ID)), RvError::DeviceError);
    assert_eq!(session.find_objects(&[Attribute::Id(ID.to_vec())]).unwrap().len(), 2);
}

#[test]
fn sessions_handles_and_login_can_be_lost() {
    let fixture = Fixture::new();
    let session = fixture.session();
    let (_, private) = generate(&session, ID).unwrap();

    let rule = on(Function::C_SignInit).once().does(Action::LoseHandles);
    fixture.faulty.add(rule).unwrap();
    assert_eq!(failure(sign(&session, private)), RvError::KeyHandleInvalid);
    let shown = failure(session.get_attributes(private, &[AttributeType::Label]));
    assert_eq!(shown, RvError::ObjectHandleInvalid);
    let again = session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)]).unwrap()[0];
    sign(&session, again).unwrap();

    let rule = on(Function::C_GetSessionInfo).once().does(Action::LoseLogin);
    fixture.faulty.add(rule).unwrap();
    let state = session.get_session_info().unwrap().session_state();
    assert_eq!(state, SessionState::RwPublic);
    session.login(UserType::User, Some(&AuthPin::from(PIN))).unwrap();

    let rule = on(Function::C_SignInit).once().does(Action::LoseSessions);
    fixture.faulty.add(rule).unwrap();
    assert_eq!(failure(sign(&session, again)), RvError::SessionHandleInvalid);
    assert_eq!(fixture.faulty.sessions(), 0);
}

#[test]
fn the_token_can_be_removed_and_inserted() {
    let fixture = Fixture::new();
    let session = fixture.session();
    let (_, private) = generate(&session, ID).unwrap();
    let gone = fixture.faulty.add(any().does(Action::TokenAbsent)).unwrap();
    assert_eq!(fixture.context.get_slots_with_token().unwrap(), []);
    assert_eq!(failure(fixture.context.get_token_info(fixture.slot)), RvError::TokenNotPresent);
    assert_eq!(failure(fixture.context.open_ro_session(fixture.slot)), RvError::TokenNotPresent);
    assert_eq!(failure(sign(&session, private)), RvError::DeviceRemoved);
    fixture.faulty.remove(gone).unwrap();
    // There again, but its sessions are not.
    assert!(fixture.context.get_slots_with_token().unwrap().contains(&fixture.slot));
    assert_eq!(failure(sign(&session, private)), RvError::SessionHandleInvalid);
    let session = fixture.session();
    let private = session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)]).unwrap()[0];
    sign(&session, private).unwrap();
}

#[test]
fn limits_and_flags_are_stated_and_sessions_counted() {
    let fixture = Fixture::new();
    let info = || fixture.context.get_token_info(fixture.slot).unwrap();
    fixture.faulty.add(on(Function::C_GetTokenInfo).does(Action::MaxSessions(3))).unwrap();
    assert!(matches!(info().max_session_count(), Limit::Max(3)));
    let flags = Action::TokenFlags {
        set: cryptoki_sys::CKF_USER_PIN_FINAL_TRY | cryptoki_sys::CKF_USER_PIN_LOCKED,
        clear: 0,
    };
    let flags = fixture.faulty.add(on(Function::C_GetTokenInfo).does(flags)).unwrap();
    assert!(info().user_pin_final_try() && info().user_pin_locked());
    fixture.faulty.remove(flags).unwrap();
    assert!(!info().user_pin_locked());

    let limit = on(Function::C_OpenSession).does(Action::SessionLimit(2));
    fixture.faulty.add(limit).unwrap();
    let open = || fixture.context.open_ro_session(fixture.slot);
    let (one, two) = (open().unwrap(), open().unwrap());
    assert_eq!(failure(open()), RvError::SessionCount);
    one.close().unwrap();
    let three = open().unwrap();
    assert_eq!(fixture.faulty.sessions(), 2);
    // As when a process with two sessions was killed, and the device forgets them at last.
    fixture.faulty.forget_sessions();
    open().unwrap();
    drop((two, three));
}

#[test]
fn logins_are_answered_as_said() {
    let fixture = Fixture::new();
    let before = fixture.faulty.calls(Function::C_Login);
    let session = fixture.context.open_rw_session(fixture.slot).unwrap();
    let login = || session.login(UserType::User, Some(&AuthPin::from(PIN)));
    for value in [Ckr::CKR_PIN_LOCKED, Ckr::CKR_GENERAL_ERROR] {
        fixture.faulty.add(on(Function::C_Login).once().fails(value)).unwrap();
    }
    // In the order in which they were set; a call that the first one ends is not the second's.
    assert_eq!(failure(login()), RvError::PinLocked);
    assert_eq!(failure(login()), RvError::GeneralError);
    login().unwrap();
    assert_eq!(fixture.faulty.calls(Function::C_Login) - before, 3);
    let private = generate(&session, ID).unwrap();
    assert!(verifies(&session, private.0, &sign(&session, private.1).unwrap()));
}
