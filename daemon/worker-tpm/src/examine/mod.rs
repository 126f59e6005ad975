//! What a TPM tells of itself, judged for the doctor.

mod firmware;
mod state;
mod weakness;

use mintwarden_worker::{
    Algorithm,
    device::Description,
    finding::{Check, Finding},
};

pub(crate) use firmware::Firmware;
pub(crate) use state::State;

use self::weakness::WEAKNESSES;
use crate::properties::Properties;

/// Which TPM it is, and what is known against it as a signer with these algorithms.
pub(crate) fn identity(properties: &Properties, algorithms: &[Algorithm]) -> Vec<Finding> {
    let Description { manufacturer, model, library, .. } = properties.describe();
    let told = format!("{manufacturer} {model}, {library}");
    let known = WEAKNESSES.iter().filter_map(|weakness| weakness.of(properties, algorithms));
    let mut findings = vec![Finding::ok(Check::DeviceToken, "", told)];
    findings.extend(known);
    if findings.len() == 1 {
        let (maker, firmware) = (&properties.manufacturer, properties.firmware);
        let found = format!("this build knows nothing against firmware {firmware} of {maker:?}");
        findings.push(Finding::ok(Check::DeviceFirmware, "", found));
    }
    findings
}
