//! Data about makes of device. A model is a TOML file in `models/`; a new make that behaves needs no
//! code, and what a model says can be said otherwise in a `[[device]]`.

use std::{
    path::{Path, PathBuf},
    sync::LazyLock,
};

use serde::Deserialize;

use crate::quirks::QuirksEntry;

/// Every model file, in the order of their names. A test compares the list with the directory.
const FILES: &[&str] = &[
    include_str!("../models/aws-cloudhsm.toml"),
    include_str!("../models/entrust-nshield.toml"),
    include_str!("../models/generic.toml"),
    include_str!("../models/nitrokey-nethsm.toml"),
    include_str!("../models/softhsm2.toml"),
    include_str!("../models/thales-luna.toml"),
    include_str!("../models/utimaco.toml"),
    include_str!("../models/yubihsm2.toml"),
];

static MODELS: LazyLock<Vec<Model>> = LazyLock::new(|| {
    let parse = |text: &&str| toml::from_str(text).expect("a test parses each built-in model");
    FILES.iter().map(parse).collect()
});

/// What is known about one make of device. What its maker does not state is left out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The word for it in a device's `model` key; also the file's name.
    pub name: String,
    /// Whether the project has run Mintwarden on one. Otherwise all of this is read, not tried.
    pub run_here: bool,
    /// Why it cannot hold issuers' keys, where it is known that it cannot.
    pub unusable: Option<String>,
    /// Where its PKCS#11 module is usually installed, the likeliest first.
    pub module: Vec<PathBuf>,
    /// How the module gets onto a machine.
    pub install: String,
    /// Environment variables that the module reads; they belong into a device's `environment`.
    #[serde(default)]
    pub environment: Vec<Variable>,
    /// What the module wants as the initialisation string (`init_args`), with an example.
    pub init_args: Option<String>,
    /// What the user PIN looks like, where it is more than a PIN.
    pub pin: Option<String>,
    /// Sessions that sign in parallel where the operator says nothing. Where `in_flight` is not
    /// stated this is a choice of Mintwarden's and no figure of the maker's.
    pub sessions: usize,
    /// Sessions that the device or its module allows at once, where that is stated.
    pub max_sessions: Option<usize>,
    /// Requests in flight from which on more bring nothing, where that is stated.
    pub in_flight: Option<usize>,
    /// In what its module differs from the usual.
    #[serde(default)]
    pub quirks: QuirksEntry,
    /// What an operator and the next maintainer should know.
    pub notes: String,
    /// Where the facts come from.
    pub source: Vec<Source>,
}

/// An environment variable that a module reads.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// What it says.
    pub meaning: String,
}

/// Where facts come from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The facts.
    pub of: String,
    /// Title of the document, its section, and its address where it has one.
    pub document: String,
}

impl Model {
    /// All models, in the order of their names.
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
        let parse = |text: &&str| toml::from_str::<Model>(text).expect("parses").name;
        let built_in: Vec<_> = FILES.iter().map(parse).collect();
        assert_eq!(built_in, names);
    }

    #[test]
    fn each_model_is_complete_and_makes_sense() {
        for model in Model::all() {
            let name = &model.name;
            assert!(model.module.iter().all(|path| path.is_absolute()), "{name}");
            assert!(!model.module.is_empty() || name == "generic", "{name}");
            assert!(!model.notes.trim().is_empty() && !model.install.is_empty(), "{name}");
            assert!(!model.source.is_empty(), "{name}: every fact has a source");
            let limit = model.max_sessions.unwrap_or(usize::MAX);
            assert!((1..=limit).contains(&model.sessions), "{name}");
            if let Some(in_flight) = model.in_flight {
                assert_eq!(model.sessions, in_flight, "{name}: the default is full speed");
                let cited = model.source.iter().any(|source| source.of.contains("in flight"));
                assert!(cited, "{name}: in_flight has a source");
            }
            if model.max_sessions.is_some() {
                let cited = model.source.iter().any(|source| source.of.contains("sessions"));
                assert!(cited, "{name}: max_sessions has a source");
            }
            model.quirks.clone().over(QuirksEntry::default()).provable().expect(name);
        }
        let run: Vec<_> = Model::all().iter().filter(|m| m.run_here).map(|m| &m.name).collect();
        assert_eq!(run, ["softhsm2"]);
    }

    #[test]
    fn models_are_found_by_name() {
        assert_eq!(Model::find("softhsm2").map(|model| model.sessions), Some(4));
        assert_eq!(Model::find("SoftHSM2"), None);
    }
}
