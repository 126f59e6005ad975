//! Fixtures for tests against a real appliance: nothing is mocked.
//!
//! ```no_run
//! use mintwarden_tests::{Appliance, ISSUER, claims};
//!
//! # async fn example() {
//! let mut appliance = Appliance::softhsm().start().await;
//! appliance.init(ISSUER).await;
//! let token = appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.expect("signed");
//! appliance.verifier(ISSUER).await.verify(&token).expect("verified");
//! appliance.stop().await;
//! # }
//! ```
//!
//! - [`Appliance`] is the `mintwarden` process with its children, on a throw-away [`Token`], with
//!   certificates of a throw-away [`Pki`]; [`Builder`] says what is configured.
//! - [`Verifier`] checks tokens with an independent library, from a published JWK Set.
//! - [`Reader`] is one that keeps the set that it has read, as verifiers in the field do.
//! - [`domain::Domain`] is what stands around an appliance: an IdP, and TTS and workloads as real processes.
//! - [`Container`] is an appliance in a container.
//! - [`faulty`] makes PKCS#11 devices misbehave on command, and a [`tpm::Relay`] TPMs, where the appliance was
//!   built [`faulty`](Builder::faulty).
//! - [`eventually`] waits for what has to happen; nothing here sleeps for a fixed time.
//!
//! A fixture that cannot do its part panics and says why: to a test that is the same as a failure.
//! When a test fails, the appliance's log is printed.
//!
//! The programs are taken from the target directory that the test itself was built into, so they
//! have to be built: `cargo build --bins` (`make test` does so).

#![allow(
    clippy::disallowed_methods,
    reason = "fixtures measure time, wait, and are told by the environment what to use"
)]

pub mod appliance;
pub mod channel;
pub mod claims;
pub mod container;
pub mod ctl;
pub mod disk;
pub mod doctor;
pub mod domain;
pub mod http2;
pub mod metrics;
pub mod pki;
pub mod process;
pub mod programs;
pub mod reader;
pub mod refusal;
pub mod token;
pub mod tpm;
pub mod verifier;
mod wait;

pub use appliance::{Appliance, Builder};
pub use container::Container;
pub use faulty_pkcs11 as faulty;
pub use pki::{Identity, Pki};
pub use process::{Process, Role};
pub use reader::Reader;
pub use token::{Object, Token};
pub use tpm::Tpm;
pub use verifier::{Verified, Verifier};
pub use wait::{PATIENCE, eventually};

/// The issuer that an [`Appliance`] has where its builder says nothing else.
pub const ISSUER: &str = "payments-tts";
/// The value of `iss` that [`ISSUER`] allows.
pub const ISS: &str = "https://tts.trust-domain.example";
/// The device that an [`Appliance`] has where its builder says nothing else.
pub const DEVICE: &str = "hsm-a";
/// The TPM that an [`Appliance`] made by [`Appliance::swtpm`] has.
pub const TPM: &str = "tpm-a";
/// The trust domain, which is also the audience of [`ISSUER`].
pub const TRUST_DOMAIN: &str = "trust-domain.example";
