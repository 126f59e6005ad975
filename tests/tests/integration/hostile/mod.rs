//! Peers that mean harm, or act as if they did.

mod connections;
mod http;
mod http2;
mod lying_server;
mod lying_worker;
mod memory;
mod messages;
