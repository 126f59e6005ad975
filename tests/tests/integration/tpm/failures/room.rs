//! Others that use the same TPM, though its configuration says that nobody does: they take its room, and flush what
//! is ours.

use std::time::Instant;

use mintwarden_tests::{
    Appliance, ISSUER, Tpm, claims, eventually,
    tpm::{Rc, Relay},
};

use super::struck::{Cost, Struck, report};

/// `TPM2_StartAuthSession`: unbound, unsalted, HMAC with SHA-256.
fn start_session() -> Vec<u8> {
    let header = [0x80, 0x01, 0, 0, 0, 43, 0, 0, 0x01, 0x76];
    let (neither_salt_nor_bind, nonce_size, nonce) =
        ([0x40, 0, 0, 7, 0x40, 0, 0, 7], [0, 16], [0; 16]);
    let (no_salt, hmac, null, sha256) = ([0, 0], [0], [0, 0x10], [0, 0x0b]);
    [&header[..], &neither_salt_nor_bind, &nonce_size, &nonce, &no_salt, &hmac, &null, &sha256]
        .concat()
}

/// Begins sessions until there is no room for one more; how many.
fn fill_with_sessions(relay: &Relay) -> usize {
    let begun = (0..64).take_while(|_| match relay.command(&start_session()).0 {
        Rc(0) => true,
        code => {
            assert_eq!(code, Rc::SESSION_MEMORY);
            false
        }
    });
    begun.count()
}

/// What is loaded, as tpm2-tools list it.
fn loaded(tpm: &Tpm) -> usize {
    let of = |what| tpm.tool(&["tpm2_getcap", what]).matches("0x").count();
    of("handles-transient") + of("handles-loaded-session") + of("handles-saved-session")
}

#[tokio::test]
async fn what_others_left_is_flushed_at_a_start_and_nothing_of_ours_is_left_after_it() {
    let mut appliance = Appliance::swtpm().faulty().prepare();
    let tpm = appliance.tpm();
    let saved = appliance.file("foreign.session").display().to_string();
    // Saved: out of the TPM's memory, and counted all the same.
    let _nothing = tpm.tool(&["tpm2_startauthsession", "-S", &saved]);
    assert!(tpm.tool(&["tpm2_getcap", "handles-saved-session"]).contains("0x"));
    for number in 0..3 {
        let context = appliance.file(&format!("foreign-{number}.ctx")).display().to_string();
        let _described = tpm.tool(&["tpm2_createprimary", "-C", "n", "-c", &context]);
    }
    tpm.try_tool(&["tpm2_createprimary", "-C", "n", "-c", &saved]).expect_err("it is full");
    assert!(fill_with_sessions(tpm.relay()) > 0);
    let begun = loaded(tpm);
    assert!(begun >= 6, "three objects, a saved session, and loaded ones: {begun}");

    appliance.start().await;
    appliance.init(ISSUER).await;
    let token = appliance.client().issuer(ISSUER).sign(claims::trade(1)).await;
    appliance.verifier(ISSUER).await.verify(&token.unwrap()).unwrap();
    appliance.logs("the TPM had objects or sessions of an earlier use").await;
    let tpm = appliance.tpm();
    assert!(loaded(tpm) <= 4, "storage key, two keys, a session: {}", loaded(tpm));
    appliance.stop().await;
    assert_eq!(loaded(appliance.tpm()), 0);
}

#[tokio::test]
async fn objects_that_others_flush_cost_a_connection() {
    let struck = Struck::new().await;
    for what in ["-t", "-l"] {
        let begun = Instant::now();
        let _nothing = struck.appliance.tpm().tool(&["tpm2_flushcontext", what]);
        struck.all_sign().await;
        let device = struck.ready().await;
        let fault = device.last_fault.map(|fault| fault.reason).unwrap_or_default();
        let cost = Cost { restarts: device.starts - 1, fault };
        report(&cost, begun.elapsed());
        cost.was_a_connection();
    }
}

#[tokio::test]
async fn sessions_of_others_that_fill_a_tpm_are_a_clear_error_and_stop_no_signature() {
    let struck = Struck::new().await;
    assert!(fill_with_sessions(struck.relay()) > 0);
    struck.all_sign().await;
    assert_eq!(struck.device().await.starts, 1);
    // To make a key takes one more.
    let begun = Instant::now();
    let old = struck.replace_standby().await;
    let fault = eventually("the TPM is full", async || struck.device().await.last_fault).await;
    assert_eq!(fault.reason, "OUT_OF_RESOURCES");
    for word in ["TPM_RC_SESSION_MEMORY", "tpm2_flushcontext"] {
        assert!(fault.detail.contains(word), "{word} is not in: {}", fault.detail);
    }
    // The fresh worker has flushed them.
    struck.other_standby(&old).await;
    struck.all_sign().await;
    let device = struck.ready().await;
    report(&Cost { restarts: device.starts - 1, fault: fault.reason }, begun.elapsed());
}
