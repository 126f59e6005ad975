//! I8: a restart, or fifty, makes no extra published key.

use mintwarden_tests::{Appliance, ISSUER, claims};

#[tokio::test]
async fn load_i8_fifty_restarts_of_every_kind_leave_the_same_keys() {
    let mut appliance = Appliance::softhsm().start_initialised().await;
    let kids = appliance.kids(ISSUER).await;
    let published = appliance.verifier(ISSUER).await.kids();
    assert_eq!((kids.len(), published.len()), (2, 2));
    for restart in 0..50 {
        match restart % 4 {
            0 => {
                appliance.stop().await;
                appliance.start().await;
            }
            1 => {
                appliance.kill_launcher().await;
                appliance.start().await;
            }
            2 => appliance.kill_server().await,
            _ => appliance.kill_worker().await,
        }
        let token = appliance.client().issuer(ISSUER).sign(claims::trade(restart)).await.unwrap();
        let verifier = appliance.verifier(ISSUER).await;
        assert_eq!(verifier.verify(&token).unwrap().kid, kids[0], "restart {restart}");
        assert_eq!(verifier.kids(), published, "restart {restart}");
        assert_eq!(appliance.kids(ISSUER).await, kids, "restart {restart}");
    }
    // Leaves no process behind, or fails.
    appliance.stop().await;
}
