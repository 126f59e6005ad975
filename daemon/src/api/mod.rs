//! Thin edges: requests to domain calls, domain errors to statuses. Nothing is decided here.

mod call;
mod count;
mod custodian;
mod errors;
mod gate;
mod http;
mod intake;
mod jwks;
mod ops;
mod signing;
mod status;

use std::{collections::BTreeMap, sync::Arc};

use axum::{Router, middleware};
use mintwarden_proto::{FILE_DESCRIPTOR_SET, v1};
use mintwarden_worker::IssuerName;
use tokio::task::JoinHandle;
use tonic::service::Routes;

use self::errors::ApiError;
use crate::{
    access::{Access, Denied},
    admission::Memory,
    clock::UnixTime,
    config::{Limits, fixed::MAX_MESSAGE_BYTES},
    keyset::{live::LiveIssuer, steward::Steward},
    listen::LiveCertificates,
    record::{Book, Entry},
    signer::Signer,
    store::Redb,
    telemetry::metrics::Metrics,
    workers::Workers,
};

pub use call::Peer;
pub use count::count;
pub use gate::gate;
pub use http::router as http_router;
pub use ops::router as ops_router;

/// What the edges reach.
#[derive(Debug)]
pub struct App {
    /// Grants.
    pub access: Arc<Access>,
    /// Makes entries for the record.
    pub book: Book,
    /// Where the record is.
    pub store: Redb,
    /// Issuers by name.
    pub issuers: BTreeMap<String, (Arc<LiveIssuer>, Steward)>,
    /// The hot path.
    pub signer: Signer,
    /// What callers may occupy.
    pub memory: Memory,
    /// Devices.
    pub workers: Arc<Workers>,
    /// The listeners' certificates, where they have some.
    pub certificates: Option<LiveCertificates>,
    /// Counted where it happens.
    pub metrics: Arc<Metrics>,
    /// Deadlines.
    pub limits: Limits,
    /// When the server started.
    pub started_at: UnixTime,
}

impl App {
    fn issuer(&self, name: &IssuerName) -> Result<&Arc<LiveIssuer>, ApiError> {
        self.steward(name).map(|(issuer, _)| issuer)
    }

    /// Adds an entry to the record, whether or not that is waited for.
    fn note(&self, entry: Entry) -> JoinHandle<()> {
        let store = self.store.clone();
        tokio::spawn(async move {
            if let Err(error) = store.append(vec![entry]).await {
                tracing::error!(%error, "an entry is missing in the record");
            }
        })
    }

    fn steward(&self, name: &IssuerName) -> Result<&(Arc<LiveIssuer>, Steward), ApiError> {
        self.issuers.get(name.as_str()).ok_or_else(|| Denied::UnknownIssuer.into())
    }
}

/// Bound on one message to health and reflection, bytes: names.
const MAX_NAME_MESSAGE: usize = 4 * 1024;

/// All gRPC services behind their gate: ours, health and reflection.
///
/// # Errors
/// If the descriptor set does not decode, which the build made.
pub fn grpc_routes(
    app: &Arc<App>,
    health: tonic_health::pb::health_server::HealthServer<
        impl tonic_health::pb::health_server::Health,
    >,
) -> Result<Router, tonic_reflection::server::Error> {
    let signing =
        v1::signing_service_server::SigningServiceServer::new(signing::Signing(Arc::clone(app)))
            .max_decoding_message_size(MAX_MESSAGE_BYTES);
    let jwks = v1::jwks_service_server::JwksServiceServer::new(jwks::JwksEdge(Arc::clone(app)));
    let custodian = v1::custodian_service_server::CustodianServiceServer::new(
        custodian::Custodian(Arc::clone(app)),
    );
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?
        .max_decoding_message_size(MAX_NAME_MESSAGE);
    let routes = Routes::new(signing)
        .add_service(jwks)
        .add_service(custodian)
        .add_service(health.max_decoding_message_size(MAX_NAME_MESSAGE))
        .add_service(reflection)
        .prepare()
        .into_axum_router();
    Ok(routes.layer(middleware::from_fn_with_state(Arc::clone(app), gate)))
}
