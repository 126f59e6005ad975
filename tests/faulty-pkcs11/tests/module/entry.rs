//! The entry points, and what is counted.

use std::{ffi::CStr, ptr};

use cryptoki_sys::{
    CK_FUNCTION_LIST, CK_INTERFACE, CK_VERSION, CKR_BUFFER_TOO_SMALL, CKR_FUNCTION_FAILED, CKR_OK,
};
use faulty_pkcs11::Function;

use crate::fixture::{Fixture, ID, generate, library, sign, verifies};

#[test]
fn everything_is_passed_on_and_counted() {
    let fixture = Fixture::new();
    let session = fixture.session();
    let (public, private) = generate(&session, ID).unwrap();
    assert!(verifies(&session, public, &sign(&session, private).unwrap()));
    let counts = [
        (Function::C_Initialize, 1),
        (Function::C_GetInterface, 1),
        (Function::C_Login, 2),
        (Function::C_GenerateKeyPair, 1),
        (Function::C_SignInit, 1),
        // The length, then the signature.
        (Function::C_Sign, 2),
        (Function::C_Verify, 1),
        (Function::C_DigestInit, 0),
    ];
    for (function, count) in counts {
        assert_eq!(fixture.faulty.calls(function), count, "{function}");
    }
    assert_eq!(fixture.faulty.processes(), [std::process::id()]);
}

/// Both ways to find functions: 2.40's, and 3.0's with its two interfaces.
#[test]
#[allow(unsafe_code)]
fn functions_are_found_by_2_40_and_by_3_0() {
    let _fixture = Fixture::new();
    // SAFETY: the module is loaded already; the symbols have the types of the standard.
    unsafe {
        let module = cryptoki_sys::Pkcs11::new(library()).unwrap();
        let mut list: *mut CK_FUNCTION_LIST = ptr::null_mut();
        assert_eq!(module.C_GetFunctionList(&raw mut list), CKR_OK);
        assert_eq!(((*list).version.major, (*list).version.minor), (2, 40));
        let mut info = std::mem::zeroed();
        assert_eq!((*list).C_GetInfo.unwrap()(&raw mut info), CKR_OK);

        let mut count = 0;
        assert_eq!(module.C_GetInterfaceList(ptr::null_mut(), &raw mut count), CKR_OK);
        assert_eq!(count, 2);
        let mut interfaces: [CK_INTERFACE; 2] = std::mem::zeroed();
        count = 1;
        let listed = module.C_GetInterfaceList(interfaces.as_mut_ptr(), &raw mut count);
        assert_eq!((listed, count), (CKR_BUFFER_TOO_SMALL, 2));
        assert_eq!(module.C_GetInterfaceList(interfaces.as_mut_ptr(), &raw mut count), CKR_OK);
        let versions = interfaces.map(|interface| {
            assert_eq!(CStr::from_ptr(interface.pInterfaceName.cast()), c"PKCS 11");
            let version = *interface.pFunctionList.cast::<CK_VERSION>();
            (version.major, version.minor)
        });
        assert_eq!(versions, [(3, 0), (2, 40)]);

        let mut version = CK_VERSION { major: 3, minor: 1 };
        let mut found: *mut CK_INTERFACE = ptr::null_mut();
        let answer = module.C_GetInterface(ptr::null_mut(), &raw mut version, &raw mut found, 0);
        assert_eq!(answer, CKR_FUNCTION_FAILED, "no such version");
    }
}
