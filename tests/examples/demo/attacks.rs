//! Four attacks. A demonstration in which one of them succeeds fails.

use mintwarden_tests::domain::{Answer, Domain, Form, Program};

use crate::{Failure, meant_for, order};

/// Claims of one's own choice, under the signature of a good token.
pub(crate) async fn forged(domain: &Domain, orders: &Program, token: &str) -> Result<(), Failure> {
    let other = domain.txn_token().await;
    let (signed, _) = token.rsplit_once('.').ok_or("no token")?;
    let (_, signature) = other.rsplit_once('.').ok_or("no token")?;
    let forged = format!("{signed}.{signature}");
    let answer = domain.call(domain.gateway(), orders, &forged, &order(100)).await;
    failed("a forged token", &answer, "SIGNATURE_INVALID")
}

/// A workload in the middle says another amount than the token.
pub(crate) async fn changed_amount(
    domain: &Domain,
    settlement: &Program,
    token: &str,
) -> Result<(), Failure> {
    let orders = domain.pki().client("orders");
    let answer = domain.call(&orders, settlement, token, &order(1_000_000)).await;
    failed("a changed amount in the body", &answer, "CONTRADICTS_TCTX")
}

/// A good token, at a workload of another trust domain.
pub(crate) async fn another_audience(domain: &Domain, token: &str) -> Result<(), Failure> {
    let other = domain
        .workload("other", &["gateway"], |config| {
            config["token"]["audience"] = "other.example".into();
        })
        .await;
    let answer = domain.call(domain.gateway(), &other, token, &order(100)).await;
    failed("a stolen token at another audience", &answer, "WRONG_AUDIENCE")
}

/// Two good tokens that do not belong together: Ada's is meant for one agent, another one comes with it.
pub(crate) async fn mismatched_actor(domain: &Domain) -> Result<(), Failure> {
    let agent_b = domain.idp.access_token(&domain.idp.claims("agent-b"));
    let form = Form::start(&meant_for(domain, "agent-a")).actor(&agent_b);
    let answer = domain.exchange(domain.gateway(), &form).await;
    failed("a mismatched actor", &answer, "ACTOR_MISMATCH")?;
    println!();
    Ok(())
}

fn failed(attack: &str, answer: &Answer, reason: &str) -> Result<(), Failure> {
    if answer.status.is_success() || answer.text("reason") != reason {
        return Err(format!("{attack}: {} {}, not {reason}", answer.status, answer.body).into());
    }
    let said = [answer.text("message"), answer.text("error_description")].concat();
    println!("   {attack:<36}{reason} ({}): {said}", answer.status.as_u16());
    Ok(())
}
