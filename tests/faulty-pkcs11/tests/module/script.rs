//! Without a controlling side: a script file.

use std::{fs, thread};

use cryptoki::error::RvError;

use crate::fixture::{configure_softhsm, failure, open, set, softhsm};

#[test]
fn a_script_is_followed_also_when_it_changes() {
    let directory = tempfile::tempdir().unwrap();
    configure_softhsm(directory.path());
    let script = directory.path().join("script.json");
    // Written beside and moved, as an editor does: half a script is none.
    let write = |rules: &str| {
        let new = directory.path().join("new.json");
        fs::write(&new, format!(r#"{{ "rules": [{rules}] }}"#)).unwrap();
        fs::rename(&new, &script).unwrap();
    };
    write(r#"{ "on": ["C_GetInfo"], "times": 1, "do": { "fail": "CKR_DEVICE_ERROR" } }"#);
    set("FAULTY_PKCS11_MODULE", softhsm());
    set("FAULTY_PKCS11_SCRIPT", &script);
    let (context, _) = open();
    assert_eq!(failure(context.get_library_info()), RvError::DeviceError);
    context.get_library_info().unwrap();
    write("");
    write(r#"{ "on": ["C_GetInfo"], "after": 1, "do": { "fail": "0x80000005" } }"#);
    while context.get_library_info().is_ok() {
        thread::yield_now();
    }
    assert_eq!(failure(context.get_library_info()), RvError::VendorDefined(0x8000_0005));
}
