//! Every sample configuration that the documents show is one.

use std::{
    fs,
    path::{Path, PathBuf},
};

use mintwarden_hsm_config::device::{DeviceEntry, Kind};
use serde::Deserialize;

use super::Config;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Devices {
    device: Vec<DeviceEntry>,
}

/// README.md, ARCHITECTURE.md and everything below `docs/`.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned();
    let docs = fs::read_dir(root.join("docs")).expect("docs/ is there");
    let mut documents = vec![root.join("README.md"), root.join("ARCHITECTURE.md")];
    documents.extend(docs.map(|entry| entry.expect("readable").path()));
    documents.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    documents
}

/// The blocks of TOML in a document.
fn samples(text: &str) -> impl Iterator<Item = &str> {
    let blocks = text.split("```toml\n").skip(1);
    blocks.map(|rest| rest.split_once("```").expect("the block is closed").0)
}

#[test]
fn every_sample_in_the_documents_is_a_configuration() {
    let mut read = 0;
    for path in documents() {
        let text = fs::read_to_string(&path).expect("readable");
        let shown = path.display();
        for sample in samples(&text) {
            if sample.contains("state_dir") {
                Config::parse(sample, &path).unwrap_or_else(|e| panic!("{shown}: {e}\n{sample}"));
            } else if sample.contains("[[device]]") {
                let devices: Devices =
                    toml::from_str(sample).unwrap_or_else(|e| panic!("{shown}: {e}\n{sample}"));
                for mut device in devices.device {
                    // The makers' modules are not installed here.
                    if device.kind == Kind::Pkcs11 {
                        device.module.get_or_insert_with(|| path.clone());
                    }
                    let resolved = device.resolve(Path::new("/etc/mintwarden"), false);
                    resolved.unwrap_or_else(|e| panic!("{shown}: {e}\n{sample}"));
                }
            } else {
                sample.parse::<toml::Table>().unwrap_or_else(|e| panic!("{shown}: {e}\n{sample}"));
            }
            read += 1;
        }
    }
    assert!(read >= 5, "{read}");
}
