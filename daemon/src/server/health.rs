//! Health over gRPC (grpc.health.v1), as readiness has it.

use std::{sync::Arc, time::Duration};

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{api::App, readiness};

/// How often readiness is looked at; it is known without asking a device.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Keeps health true until `stop`, from when on nothing is served.
///
/// The server as a whole (the empty name) and custodians are served as long as it runs: an operator has
/// to get in while nothing can be signed. `SigningService` is while every issuer could sign, `JwksService`
/// while every issuer has published keys.
pub(super) async fn report(app: Arc<App>, health: HealthReporter, stop: CancellationToken) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shown = None;
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = stop.cancelled() => break,
        }
        let issuers = || app.issuers.values().map(|(issuer, _)| issuer);
        let signing = issuers().all(|issuer| readiness::ready(issuer, &app.workers).is_ok());
        let jwks = issuers().all(|issuer| issuer.snapshot().is_some_and(|s| s.jwks.is_some()));
        let now = [true, signing, jwks, true];
        // Whoever watches is told of changes only.
        if shown.replace(now) != Some(now) {
            set(&health, now).await;
        }
    }
    set(&health, [false; 4]).await;
}

async fn set(health: &HealthReporter, serving: [bool; 4]) {
    let services = [
        "",
        "mintwarden.v1.SigningService",
        "mintwarden.v1.JwksService",
        "mintwarden.v1.CustodianService",
    ];
    for (service, serving) in services.into_iter().zip(serving) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        health.set_service_status(service, status).await;
    }
}
