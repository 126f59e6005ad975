//! Readiness as monitoring gets it.

use http::StatusCode;
use mintwarden_worker::finding::{Check, Finding};

use super::{
    account::ServerAccount,
    http::{get, reachable},
};
use crate::config::Config;

/// What there is to say about the ops port.
pub(super) fn examine(config: &Config, account: &ServerAccount, running: bool) -> Finding {
    let check = Check::OpsReady;
    let Some(configured) = config.listen.ops else {
        let remedy = "set listen.ops to have readiness and metrics watched";
        return Finding::skipped(check, "", "listen.ops is not set", remedy);
    };
    if !running {
        return Finding::skipped(check, configured, "the appliance does not run", "");
    }
    let Some(address) = account.addresses.ops.map(reachable) else {
        let remedy = "restart the appliance to apply the configuration";
        return Finding::fault(check, configured, "the server does not listen here", remedy);
    };
    let answer = get(address, false, &["/readyz".to_owned()]).map(|mut answers| answers.pop());
    match answer {
        Ok(Some(Ok(got))) if got.status == StatusCode::OK => {
            Finding::ok(check, address, "every issuer could sign now")
        }
        Ok(Some(Ok(got))) => {
            let lines = String::from_utf8_lossy(&got.body);
            let found = format!("{}: {}", got.status, lines.trim().replace('\n', "; "));
            Finding::warning(check, address, found, "docs/ops.md explains each reason")
        }
        Ok(Some(Err(error))) => {
            let found = format!("does not answer: {error}");
            Finding::fault(
                check,
                address,
                found,
                "see whether the server runs, and what is in between",
            )
        }
        Ok(None) => Finding::skipped(check, address, "was not asked", ""),
        Err(error) => Finding::skipped(check, address, error, ""),
    }
}
