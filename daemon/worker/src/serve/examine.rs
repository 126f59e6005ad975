//! The answer to the doctor.

use crate::{
    claims::Profile,
    device::{Device, DeviceError},
    finding::{Check, Finding},
};

/// What there is to say about an open device.
pub(super) fn examine(
    device: &mut dyn Device,
    profiles: &[Profile],
) -> Result<Vec<Finding>, DeviceError> {
    device.probe()?;
    let mut findings = device.examine()?;
    findings.push(Finding::ok(Check::DeviceLogin, "", "logged in, and no login is pending"));
    for profile in profiles {
        findings.push(Finding::of_support(&profile.issuer, &device.supports(profile.key)));
    }
    Ok(findings)
}

/// Findings as they travel on the wire, all about this device.
pub(super) fn encode(findings: Vec<Finding>, device: &str) -> String {
    let about: Vec<_> = findings.into_iter().map(|finding| finding.about(device)).collect();
    serde_json::to_string(&about).expect("findings have only strings")
}
