//! Health over gRPC (grpc.health.v1), as readiness has it.

use std::{sync::Arc, time::Duration};

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{api::App, readiness};

/// How often readiness is looked at; it is known without asking a device.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What health says.
///
/// The server as a whole (the empty name) and custodians are served as long as it runs: an operator has
/// to get in while nothing can be signed. `SigningService` is while every issuer could sign, `JwksService`
/// while every issuer has published keys.
pub(super) struct Health {
    app: Arc<App>,
    reporter: HealthReporter,
    /// What it said last.
    shown: [bool; 4],
}

impl Health {
    /// Says how things stand.
    pub(super) async fn new(app: Arc<App>, reporter: HealthReporter) -> Self {
        let shown = look(&app);
        set(&reporter, shown).await;
        Self { app, reporter, shown }
    }

    /// Keeps it true until `stop`, from when on nothing is served.
    pub(super) async fn report(mut self, stop: CancellationToken) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                () = stop.cancelled() => break,
            }
            let now = look(&self.app);
            // Whoever watches is told of changes only.
            if std::mem::replace(&mut self.shown, now) != now {
                set(&self.reporter, now).await;
            }
        }
        set(&self.reporter, [false; 4]).await;
    }
}

fn look(app: &App) -> [bool; 4] {
    let issuers = || app.issuers.values().map(|(issuer, _)| issuer);
    let signing = issuers().all(|issuer| readiness::ready(issuer, &app.workers).is_ok());
    let jwks = issuers().all(|issuer| issuer.snapshot().is_some_and(|s| s.jwks.is_some()));
    [true, signing, jwks, true]
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
