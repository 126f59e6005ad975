//! Typed descriptions of signing devices.
//!
//! - [`device`]: a `[[device]]` table as an operator writes it, and the checked form that travels to
//!   the worker;
//! - [`model`]: data about makes of device, kept as TOML files in `models/`;
//! - [`pin`]: where a PIN is read from, and the PIN itself;
//! - [`quirks`]: in what a PKCS#11 module differs from the usual;
//! - [`name`]: the names of devices and issuers;
//! - [`provision`]: throw-away PKCS#11 tokens for development, tests and images.

pub mod device;
pub mod model;
pub mod name;
pub mod pin;
pub mod provision;
pub mod quirks;
