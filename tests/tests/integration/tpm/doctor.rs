//! What `mintwarden doctor` says of a TPM.

use mintwarden_tests::{Appliance, ISSUER, TPM, claims};

#[tokio::test]
async fn the_doctor_tells_a_tpms_make_weakness_lockout_room_and_rate() {
    let mut appliance = Appliance::swtpm().start_initialised().await;
    let client = appliance.client();
    for number in 0..8 {
        client.issuer(ISSUER).sign(claims::trade(number)).await.unwrap();
    }
    for running in [true, false] {
        let examination = appliance.doctor(&[]).await;
        let text = &examination.text;
        assert_eq!(examination.code, Some(0), "{text}");
        let of = |check| examination.worst(check);
        let token = of("device.token");
        assert!(token.found.contains("IBM") && token.found.contains("revision 1."), "{text}");
        let firmware = of("device.firmware");
        assert_eq!(firmware.verdict, "warning", "{text}");
        assert!(firmware.found.contains("a TPM in software"), "{text}");
        for (check, word) in [
            ("device.lockout", "wrong authorisations counted"),
            ("device.sessions", "room for"),
            ("device.memory", "of this appliance's"),
            ("device.mechanism", "TPM2_Sign"),
            ("device.model", "used by nobody else"),
        ] {
            let finding = of(check);
            assert_eq!(finding.verdict, "ok", "{check}: {text}");
            assert!(finding.found.contains(word), "{check}: {text}");
        }
        let rates = examination.of("device.rate");
        assert_eq!(rates.len(), usize::from(running), "{text}");
        for rate in rates {
            assert_eq!((&*rate.subject, &*rate.verdict), (TPM, "ok"), "{text}");
            assert!(rate.found.contains("signatures a second"), "{text}");
        }
        if running {
            appliance.stop().await;
        }
    }
}

#[tokio::test]
async fn the_doctor_sees_a_lockout_that_others_provoke_before_it_comes() {
    let mut appliance = Appliance::swtpm().start_initialised().await;
    appliance.stop().await;
    // A key that is protected against guessing, and two guesses: libtpms takes three.
    let tpm = appliance.tpm();
    let context = appliance.file("foreign.ctx").display().to_string();
    let of_key = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|decrypt";
    let primary = ["tpm2_createprimary", "-C", "o", "-p", "right", "-a", of_key, "-c", &context];
    let _described = tpm.tool(&primary);
    for _ in 0..2 {
        let _nothing = tpm.tool(&["tpm2_flushcontext", "-t"]);
        tpm.try_tool(&["tpm2_create", "-Q", "-C", &context, "-P", "wrong"]).expect_err("a guess");
    }
    let examination = appliance.doctor(&[]).await;
    let lockout = examination.worst("device.lockout");
    assert_eq!(lockout.verdict, "warning", "{}", examination.text);
    assert!(lockout.found.starts_with("lockout is near"), "{}", lockout.found);
    assert!(lockout.remedy.contains("noDA"), "{}", lockout.remedy);
}
