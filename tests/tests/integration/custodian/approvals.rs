//! Acts that need two persons, by real certificates of several persons: end to end.

use std::fs;

use mintwarden_client::{
    Custodian,
    api::{KeyState, Proposal, ProposalState, RecordEntry, RevokeFallback},
};
use mintwarden_tests::{Appliance, Builder, ISSUER, eventually, pki::spiffe};
use serde_json::Value;
use toml::{Table, toml};

use super::{active, after, becomes, in_state, keyset, mature, of, quick, slow, standby};

/// With Ada, who has a second identity, Bob, who has two as well, and an auditor.
pub(crate) fn persons(builder: Builder, approvals: Table) -> Builder {
    builder
        .with_grant(custodian("ada", &["custodian/ada-laptop"]))
        .with_grant(custodian("bob", &["custodian/bob", "custodian/bob-laptop"]))
        .with_grant(toml! {
            role = "auditor"
            to = ["spiffe://trust-domain.example/auditor"]
        })
        .with(move |config| {
            config.insert("approvals".into(), approvals.into());
        })
}

fn custodian(person: &str, paths: &[&str]) -> Table {
    let mut grant = toml! { role = "custodian" };
    grant.insert("person".into(), person.into());
    let to: Vec<_> = paths.iter().map(|path| spiffe(path)).collect();
    grant.insert("to".into(), to.into());
    grant
}

/// What somebody can do, by the certificate of this path.
pub(crate) fn by(appliance: &Appliance, path: &str) -> Custodian {
    appliance.client_as(&appliance.pki().client(path)).custodian()
}

/// Everything in the record, oldest first.
async fn record(custodian: &Custodian) -> Vec<RecordEntry> {
    let mut entries: Vec<RecordEntry> = Vec::new();
    let mut before = 0;
    loop {
        let page = custodian.acts(None, before, 7).await.unwrap();
        entries.extend(page.entries);
        before = page.next_before;
        if before == 0 {
            entries.reverse();
            return entries;
        }
    }
}

/// The kinds of entries, without what the schedule did.
fn kinds(entries: &[RecordEntry]) -> Vec<&str> {
    let kinds = entries.iter().map(|entry| entry.kind.as_str());
    kinds.filter(|kind| *kind != "stepped").collect()
}

async fn proposed(
    answer: Result<mintwarden_client::api::ActResponse, mintwarden_client::Error>,
) -> Proposal {
    let proposal = answer.unwrap().proposal.expect("it has to wait for another person");
    assert_eq!(proposal.state(), ProposalState::Open);
    proposal
}

#[tokio::test]
async fn two_persons_revoke_a_key_and_the_record_tells_of_it() {
    let builder = Appliance::softhsm().with_issuer(quick());
    let appliance = persons(builder, toml! { revoke = 2 }).start_initialised().await;
    let successor = mature(&appliance).await;
    let before = keyset(&appliance).await;
    let kid = active(&before);

    let said = appliance.ctl(["keys", "revoke", &kid, "--reason", "found on a laptop"]).run().await;
    assert_eq!(said.code, Some(3), "{} {}", said.stdout, said.stderr);
    let open = appliance.custodian().proposals(None, false).await.unwrap();
    let [proposal] = &open[..] else { panic!("{open:?}") };
    let id = &*proposal.id;
    assert_eq!((proposal.needed, proposal.counted), (2, 1));
    for part in ["1 of 2 persons", &format!("proposals approve {id} --issuer {ISSUER}")] {
        assert!(said.stdout.contains(part), "{part:?} is not in: {}", said.stdout);
    }
    assert_eq!(of(&keyset(&appliance).await, &kid).state(), KeyState::Active, "nothing is done");
    let again = appliance.custodian().revoke(ISSUER, &kid, RevokeFallback::Unspecified, "").await;
    let again = again.unwrap_err();
    assert_eq!(again.reason(), "ALREADY_PROPOSED");
    assert!(again.to_string().contains(id), "{again}");

    for (path, reason) in [
        ("custodian/ada", "ALREADY_APPROVED"),
        ("custodian/ada-laptop", "ALREADY_APPROVED"),
        ("custodian/mallory", "NO_GRANT"),
        ("auditor", "NO_GRANT"),
        ("tts", "NO_GRANT"),
    ] {
        let refused = by(&appliance, path).approve(ISSUER, id, "").await.unwrap_err();
        assert_eq!(refused.reason(), reason, "{path}");
    }
    assert_eq!(of(&keyset(&appliance).await, &kid).state(), KeyState::Active);

    let bob = appliance.pki().client("custodian/bob-laptop");
    let approve = ["proposals", "approve", &id[..8], "--reason", "seen it", "--json"];
    let said = appliance.ctl(approve).identity(&bob).run().await.success();
    let done: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(done["proposal"]["state"], "carried-out");
    let now = keyset(&appliance).await;
    assert_eq!(active(&now), successor);
    assert!(matches!(of(&now, &kid).state(), KeyState::Compromised | KeyState::Destroyed));
    let closed = by(&appliance, "custodian/bob").approve(ISSUER, id, "").await.unwrap_err();
    assert_eq!(closed.reason(), "PROPOSAL_CLOSED");
    let unknown = by(&appliance, "custodian/bob").approve(ISSUER, &"0".repeat(32), "").await;
    assert_eq!(unknown.unwrap_err().reason(), "UNKNOWN_PROPOSAL");

    becomes(&appliance, &kid, KeyState::Destroyed).await;
    let record = record(&by(&appliance, "auditor")).await;
    let told = [
        "started", "acted", "proposed", "refused", "refused", "refused", "approved", "acted",
        "refused", "refused",
    ];
    assert_eq!(kinds(&record), told);
    for (entry, sequence) in record.iter().zip(1..) {
        assert_eq!(entry.sequence, sequence, "the record has a gap");
    }
    let acted = record.iter().rfind(|entry| entry.kind == "acted").unwrap();
    let persons: Vec<_> = acted.by.iter().map(|person| person.name.as_str()).collect();
    assert_eq!(persons, ["ada", "bob"]);
    assert_eq!(acted.by[1].identity, spiffe("custodian/bob-laptop"));
    assert_eq!((acted.keys[0].as_str(), acted.reason.as_str()), (&*kid, "found on a laptop"));
    assert_eq!((acted.proposal.as_str(), acted.issuer.as_str()), (id, ISSUER));
    let refused = record.iter().find(|entry| entry.kind == "refused").unwrap();
    assert_eq!((refused.what.as_str(), refused.outcome.as_str()), ("revoke", "ALREADY_PROPOSED"));
    let stepped: Vec<_> = record.iter().filter(|entry| entry.kind == "stepped").collect();
    assert!(stepped.iter().any(|e| e.what == "destroy" && e.keys == [kid.as_str()]), "{stepped:?}");
    // A TTS reads none of it.
    let tts = appliance.client().custodian();
    assert_eq!(tts.acts(None, 0, 0).await.unwrap_err().reason(), "NO_GRANT");
    assert_eq!(tts.proposals(None, true).await.unwrap_err().reason(), "NO_GRANT");
    let said = appliance.ctl(["acts", "list"]).run().await.success();
    assert!(said.contains("found on a laptop") && said.contains("ada, bob"), "{said}");
}

#[tokio::test]
async fn one_custodian_alone_can_only_suspend_propose_and_reject() {
    let approvals = toml! {
        init = 2
        recover = 2
        rotate = 2
        activate = 2
        activate_immature = 2
        resume = 2
        revoke = 2
        destroy = 2
    };
    let builder = Appliance::softhsm().with_issuer(slow());
    let appliance = persons(builder, approvals).start().await;
    let (ada, laptop) = (appliance.custodian(), by(&appliance, "custodian/ada-laptop"));
    let bob = by(&appliance, "custodian/bob");
    let init = proposed(ada.init(ISSUER, "first keys").await).await;
    assert_eq!(
        laptop.approve(ISSUER, &init.id, "").await.unwrap_err().reason(),
        "ALREADY_APPROVED"
    );
    assert!(keyset(&appliance).await.keys.is_empty());
    let made = after(bob.approve(ISSUER, &init.id, "agreed").await);
    let (kid, young) = (active(&made), standby(&made).kid.clone());

    let wait = RevokeFallback::Wait;
    for mallory in [&ada, &laptop] {
        let tried = [
            mallory.init(ISSUER, "").await,
            mallory.recover(ISSUER, "").await,
            mallory.danger_recover_immature(ISSUER, "").await,
            mallory.rotate(ISSUER, None, "").await,
            mallory.activate(ISSUER, &young, "").await,
            mallory.danger_activate_immature(ISSUER, &young, "").await,
            mallory.revoke(ISSUER, &kid, wait, "").await,
            mallory.revoke(ISSUER, &kid, RevokeFallback::ActivateImmature, "").await,
            mallory.resume(ISSUER, &kid, "").await,
            mallory.destroy(ISSUER, &kid, "").await,
        ];
        for answer in tried {
            let Ok(answer) = answer else { continue };
            let id = answer.proposal.expect("it is not done").id;
            for identity in [&ada, &laptop] {
                let refused = identity.approve(ISSUER, &id, "").await.unwrap_err();
                assert_eq!(refused.reason(), "ALREADY_APPROVED");
            }
        }
        assert_eq!(keyset(&appliance).await.revision, made.revision, "a key has changed");
    }
    let open = ada.proposals(Some(ISSUER), false).await.unwrap();
    assert_eq!(open.len(), 4, "{open:?}");
    let five = ada.revoke(ISSUER, &young, wait, "").await.unwrap_err();
    assert_eq!(five.reason(), "TOO_MANY_PROPOSALS");
    // What is left to her: to refuse others what they propose, and the brake.
    for proposal in &open {
        let ended = ada.reject(ISSUER, &proposal.id, "a test").await.unwrap().proposal.unwrap();
        assert_eq!(ended.state(), ProposalState::Rejected);
        assert_eq!(
            bob.approve(ISSUER, &proposal.id, "").await.unwrap_err().reason(),
            "PROPOSAL_CLOSED"
        );
    }
    let his = proposed(bob.rotate(ISSUER, None, "").await).await;
    ada.reject(ISSUER, &his.id, "no").await.unwrap();
    let stopped = after(ada.suspend(ISSUER, &kid, "at once").await);
    assert_eq!(of(&stopped, &kid).state(), KeyState::Suspended);
    let resume = proposed(ada.resume(ISSUER, &kid, "").await).await;
    assert_eq!(of(&keyset(&appliance).await, &kid).state(), KeyState::Suspended);
    let resumed = after(bob.approve(ISSUER, &resume.id, "").await);
    assert_eq!(in_state(&resumed, KeyState::Active).len(), 1);
}

#[tokio::test]
async fn who_is_taken_from_the_configuration_counts_no_more() {
    let builder =
        Appliance::softhsm().with_issuer(slow()).with_grant(custodian("cleo", &["custodian/cleo"]));
    let mut appliance = persons(builder, toml! { rotate = 2 }).start_initialised().await;
    let before = keyset(&appliance).await;
    let id = proposed(appliance.custodian().rotate(ISSUER, None, "").await).await.id;
    appliance.stop().await;
    let mut config: Table = fs::read_to_string(appliance.config()).unwrap().parse().unwrap();
    let grants = config["grant"].as_array_mut().unwrap();
    grants.retain(|grant| grant.get("person").and_then(toml::Value::as_str) != Some("ada"));
    fs::write(appliance.config(), config.to_string()).unwrap();
    appliance.start().await;

    let (bob, cleo) = (by(&appliance, "custodian/bob"), by(&appliance, "custodian/cleo"));
    let waits = bob.approve(ISSUER, &id, "").await.unwrap().proposal.unwrap();
    assert_eq!((waits.state(), waits.counted, waits.needed), (ProposalState::Open, 1, 2));
    let counts: Vec<_> = waits.approvals.iter().map(|approval| approval.counts).collect();
    assert_eq!(counts, [false, true], "Ada's word is kept, and does not count");
    let done = cleo.approve(ISSUER, &id, "").await.unwrap();
    assert_eq!(done.proposal.unwrap().state(), ProposalState::CarriedOut);
    assert!(done.keyset.unwrap().revision > before.revision);
    // Each start is in the record, by its configuration.
    let record = record(&by(&appliance, "auditor")).await;
    let starts: Vec<_> = record.iter().filter(|entry| entry.kind == "started").collect();
    let [first, second] = starts[..] else { panic!("{starts:?}") };
    assert_ne!(first.config, second.config);
    let digest = aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA256,
        &fs::read(appliance.config()).unwrap(),
    );
    let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(second.config, digest);
    let acted = record.iter().rfind(|entry| entry.kind == "acted").unwrap();
    let persons: Vec<_> = acted.by.iter().map(|person| person.name.as_str()).collect();
    assert_eq!((persons, acted.config.as_str()), (vec!["bob", "cleo"], &*digest));
}

#[tokio::test]
async fn a_proposal_that_nobody_approves_expires() {
    let builder = Appliance::softhsm().with_issuer(slow());
    let approvals = toml! { rotate = 2
    expire = "1s" };
    let appliance = persons(builder, approvals).start_initialised().await;
    let id = proposed(appliance.custodian().rotate(ISSUER, None, "").await).await.id;
    let bob = by(&appliance, "custodian/bob");
    let ended = eventually("the proposal ends", async || {
        let proposal = bob.proposal(ISSUER, &id).await.unwrap();
        (proposal.state() != ProposalState::Open).then_some(proposal)
    })
    .await;
    assert_eq!(ended.state(), ProposalState::Expired);
    assert!(ended.closed_at.is_some() && ended.ending == "expired");
    let before = keyset(&appliance).await.revision;
    assert_eq!(bob.approve(ISSUER, &id, "").await.unwrap_err().reason(), "PROPOSAL_EXPIRED");
    assert_eq!(keyset(&appliance).await.revision, before);
}
