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
//! Plain answers of the appliance are the API's own messages, re-exported as [`api`].

mod builder;
mod claims;
mod client;
mod clock;
mod connect;
mod custodian;
mod endpoint;
mod error;
mod issuer;
mod join;
mod pem;
mod retry;
mod status;
mod tls;
mod token;

pub use builder::Builder;
pub use bytes::Bytes;
pub use claims::TxnClaims;
pub use client::Client;
pub use custodian::Custodian;
pub use error::{Code, ConfigError, Error, Refusal, TransportError};
pub use issuer::{Batch, Issuer};
/// The messages of the public API, package `mintwarden.v1`.
pub use mintwarden_proto::v1 as api;
pub use pem::{Identity, TrustAnchors};
pub use token::Token;
