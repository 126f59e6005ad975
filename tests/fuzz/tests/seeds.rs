//! What the fuzz targets begin with, and what they once found, without a fuzzer.

use std::{fs, path::Path};

use mintwarden_fuzz::TARGETS;

#[test]
fn what_must_hold_holds_for_all_seeds() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for (name, target) in TARGETS {
        let mut files: Vec<_> = fs::read_dir(seeds.join(name))
            .expect(name)
            .map(|file| file.expect(name).path())
            .collect();
        files.sort();
        assert!(!files.is_empty(), "{name} has no seeds");
        for file in files {
            eprintln!("{}", file.display());
            target(&fs::read(&file).expect("a seed"));
        }
    }
}

#[test]
fn every_target_is_a_program_and_is_run() {
    let manifest = include_str!("../Cargo.toml");
    let script = include_str!("../../../scripts/fuzz.sh");
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "{name}");
        assert!(
            script.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == name),
            "{name}"
        );
    }
}
