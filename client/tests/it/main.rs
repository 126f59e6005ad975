//! The client against an appliance's API served in this process, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod endpoints;
mod joining;
mod jwks;
mod observed;
mod server;
mod tls;
