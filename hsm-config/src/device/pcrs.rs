//! `pcrs` of a TPM: to which state of the machine its keys are bound.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Problem;

/// The highest PCR that there is.
const MAX: u8 = 23;

/// PCRs that any program with access to the TPM can reset (TCG PC Client Platform TPM Profile, "PCR Attributes"): 16 is
/// for debugging, 23 for applications.
const RESETTABLE: [u8; 2] = [16, 23];

/// `pcrs` as an operator writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PcrsEntry {
    /// The bank, e.g. `"sha256"`, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bank: Option<String>,
    /// The PCRs.
    pub selection: Vec<u8>,
    /// The public key, PEM, of whoever may sign other states off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<PathBuf>,
    /// The directory that has the states which were signed off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_off: Option<PathBuf>,
}

/// The state of the machine that a TPM's keys are bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pcrs {
    /// The bank whose PCRs are meant.
    pub bank: PcrBank,
    /// The PCRs, in order, each once; at least one.
    pub selection: Vec<u8>,
    /// Who may sign other states off.
    pub authority: Option<PcrAuthority>,
}

/// The hash that the PCRs of a bank are extended with. SHA-1 is not among them: states can be forged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PcrBank {
    /// SHA-256, which every TPM 2.0 has.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// Who signs states off beforehand, and where that is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PcrAuthority {
    /// Its public key, PEM: an absolute path.
    pub public_key: PathBuf,
    /// The directory with what it signed: an absolute path.
    pub signed_off: PathBuf,
}

/// Checks the table.
pub(super) fn resolve(entry: PcrsEntry, base_dir: &Path) -> Result<Pcrs, Problem> {
    let bank = match entry.bank.as_deref() {
        None | Some("sha256") => PcrBank::Sha256,
        Some("sha384") => PcrBank::Sha384,
        Some("sha512") => PcrBank::Sha512,
        Some(_) => return Err(Problem::PcrBank { value: entry.bank.unwrap_or_default() }),
    };
    let mut selection = entry.selection;
    selection.sort_unstable();
    if selection.is_empty() {
        return Err(Problem::PcrSelection { why: "it is empty".into() });
    }
    if let Some(pcr) = selection.iter().find(|pcr| **pcr > MAX) {
        return Err(Problem::PcrSelection { why: format!("there is no PCR {pcr}") });
    }
    if let Some(twice) = selection.windows(2).find(|two| two[0] == two[1]) {
        return Err(Problem::PcrSelection { why: format!("PCR {} is there twice", twice[0]) });
    }
    if let Some(pcr) = selection.iter().find(|pcr| RESETTABLE.contains(pcr)) {
        let why = format!("any program can reset PCR {pcr}, so that it tells nothing");
        return Err(Problem::PcrSelection { why });
    }
    let authority = match (entry.authority, entry.signed_off) {
        (Some(key), Some(signed_off)) => Some(PcrAuthority {
            public_key: path("authority", key, base_dir)?,
            signed_off: path("signed_off", signed_off, base_dir)?,
        }),
        (None, None) => None,
        (Some(_), None) => {
            return Err(Problem::PcrHalf { given: "authority", missing: "signed_off" });
        }
        (None, Some(_)) => {
            return Err(Problem::PcrHalf { given: "signed_off", missing: "authority" });
        }
    };
    Ok(Pcrs { bank, selection, authority })
}

fn path(key: &'static str, path: PathBuf, base_dir: &Path) -> Result<PathBuf, Problem> {
    if path.as_os_str().is_empty() {
        return Err(Problem::PcrPath { key });
    }
    Ok(base_dir.join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pcrs(text: &str) -> Result<Pcrs, Problem> {
        let entry: PcrsEntry = toml::from_str(text).expect("the table parses");
        resolve(entry, Path::new("/etc/mintwarden"))
    }

    #[test]
    fn pcrs_are_some_of_one_bank() {
        let found = pcrs("selection = [7, 0, 2]").expect("PCRs");
        assert_eq!((found.bank, &*found.selection), (PcrBank::Sha256, &[0, 2, 7][..]));
        assert_eq!(found.authority, None);
        let text = "bank = 'sha384'\nselection = [7]\nauthority = 'a.pem'\nsigned_off = '/srv/b'";
        let found = pcrs(text).expect("PCRs");
        assert_eq!(found.bank, PcrBank::Sha384);
        let authority = PcrAuthority {
            public_key: "/etc/mintwarden/a.pem".into(),
            signed_off: "/srv/b".into(),
        };
        assert_eq!(found.authority, Some(authority));
    }

    #[test]
    fn each_mistake_names_key_and_remedy() {
        for (text, expected) in [
            ("selection = []", "pcrs.selection: it is empty"),
            ("selection = [24]", "there is no PCR 24"),
            ("selection = [7, 0, 7]", "PCR 7 is there twice"),
            ("selection = [16]", "any program can reset PCR 16"),
            ("selection = [0, 23]", "any program can reset PCR 23"),
            ("bank = 'sha1'\nselection = [0]", "pcrs.bank = \"sha1\""),
            ("selection = [0]\nauthority = 'a'", "pcrs.authority without pcrs.signed_off"),
            ("selection = [0]\nsigned_off = 'a'", "pcrs.signed_off without pcrs.authority"),
            ("selection = [0]\nauthority = ''\nsigned_off = 'a'", "pcrs.authority is empty"),
            ("selection = [0]\nauthority = 'a'\nsigned_off = ''", "pcrs.signed_off is empty"),
        ] {
            let error = pcrs(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{error}");
        }
        for wrong in ["selection = [0]\nauthorty = 'a'", "selection = [256]", "selection = '0'", ""]
        {
            assert!(toml::from_str::<PcrsEntry>(wrong).is_err(), "{wrong}");
        }
    }
}
