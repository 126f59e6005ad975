//! Peers that mean harm, or act as if they did.

mod connections;
mod http;
mod http2;
mod messages;
