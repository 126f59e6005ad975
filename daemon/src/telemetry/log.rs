//! Logs: JSON lines on standard error, `RUST_LOG` chooses how much. No token content, no secrets.

use tracing_subscriber::EnvFilter;

/// Starts logging for this process. A reader that stalls costs log lines, not signatures: the queue
/// is bounded and what does not fit is dropped. Keep the guard until the end.
pub fn init() -> tracing_appender::non_blocking::WorkerGuard {
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .with_writer(writer)
        .init();
    guard
}
