//! What the built programs need.

use std::fs;

use mintwarden_tests::programs;
use object::{
    Endianness,
    read::elf::{Dyn as _, ElfFile64},
};

/// The libraries that a program needs (`DT_NEEDED`).
fn needed(program: &str) -> Vec<String> {
    let image = fs::read(programs::path(program)).unwrap();
    let file = ElfFile64::<Endianness>::parse(&*image).unwrap();
    let (endian, sections) = (file.endian(), file.elf_section_table());
    let (entries, strings) = sections.dynamic(endian, &*image).unwrap().expect("dynamic");
    let strings = sections.strings(endian, &*image, strings).unwrap();
    let needed = entries.iter().filter(|entry| entry.tag(endian) == object::elf::DT_NEEDED);
    needed
        .map(|entry| String::from_utf8(entry.string(endian, strings).unwrap().to_vec()).unwrap())
        .collect()
}

#[test]
fn launcher_and_server_need_no_tpm_openssl_or_pkcs11_library() {
    let libraries = needed(programs::MINTWARDEN);
    assert!(libraries.iter().any(|name| name.starts_with("libc.so")), "{libraries:?}");
    for foreign in ["tss2", "ssl", "crypto", "softhsm", "p11", "pkcs11", "tpm"] {
        assert!(!libraries.iter().any(|name| name.contains(foreign)), "{libraries:?}");
    }
}

#[test]
fn the_worker_for_tpms_alone_needs_libtss2() {
    assert!(needed(programs::TPM_WORKER).iter().any(|name| name.contains("tss2-esys")));
    for other in [programs::WORKER, programs::CTL] {
        let libraries = needed(other);
        assert!(!libraries.iter().any(|name| name.contains("tss2")), "{other}: {libraries:?}");
    }
}

#[test]
fn the_client_library_has_no_http_client_of_its_own_unless_it_verifies() {
    let dependencies = |features: &str| {
        let said = std::process::Command::new(env!("CARGO"))
            .args([
                "tree",
                "--locked",
                "--offline",
                "--package",
                "mintwarden-client",
                "--edges",
                "normal",
            ])
            .args(["--prefix", "none", "--features", features])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8(said.stdout).unwrap()
    };
    assert!(!dependencies("").contains("reqwest"));
    assert!(dependencies("verify").contains("reqwest"));
}
