use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::tpm::Hash;

/// PCRs that every TPM of the PC Client profile has.
const PCRS: u8 = 24;

/// PCRs, or values of PCRs, that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PcrError {
    /// None at all.
    #[error("no PCR is named")]
    None,
    /// There is no such PCR.
    #[error("there is no PCR {0}: use 0 to 23")]
    Unknown(u8),
    /// No such bank.
    #[error("bank {0:?} is none of sha256, sha384, sha512")]
    Bank(String),
    /// A value of another length than the bank's, or none in hexadecimal.
    #[error("the value of PCR {pcr} is no {bank} digest: write {digits} hexadecimal digits")]
    Value {
        /// The PCR.
        pcr: u8,
        /// The bank.
        bank: &'static str,
        /// How many digits it has to have.
        digits: usize,
    },
}

/// PCRs of one bank: at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    bank: Hash,
    /// In order, each once.
    pcrs: Vec<u8>,
}

impl Selection {
    /// These PCRs of a bank; order and repetition mean nothing.
    ///
    /// # Errors
    /// [`PcrError::None`], [`PcrError::Unknown`].
    pub fn new(bank: Hash, pcrs: &[u8]) -> Result<Self, PcrError> {
        let mut pcrs = pcrs.to_vec();
        pcrs.sort_unstable();
        pcrs.dedup();
        match pcrs.last() {
            None => Err(PcrError::None),
            Some(last) if *last >= PCRS => Err(PcrError::Unknown(*last)),
            Some(_) => Ok(Self { bank, pcrs }),
        }
    }

    /// The bank: the algorithm that the PCRs are extended with.
    #[must_use]
    pub fn bank(&self) -> Hash {
        self.bank
    }

    /// The PCRs, in order.
    #[must_use]
    pub fn pcrs(&self) -> &[u8] {
        &self.pcrs
    }

    /// As a `TPML_PCR_SELECTION` of one bank, with the three bytes of bits that a PC Client TPM has.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bits = [0_u8; PCRS as usize / 8];
        for pcr in &self.pcrs {
            bits[usize::from(pcr / 8)] |= 1 << (pcr % 8);
        }
        [&1_u32.to_be_bytes()[..], &self.bank.id().to_be_bytes(), &[PCRS / 8], &bits].concat()
    }
}

impl fmt::Display for Selection {
    /// As tpm2-tools write it: `sha256:0,2,7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pcrs: Vec<_> = self.pcrs.iter().map(u8::to_string).collect();
        write!(f, "{}:{}", self.bank.name(), pcrs.join(","))
    }
}

/// What some PCRs of one bank hold: the state of a machine, as far as they tell it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct PcrState {
    bank: Hash,
    values: BTreeMap<u8, Vec<u8>>,
}

/// The same as it is written: hexadecimal, as tpm2-tools show it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    bank: String,
    pcrs: BTreeMap<u8, String>,
}

impl PcrState {
    /// These values of a bank's PCRs.
    ///
    /// # Errors
    /// [`PcrError`].
    pub fn new(bank: Hash, values: BTreeMap<u8, Vec<u8>>) -> Result<Self, PcrError> {
        let pcrs: Vec<_> = values.keys().copied().collect();
        Selection::new(bank, &pcrs)?;
        match values.iter().find(|(_, value)| value.len() != bank.digest_len()) {
            Some((pcr, _)) => Err(no_value(bank, *pcr)),
            None => Ok(Self { bank, values }),
        }
    }

    /// The same from hexadecimal digits, with or without `0x` before them.
    ///
    /// # Errors
    /// [`PcrError`].
    pub fn from_hex(bank: Hash, values: &BTreeMap<u8, String>) -> Result<Self, PcrError> {
        let value = |(pcr, text): (&u8, &String)| {
            let digits = text.strip_prefix("0x").or(text.strip_prefix("0X")).unwrap_or(text);
            let value = hex::decode(digits).map_err(|_| no_value(bank, *pcr))?;
            Ok((*pcr, value))
        };
        Self::new(bank, values.iter().map(value).collect::<Result<_, _>>()?)
    }

    /// Which PCRs these are.
    #[must_use]
    pub fn selection(&self) -> Selection {
        Selection { bank: self.bank, pcrs: self.values.keys().copied().collect() }
    }

    /// The values, in the order of their PCRs, one after the other.
    #[must_use]
    pub fn concatenated(&self) -> Vec<u8> {
        self.values.values().flatten().copied().collect()
    }

    /// The PCRs that both have and that differ; none where the banks differ, since nothing can be compared then.
    #[must_use]
    pub fn differing(&self, other: &Self) -> Vec<u8> {
        if self.bank != other.bank {
            return Vec::new();
        }
        let differs =
            |(pcr, value): &(&u8, &Vec<u8>)| other.values.get(pcr).is_some_and(|of| of != *value);
        self.values.iter().filter(differs).map(|(pcr, _)| *pcr).collect()
    }
}

impl From<PcrState> for Written {
    fn from(state: PcrState) -> Self {
        let pcrs = state.values.iter().map(|(pcr, value)| (*pcr, hex::encode(value))).collect();
        Self { bank: state.bank.name().to_owned(), pcrs }
    }
}

impl TryFrom<Written> for PcrState {
    type Error = PcrError;

    fn try_from(written: Written) -> Result<Self, PcrError> {
        let bank = Hash::from_name(&written.bank).ok_or(PcrError::Bank(written.bank))?;
        Self::from_hex(bank, &written.pcrs)
    }
}

fn no_value(bank: Hash, pcr: u8) -> PcrError {
    PcrError::Value { pcr, bank: bank.name(), digits: 2 * bank.digest_len() }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn state(values: &[(u8, u8)]) -> PcrState {
        let values = values.iter().map(|(pcr, byte)| (*pcr, vec![*byte; 32]));
        PcrState::new(Hash::Sha256, values.collect()).unwrap()
    }

    #[test]
    fn a_selection_is_some_pcrs_that_there_are() {
        let selection = Selection::new(Hash::Sha384, &[7, 0, 23, 7]).unwrap();
        assert_eq!(selection.pcrs(), [0, 7, 23]);
        assert_eq!(selection.to_string(), "sha384:0,7,23");
        assert_eq!(selection.to_bytes(), [0, 0, 0, 1, 0, 0x0c, 3, 0x81, 0, 0x80]);
        assert_eq!(Selection::new(Hash::Sha256, &[]), Err(PcrError::None));
        assert_eq!(Selection::new(Hash::Sha256, &[1, 24]), Err(PcrError::Unknown(24)));
    }

    #[test]
    fn what_differs_is_told_by_number_where_it_can_be_compared() {
        let before = state(&[(0, 1), (2, 2), (7, 3)]);
        assert_eq!(before.differing(&before), [0; 0]);
        assert_eq!(before.differing(&state(&[(0, 9), (2, 2), (4, 4), (7, 8)])), [0, 7]);
        let other = PcrState::new(Hash::Sha384, [(0, vec![9; 48])].into()).unwrap();
        assert_eq!(before.differing(&other), [0; 0]);
    }

    #[test]
    fn a_state_is_read_as_it_was_written_and_nothing_else_is_one() {
        let state = state(&[(0, 0xab), (10, 0)]);
        let json = serde_json::to_string(&state).unwrap();
        assert!(json.starts_with(r#"{"bank":"sha256","pcrs":{"0":"abab"#), "{json}");
        assert_eq!(serde_json::from_str::<PcrState>(&json).unwrap(), state);
        let upper = json.replace("abab", "ABAB").replace("\"0\":\"", "\"0\":\"0x");
        assert_eq!(serde_json::from_str::<PcrState>(&upper).unwrap(), state);
        for (this, that, words) in [
            ("sha256", "sha1", "none of sha256"),
            ("\"10\"", "\"24\"", "no PCR 24"),
            ("\"10\"", "\"256\"", ""),
            ("\"10\"", "\"x\"", ""),
            ("abab", "ab", "PCR 0 is no sha256 digest: write 64"),
            ("abab", "abgh", "PCR 0"),
            ("abab", "aba+", "PCR 0"),
            ("\"bank\"", "\"hash\"", ""),
        ] {
            assert!(json.contains(this), "{this}");
            let wrong = json.replacen(this, that, 1);
            let error = serde_json::from_str::<PcrState>(&wrong).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let none = r#"{"bank":"sha256","pcrs":{}}"#;
        assert!(serde_json::from_str::<PcrState>(none).unwrap_err().to_string().contains("no PCR"));
    }
}
