//! What operators see: logs and metrics.

mod log;
pub mod metrics;

pub use log::init;
