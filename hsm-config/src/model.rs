//! Data about makes of device. A model is a TOML file in `models/`; a new make that behaves needs no
//! code.

use std::{
    path::{Path, PathBuf},
    sync::LazyLock,
};

use serde::Deserialize;

use crate::quirks::QuirksEntry;

/// Every model file. A test compares the list with the directory.
const FILES: &[&str] = &[include_str!("../models/softhsm2.toml")];

static MODELS: LazyLock<Vec<Model>> = LazyLock::new(|| {
    let parse = |text: &&str| toml::from_str(text).expect("a test parses each built-in model");
    FILES.iter().map(parse).collect()
});

/// What is known about one make of device.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The word for it in a device's `model` key; also the file's name.
    pub name: String,
    /// Where its PKCS#11 module is usually installed, the likeliest first.
    pub module: Vec<PathBuf>,
    /// How the module gets onto a machine.
    pub install: String,
    /// Signing sessions where the operator says nothing.
    pub sessions: usize,
    /// In what its module differs from the usual.
    #[serde(default)]
    pub quirks: QuirksEntry,
    /// What an operator and the next maintainer should know.
    pub notes: String,
    /// Where the facts come from.
    pub source: Vec<String>,
}

impl Model {
    /// All models, in no particular order.
    #[must_use]
    pub fn all() -> &'static [Self] {
        &MODELS
    }

    /// The model of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        Self::all().iter().find(|model| model.name == name)
    }

    /// The first candidate for the module that exists on this machine.
    #[must_use]
    pub fn installed_module(&self) -> Option<&Path> {
        self.module.iter().map(PathBuf::as_path).find(|path| path.is_file())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_file_is_built_in_and_parses() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        let files = std::fs::read_dir(directory).expect("models/ is there");
        let mut names: Vec<_> = files
            .map(|file| file.expect("readable").path())
            .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
            .collect();
        names.sort();
        let mut built_in: Vec<_> = FILES
            .iter()
            .map(|text| toml::from_str::<Model>(text).expect("parses"))
            .inspect(|model| {
                assert!(!model.module.is_empty() && model.sessions > 0, "{}", model.name);
                assert!(model.module.iter().all(|path| path.is_absolute()), "{}", model.name);
            })
            .map(|model| model.name)
            .collect();
        built_in.sort();
        assert_eq!(built_in, names);
    }

    #[test]
    fn models_are_found_by_name() {
        assert_eq!(Model::find("softhsm2").map(|model| model.sessions), Some(4));
        assert_eq!(Model::find("SoftHSM2"), None);
    }
}
