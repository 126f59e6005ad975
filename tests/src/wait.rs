use std::time::{Duration, Instant};

/// How long anything may take that has to happen: far longer than it takes, because a loaded
/// machine is no reason to fail.
pub const PATIENCE: Duration = Duration::from_secs(30);

const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Looks until there is something to see, and returns it.
///
/// # Panics
/// After [`PATIENCE`], saying what did not happen.
pub async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, look).await
}

/// The same, with another patience.
///
/// # Panics
/// After `patience`, saying what did not happen.
pub(crate) async fn eventually_within<T>(
    patience: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let limit = Instant::now() + patience;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < limit, "it did not happen within {patience:?}: {what}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
