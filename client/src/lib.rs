//! The client library of the Mintwarden signing appliance.
//!
//! A Transaction Token Service hands over claims and gets Txn-Tokens back:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use mintwarden_client::{Client, Identity, TrustAnchors, TxnClaims};
//!
//! # async fn example() -> Result<(), mintwarden_client::Error> {
//! let client = Client::builder()
//!     .endpoint("https://mintwarden.trust-domain.example:7443")
//!     .identity(Identity::from_files("tts.crt", "tts.key"))
//!     .ca(TrustAnchors::from_file("ca.crt"))
//!     .connect()
//!     .await?;
//! let issuer = client.issuer("payments-tts");
//! let token = issuer
//!     .sign(
//!         TxnClaims::new(Duration::from_secs(60))
//!             .audience("trust-domain.example")
//!             .txn("97053963-771d-49cc-a4e3-20aad399c312")
//!             .subject("d084sdrt234fsaw34tr23t")
//!             .scope("trade.stocks")
//!             .requesting_workload("spiffe://trust-domain.example/apigateway"),
//!     )
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! Concurrent [`Issuer::sign`] calls join into batches by themselves; payloads that are at hand
//! together can go out together with [`Issuer::sign_batch`]. Everything is bounded: in time by the
//! deadline of each call, in number by what may wait ([`Error::Overloaded`]).
//!
//! # Several appliances
//!
//! With more than one [`Builder::endpoint`] calls are spread over those that can be reached. What fails
//! at one is tried at another, within the deadline of the call and the client's
//! [retry budget](Builder::retry_budget); signing is safe to repeat. A server that starts again is
//! found again without a lost call where the deadline allows. An endpoint that is in trouble for one issuer
//! goes on to serve others. [`observe`] tells what happens.
//!
//! # Errors
//!
//! [`Error`] can be matched on; [`Error::reason`] is stable, and [`Error::claim`] and [`Error::rule`]
//! name what a profile refuses.
//!
//! The feature `verify` adds [`verify`]: what a workload does with the tokens that it gets. By default it is off, and
//! the library has no HTTP client.
//!
//! Plain answers of the appliance are the API's own messages, re-exported as [`api`].

mod address;
mod builder;
mod call;
mod claims;
mod client;
mod clock;
mod connect;
mod custodian;
mod endpoint;
mod error;
mod http2;
mod issuer;
mod join;
pub mod observe;
mod pem;
mod pool;
mod status;
mod tls;
mod token;
#[cfg(feature = "verify")]
pub mod verify;

pub use builder::Builder;
pub use bytes::Bytes;
pub use claims::TxnClaims;
pub use client::Client;
pub use custodian::Custodian;
pub use endpoint::Endpoint;
pub use error::{Code, ConfigError, Error, Refusal, TransportError};
pub use issuer::{Batch, Issuer};
/// The messages of the public API, package `mintwarden.v1`.
pub use mintwarden_proto::v1 as api;
pub use pem::{Identity, TrustAnchors};
pub use token::Token;
