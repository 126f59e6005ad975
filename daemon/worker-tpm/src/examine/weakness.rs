//! Firmware that is known to be weak: a small table, each row with its source. It is no list of all that
//! was ever found, but of what makes a signing key worthless.

use mintwarden_worker::{
    Algorithm,
    finding::{Check, Finding},
};

use crate::properties::Properties;

/// One weakness.
pub(super) struct Weakness {
    /// By what name it is known.
    name: &'static str,
    /// `TPM_PT_MANUFACTURER`.
    manufacturer: &'static str,
    /// Which keys it concerns.
    keys: Keys,
    /// What it means for them.
    means: &'static str,
    /// What helps.
    remedy: &'static str,
    /// Where that is known from.
    source: &'static str,
    affected: Affected,
}

/// Which keys are weak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keys {
    Rsa,
    Ecdsa,
    All,
}

/// The first two numbers of a firmware's version.
type Release = (u16, u16);

/// How affected firmware is told.
enum Affected {
    /// Releases from the first to the last, by the first two numbers of the version.
    Releases(&'static [(Release, Release)]),
    /// Versions of a line (the first two numbers) before the third number of the fix.
    Before(&'static [(u16, u16, u16)]),
    /// The version does not tell: to be looked into by a person.
    Untold,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Applies {
    Yes,
    Perhaps,
    No,
}

pub(super) const WEAKNESSES: &[Weakness] = &[
    Weakness {
        name: "CVE-2017-15361 (ROCA)",
        manufacturer: "IFX",
        keys: Keys::Rsa,
        means: "private RSA keys that it made can be computed from the public ones",
        remedy: "update the TPM's firmware; revoke every RSA key that it made before",
        // The vendor's list, as Microsoft's ADV170012 and https://vanstechelman.eu/node/304 have it.
        source: "https://www.infineon.com/TPM-update, ADV170012",
        affected: Affected::Releases(&[
            ((4, 0), (4, 33)),
            ((4, 40), (4, 42)),
            ((5, 0), (5, 61)),
            ((6, 0), (6, 42)),
            ((7, 0), (7, 61)),
            ((133, 0), (133, 32)),
        ]),
    },
    Weakness {
        name: "CVE-2019-16863 (TPM-FAIL)",
        manufacturer: "STM",
        keys: Keys::Ecdsa,
        means: "how long signatures take tells private ECDSA keys, also over a network",
        remedy: "update the TPM's firmware; revoke every ECDSA key that signed before",
        source: "https://www.st.com/content/st_com/en/campaigns/tpm-update.html",
        affected: Affected::Releases(&[
            ((71, 0), (71, 0)),
            ((71, 4), (71, 4)),
            ((71, 12), (71, 12)),
            ((73, 0), (73, 0)),
            ((73, 4), (73, 5)),
            ((73, 8), (73, 9)),
            ((74, 0), (74, 0)),
            ((74, 4), (74, 5)),
            ((74, 8), (74, 9)),
            ((74, 16), (74, 16)),
        ]),
    },
    Weakness {
        name: "CVE-2019-11090 (TPM-FAIL)",
        manufacturer: "INTC",
        keys: Keys::Ecdsa,
        means: "how long signatures take tells private ECDSA keys, also over a network",
        remedy: "update the platform's firmware (CSME, SPS or TXE); revoke every ECDSA key that signed before",
        // The versions that fix it, as https://heise.de/-4585573 has them.
        source: "INTEL-SA-00241",
        affected: Affected::Before(&[
            (11, 8, 65),
            (11, 11, 65),
            (11, 22, 65),
            (12, 0, 35),
            (13, 0, 1201),
            (14, 0, 10),
        ]),
    },
    Weakness {
        name: "CVE-2023-20589 (faulTPM)",
        manufacturer: "AMD",
        keys: Keys::All,
        means: "who has hours with a processor of Zen 2 or Zen 3 and its board reads the TPM's keys out",
        remedy: "where the machine itself can be stolen, take a TPM that is a chip of its own",
        source: "https://arxiv.org/abs/2304.14717, AMD-SB-4005",
        affected: Affected::Untold,
    },
    Weakness {
        name: "a TPM in software (also CVE-2023-1017 and -1018 before libtpms 0.9.6)",
        manufacturer: "IBM",
        keys: Keys::All,
        means: "its keys are in a process's memory and files: whoever runs that machine has them",
        remedy: "for development, or below a hypervisor that is trusted as the HSM would be; libtpms 0.9.6 or later",
        source: "https://github.com/stefanberger/libtpms/releases, VU#782720",
        affected: Affected::Untold,
    },
];

impl Weakness {
    /// What there is to say of this TPM; `None` where it is not concerned.
    pub(super) fn of(&self, properties: &Properties, algorithms: &[Algorithm]) -> Option<Finding> {
        if properties.manufacturer != self.manufacturer {
            return None;
        }
        let applies = self.affected.applies(properties);
        let Self { name, means, remedy, source, .. } = self;
        let used = algorithms.iter().any(|algorithm| self.keys.are_of(*algorithm));
        let firmware = properties.firmware;
        let check = Check::DeviceFirmware;
        match (applies, used) {
            (Applies::No, _) => None,
            (Applies::Yes, true) => {
                let found = format!("{name}: firmware {firmware}: {means} ({source})");
                Some(Finding::fault(check, "", found, remedy))
            }
            (Applies::Yes, false) => {
                let found = format!(
                    "{name}: firmware {firmware}: {means}; no issuer here has such keys ({source})"
                );
                Some(Finding::warning(check, "", found, remedy))
            }
            (Applies::Perhaps, true) => {
                let found = format!(
                    "{name}: {means}; whether firmware {firmware} is concerned, its version does not tell ({source})"
                );
                Some(Finding::warning(check, "", found, remedy))
            }
            (Applies::Perhaps, false) => None,
        }
    }
}

impl Keys {
    fn are_of(self, algorithm: Algorithm) -> bool {
        match self {
            Self::All => true,
            Self::Ecdsa => matches!(algorithm, Algorithm::ES256 | Algorithm::ES384),
            Self::Rsa => matches!(algorithm, Algorithm::PS256 | Algorithm::RS256),
        }
    }
}

impl Affected {
    fn applies(&self, properties: &Properties) -> Applies {
        let told = |applies| if applies { Applies::Yes } else { Applies::No };
        match self {
            Self::Releases(ranges) => {
                let release = properties.firmware.release();
                told(ranges.iter().any(|(first, last)| (*first..=*last).contains(&release)))
            }
            Self::Before(fixes) => {
                let (major, minor, patch) = properties.firmware.patch();
                match fixes.iter().find(|(line, sub, _)| (*line, *sub) == (major, minor)) {
                    Some((_, _, fixed)) => told(patch < *fixed),
                    // Server firmware, and what came later, is numbered otherwise.
                    None => Applies::Perhaps,
                }
            }
            Self::Untold => Applies::Perhaps,
        }
    }
}

#[cfg(test)]
mod tests {
    use mintwarden_worker::finding::Verdict;

    use super::*;
    use crate::examine::{Firmware, identity};

    fn verdict(maker: &str, version: [u32; 3], algorithm: Algorithm) -> (Verdict, String) {
        let [major, minor, patch] = version;
        let properties = Properties {
            manufacturer: maker.into(),
            firmware: Firmware::new(major << 16 | minor, patch << 16),
            ..Properties::default()
        };
        let findings = identity(&properties, &[algorithm]);
        let of_firmware = findings.into_iter().filter(|f| f.check == Check::DeviceFirmware);
        let worst = of_firmware.max_by_key(|finding| finding.verdict).expect("there is one");
        (worst.verdict, worst.found)
    }

    #[test]
    fn firmware_of_the_table_is_told_by_its_version_and_by_the_keys_in_use() {
        use Algorithm::{ES256, ES384, PS256, RS256};
        use Verdict::{Fault, Ok, Warning};
        for (maker, version, algorithm, verdict_, word) in [
            ("IFX", [7, 61, 2785], RS256, Fault, "ROCA"),
            ("IFX", [7, 61, 2785], ES256, Warning, "no issuer here"),
            ("IFX", [7, 62, 3126], RS256, Ok, "nothing against"),
            ("IFX", [5, 0, 0], PS256, Fault, "15361"),
            ("IFX", [5, 62, 0], PS256, Ok, ""),
            ("IFX", [4, 33, 0], RS256, Fault, ""),
            ("IFX", [4, 34, 0], RS256, Ok, ""),
            ("IFX", [15, 23, 0], RS256, Ok, ""),
            ("STM", [73, 4, 0], ES256, Fault, "16863"),
            ("STM", [73, 4, 0], RS256, Warning, ""),
            ("STM", [73, 20, 0], ES384, Ok, ""),
            ("STM", [71, 12, 0], ES384, Fault, ""),
            ("STM", [71, 13, 0], ES384, Ok, ""),
            ("INTC", [11, 8, 50], ES256, Fault, "11090"),
            ("INTC", [11, 8, 65], ES256, Ok, ""),
            ("INTC", [12, 0, 34], ES256, Fault, ""),
            ("INTC", [600, 7, 0], ES256, Warning, "does not tell"),
            ("INTC", [600, 7, 0], RS256, Ok, ""),
            ("AMD", [3, 90, 0], ES256, Warning, "faulTPM"),
            ("IBM", [0x2019, 0x1023, 0], ES256, Warning, "software"),
            ("NTC", [7, 2, 3], ES256, Ok, "nothing against"),
            // The same number of another maker.
            ("NTC", [7, 61, 2785], RS256, Ok, ""),
        ] {
            let (verdict, found) = verdict(maker, version, algorithm);
            assert_eq!(verdict, verdict_, "{maker} {version:?} {algorithm}: {found}");
            assert!(found.contains(word), "{found}");
        }
    }

    #[test]
    fn every_row_has_a_source_and_its_ranges_make_sense() {
        for Weakness { name, source, affected, .. } in WEAKNESSES {
            assert!(!source.is_empty(), "{name}");
            if let Affected::Releases(ranges) = affected {
                assert!(ranges.iter().all(|(first, last)| first <= last), "{name}");
                let sorted = ranges.windows(2).all(|two| two[0].1 < two[1].0);
                assert!(sorted, "{name}: ranges in order, none within another");
            }
        }
    }
}
