//! What a PKCS#11 token says of itself (`CK_TOKEN_INFO`), judged for the doctor.

use cryptoki::slot::{Limit, TokenInfo};
use mintwarden_worker::finding::{Check, Finding};

use crate::{library::Library, token::padding_off};

/// Less room for objects than this, bytes, if the device tells: a pair of RSA keys takes some KiB.
const LITTLE_MEMORY: usize = 16 * 1024;

/// The module that was loaded.
pub(crate) fn module(library: &Library) -> Finding {
    Finding::ok(Check::DeviceModule, "", library.describe())
}

/// Everything that `CK_TOKEN_INFO` tells. `sessions`: how many the configuration asks for.
pub(crate) fn token(info: &TokenInfo, sessions: usize) -> Vec<Finding> {
    vec![identity(info), pin(info), room_for_sessions(info, sessions), memory(info)]
}

fn identity(info: &TokenInfo) -> Finding {
    let text = |text: &str| padding_off(text).to_owned();
    let (hardware, firmware) = (info.hardware_version(), info.firmware_version());
    let found = format!(
        "label {:?}, serial number {:?}, {} {}, hardware {}.{}, firmware {}.{}",
        text(info.label()),
        text(info.serial_number()),
        text(info.manufacturer_id()),
        text(info.model()),
        hardware.major(),
        hardware.minor(),
        firmware.major(),
        firmware.minor(),
    );
    let check = Check::DeviceToken;
    if info.error_state() {
        let found = format!("{found}; it is in an error state (CKF_ERROR_STATE)");
        return Finding::fault(check, "", found, "see the vendor's manual: a self-test failed");
    }
    if info.write_protected() {
        let found = format!("{found}; it is write-protected (CKF_WRITE_PROTECTED)");
        return Finding::fault(check, "", found, "no key can be made or destroyed: take it off");
    }
    if !info.login_required() {
        let found = format!("{found}; it asks for no login (CKF_LOGIN_REQUIRED is not set)");
        let remedy = "whoever reaches the module may use its keys: have it ask for one";
        return Finding::warning(check, "", found, remedy);
    }
    Finding::ok(check, "", found)
}

fn pin(info: &TokenInfo) -> Finding {
    let check = Check::DevicePin;
    if info.user_pin_locked() {
        let remedy = "the security officer unlocks it (C_InitPIN), if the device allows that";
        return Finding::fault(check, "", "the user PIN is locked (CKF_USER_PIN_LOCKED)", remedy);
    }
    if info.user_pin_final_try() {
        return Finding::fault(
            check,
            "",
            "one more wrong PIN locks it (CKF_USER_PIN_FINAL_TRY)",
            "make sure of the PIN by other means before any login: some devices destroy their keys",
        );
    }
    if info.user_pin_count_low() {
        return Finding::warning(
            check,
            "",
            "a wrong PIN was given since the last login (CKF_USER_PIN_COUNT_LOW)",
            "find out who tried; a login that succeeds clears it",
        );
    }
    if info.user_pin_to_be_changed() {
        let found = "the user PIN is the one it was made with (CKF_USER_PIN_TO_BE_CHANGED)";
        return Finding::warning(check, "", found, "change it");
    }
    Finding::ok(check, "", "no wrong PIN is counted")
}

fn room_for_sessions(info: &TokenInfo, wanted: usize) -> Finding {
    let check = Check::DeviceSessions;
    let open = info.session_count().map_or_else(
        || "how many are open is not told".to_owned(),
        |count| format!("{count} are open"),
    );
    // One more manages keys.
    let needed = wanted as u64 + 1;
    match info.max_session_count() {
        Limit::Max(max) if max < needed => Finding::warning(
            check,
            "",
            format!("{wanted} sign and one manages keys, but the device allows {max}; {open}"),
            "lower `sessions`, or raise the device's limit",
        ),
        Limit::Max(max) => {
            let found =
                format!("{wanted} sign and one manages keys; the device allows {max}; {open}");
            Finding::ok(check, "", found)
        }
        Limit::Infinite | Limit::Unavailable => {
            let found =
                format!("{wanted} sign and one manages keys; the device tells no limit; {open}");
            Finding::ok(check, "", found)
        }
    }
}

fn memory(info: &TokenInfo) -> Finding {
    let check = Check::DeviceMemory;
    let told = [info.free_private_memory(), info.free_public_memory()];
    let Some(least) = told.into_iter().flatten().min() else {
        return Finding::skipped(check, "", "the device does not tell how much is free", "");
    };
    let found = format!("{least} bytes are free");
    if least < LITTLE_MEMORY {
        let remedy = "a rotation needs room for one more pair: delete what is not needed any more";
        return Finding::warning(check, "", found, remedy);
    }
    Finding::ok(check, "", found)
}
