//! What a PKCS#11 token holds, seen past the appliance: one line of JSON for each key object, as another
//! program that knows the PIN finds it.
//!
//! ```text
//! SOFTHSM2_CONF=… objects MODULE LABEL PIN
//! ```

#![allow(clippy::print_stdout, reason = "it is asked what it sees")]

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    object::{Attribute, AttributeType, ObjectClass},
    session::UserType,
    types::AuthPin,
};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |name: &str| arguments.next().unwrap_or_else(|| panic!("no {name}"));
    let (module, label, pin) = (argument("MODULE"), argument("LABEL"), argument("PIN"));
    let context = Pkcs11::new(module).expect("the module loads");
    let flags = CInitializeFlags::OS_LOCKING_OK;
    context.initialize(CInitializeArgs::new(flags)).expect("the module initialises");
    let slots = context.get_slots_with_initialized_token().expect("the slots");
    let meant = |slot: &_| context.get_token_info(*slot).is_ok_and(|info| info.label() == label);
    let slot = slots.into_iter().find(meant).expect("a PKCS#11 token with this label");
    let session = context.open_ro_session(slot).expect("a session");
    session.login(UserType::User, Some(&AuthPin::from(pin))).expect("the right PIN");
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
        for object in session.find_objects(&[Attribute::Class(class)]).expect("objects") {
            let asked = [AttributeType::Id, AttributeType::Label, AttributeType::EcPoint];
            let mut shown = serde_json::json!({ "class": class.to_string() });
            for attribute in session.get_attributes(object, &asked).expect("attributes") {
                match attribute {
                    Attribute::Id(id) => shown["id"] = id.into(),
                    Attribute::Label(label) => {
                        shown["label"] = String::from_utf8_lossy(&label).into();
                    }
                    Attribute::EcPoint(point) => shown["point"] = point.into(),
                    _ => {}
                }
            }
            println!("{shown}");
        }
    }
    session.close().expect("the session closes");
}
