//! What becomes of a proposal while it waits: its key changes, the server is killed.

use mintwarden_client::api::{KeyState, ProposalState, RevokeFallback};
use mintwarden_tests::{Appliance, ISSUER, Role, eventually};
use toml::toml;

use super::{
    active,
    approvals::{by, persons},
    keyset, of, quick, slow, standby,
};

#[tokio::test]
async fn a_change_of_the_key_voids_a_proposal_and_a_rotation_elsewhere_does_not() {
    let mut often = quick();
    often.extend(toml! {
        name = "other-tts"
        rotate_every = "3s"
        max_token_lifetime = "1s"
        destroy_after = "1s"
    });
    let mut mine = slow();
    mine.insert("name".into(), ISSUER.into());
    let builder = Appliance::softhsm().with_issuer(mine).with_issuer(often);
    let appliance = persons(
        builder,
        toml! { revoke = 2
        activate_immature = 2 },
    )
    .start_initialised()
    .await;
    let ada = appliance.custodian();
    let keys = keyset(&appliance).await;
    let (kid, next) = (active(&keys), standby(&keys).kid.clone());
    let wait = RevokeFallback::Wait;
    let revocation = ada.revoke(ISSUER, &kid, wait, "").await.unwrap().proposal.unwrap().id;
    let answer = ada.danger_activate_immature(ISSUER, &next, "").await.unwrap();
    let id = answer.proposal.expect("it waits").id;
    let other = async || {
        let keysets = ada.list_keys(Some("other-tts")).await.unwrap();
        let keys = keysets.into_iter().flat_map(|keyset| keyset.keys);
        keys.filter(|key| key.state() == KeyState::Active).map(|key| key.kid).collect::<Vec<_>>()
    };
    let before = other().await;
    eventually("the other issuer's key is replaced", async || {
        (other().await != before).then_some(())
    })
    .await;
    let bob = by(&appliance, "custodian/bob");
    assert_eq!(bob.proposal(ISSUER, &id).await.unwrap().state(), ProposalState::Open);
    ada.suspend(ISSUER, &next, "").await.unwrap();
    let void = bob.proposal(ISSUER, &id).await.unwrap();
    assert_eq!(void.state(), ProposalState::Void);
    assert!(void.ending.contains("the key was pre-active and is suspended"), "{}", void.ending);
    assert_eq!(bob.approve(ISSUER, &id, "").await.unwrap_err().reason(), "PROPOSAL_VOID");
    assert_eq!(of(&keyset(&appliance).await, &next).state(), KeyState::Suspended);
    // A key that is to be revoked is suspended first by whoever is careful.
    ada.suspend(ISSUER, &kid, "").await.unwrap();
    bob.approve(ISSUER, &revocation, "").await.unwrap();
    assert!(!of(&keyset(&appliance).await, &kid).published);
}

#[tokio::test]
async fn i8_a_killed_server_forgets_no_proposal_and_does_no_act_twice() {
    let builder = Appliance::softhsm().with_issuer(slow());
    let approvals = toml! { revoke = 2
    resume = 2 };
    let mut appliance = persons(builder, approvals).start_initialised().await;
    let wait = RevokeFallback::Wait;
    for round in 0..3 {
        let kid = eventually("a key signs", async || {
            let now = keyset(&appliance).await;
            let mut active = now.keys.into_iter().filter(|key| key.state() == KeyState::Active);
            active.next().map(|key| key.kid)
        })
        .await;
        let answer = appliance.custodian().revoke(ISSUER, &kid, wait, "").await.unwrap();
        let id = answer.proposal.expect("it waits").id;
        appliance.kill_server().await;
        let open = appliance.custodian().proposal(ISSUER, &id).await.unwrap();
        assert_eq!((open.state(), open.counted), (ProposalState::Open, 1), "round {round}");
        // Killed while the approval is on its way, or has just been stored.
        let (bob, server) =
            (by(&appliance, "custodian/bob"), appliance.until_process(Role::Server).await);
        let approving = {
            let (id, bob) = (id.clone(), bob.clone());
            tokio::spawn(async move { bob.approve(ISSUER, &id, "").await })
        };
        match round {
            0 => drop(approving.await.unwrap().unwrap()),
            1 => tokio::task::yield_now().await,
            _ => {
                eventually("the approval is seen, or not", async || {
                    let seen = bob.proposal(ISSUER, &id).await.ok()?;
                    (seen.state() != ProposalState::Open).then_some(())
                })
                .await;
            }
        }
        assert!(server.runs());
        appliance.kill_server().await;
        let bob = by(&appliance, "custodian/bob");
        let now = bob.proposal(ISSUER, &id).await.unwrap();
        let revoked = |state| matches!(state, KeyState::Compromised | KeyState::Destroyed);
        let state = of(&keyset(&appliance).await, &kid).state();
        match now.state() {
            ProposalState::CarriedOut => assert!(revoked(state), "{state:?}"),
            ProposalState::Open => {
                assert_eq!(state, KeyState::Active, "half of it");
                bob.approve(ISSUER, &id, "").await.unwrap();
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(bob.approve(ISSUER, &id, "").await.unwrap_err().reason(), "PROPOSAL_CLOSED");
        let acted = bob.acts(Some(ISSUER), 0, 200).await.unwrap().entries;
        let acted = acted.iter().filter(|entry| entry.kind == "acted" && entry.proposal == id);
        assert_eq!(acted.count(), 1, "round {round}");
        // Without a mature standby nothing signs: a young one is let sign for the next round.
        let young = eventually("there is a standby", async || {
            let now = keyset(&appliance).await;
            let mut standbys = now.keys.into_iter().filter(|key| key.published && !key.mature);
            standbys.find(|key| key.state() == KeyState::PreActive).map(|key| key.kid)
        })
        .await;
        appliance.custodian().danger_activate_immature(ISSUER, &young, "").await.unwrap();
    }
}
