//! Which keys a TPM can make.

use mintwarden_worker::{
    KeySpec,
    device::{Cause, DeviceError, Remedy, Support},
};
use tss_esapi::Context;

use crate::{
    command,
    fault::{describe, fault, tpm_code},
    template,
};

/// What a TPM can make, asked once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Supported(Vec<(KeySpec, Option<String>)>);

impl Supported {
    /// Asks the TPM for each kind of key (`TPM2_TestParms`).
    ///
    /// # Errors
    /// Only what is no answer to the question.
    pub(crate) fn read(context: &mut Context) -> Result<Self, DeviceError> {
        let mut found = Vec::new();
        for spec in KeySpec::all() {
            let lacking = match template::parameters(spec) {
                Err(_) => Some("TPM 2.0 is used for ECDSA and RSA alone".to_owned()),
                Ok(parameters) => {
                    let asked = command::raw(context, |context| context.test_parms(parameters));
                    match asked {
                        Ok(()) => None,
                        Err(error) => {
                            let refused = tpm_code(&error).is_some()
                                && fault("", &error).remedy == Remedy::Refuse;
                            if !refused {
                                return Err(fault("asking the TPM which keys it can make", &error));
                            }
                            Some(format!("TPM2_TestParms says {}", describe(&error)))
                        }
                    }
                }
            };
            found.push((spec, lacking));
        }
        Ok(Self(found))
    }

    /// Notes that the TPM cannot do what it said.
    pub(crate) fn lacks(&mut self, spec: KeySpec, why: &str) {
        for (known, lacking) in &mut self.0 {
            if *known == spec {
                *lacking = Some(why.to_owned());
            }
        }
    }

    /// How such keys are made and used.
    ///
    /// # Errors
    /// [`Cause::MechanismMissing`], naming what is missing and what there is.
    pub(crate) fn support(&self, spec: KeySpec) -> Result<Support, DeviceError> {
        let known = self.0.iter().find(|(known, _)| *known == spec);
        match known.map(|(_, lacking)| lacking) {
            Some(None) => Ok(Support {
                key: spec,
                generates: "TPM2_Create".into(),
                signs: "TPM2_Sign".into(),
                hashes: false,
            }),
            lacking => {
                let why = lacking.cloned().flatten().unwrap_or_else(|| "it was not asked".into());
                let there = self.0.iter().filter(|(_, lacking)| lacking.is_none());
                let there: Vec<_> = there.map(|(spec, _)| spec.to_string()).collect();
                let there = if there.is_empty() { "nothing".into() } else { there.join(", ") };
                let detail = format!("this TPM makes no keys for {spec} ({why}); it makes {there}");
                Err(DeviceError::new(Cause::MechanismMissing, Remedy::Refuse, detail))
            }
        }
    }
}
