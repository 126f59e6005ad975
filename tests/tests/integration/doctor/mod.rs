//! `mintwarden doctor` on running and on stopped appliances, with each fault made for real.

mod appliance;
mod devices;
mod users;

use std::fs;

use faulty_pkcs11::{Faulty, Function};
use mintwarden_tests::{Appliance, doctor::Examination};
use toml::Table;

fn with_ops(config: &mut Table) {
    config["listen"].as_table_mut().unwrap().insert("ops".into(), "127.0.0.1:0".into());
}

fn edit(appliance: &Appliance, change: impl FnOnce(&mut Table)) {
    let mut config: Table = fs::read_to_string(appliance.config()).unwrap().parse().unwrap();
    change(&mut config);
    fs::write(appliance.config(), config.to_string()).unwrap();
}

fn logins(faulty: &Faulty) -> u64 {
    faulty.calls(Function::C_Login)
}

fn verdicts(examination: &Examination) -> Vec<String> {
    let findings = examination.findings().into_iter();
    findings.map(|finding| format!("{} {}", finding.check, finding.verdict)).collect()
}
