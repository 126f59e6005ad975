//! Calls into the vendor library that are under way, so that one that does not come back is noticed.
//!
//! A hung call cannot be taken back: its thread is lost, and with it whatever the library holds. So
//! the worker ends itself when one runs past the device's `device_call_timeout`, whatever its callers'
//! deadlines are; and until then it tells the server, which can turn to another device.

use std::{
    cell::OnceCell,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::clock;

/// When the call of one thread began, in milliseconds since [`origin`] plus one; 0: none is under way.
type Began = Arc<AtomicU64>;

static THREADS: Mutex<Vec<Began>> = Mutex::new(Vec::new());

/// Until when no call counts as hung, in milliseconds since [`origin`].
static EXCUSED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static OWN: OnceCell<Began> = const { OnceCell::new() };
}

/// Makes one call into the vendor library, under watch.
///
/// One call, not a loop of them: the limit is on each.
pub fn call<T>(call: impl FnOnce() -> T) -> T {
    struct Done(Began);
    impl Drop for Done {
        fn drop(&mut self) {
            self.0.store(0, Ordering::Release);
        }
    }
    let own = OWN.with(|own| Arc::clone(own.get_or_init(register)));
    // A call within a call is part of it.
    if own.load(Ordering::Relaxed) != 0 {
        return call();
    }
    own.store(now() + 1, Ordering::Release);
    let _done = Done(own);
    call()
}

/// Makes one call that may take `extra` longer than others before it counts as hung.
///
/// Until it comes back the calls of other threads have the same patience: many devices do one thing at
/// a time, and keep whoever signs waiting while they make a key. One such call at a time.
pub fn call_with_patience<T>(extra: Duration, call: impl FnOnce() -> T) -> T {
    struct Back;
    impl Drop for Back {
        fn drop(&mut self) {
            EXCUSED.store(now(), Ordering::Release);
        }
    }
    if extra.is_zero() {
        return self::call(call);
    }
    self::call(|| {
        let extra = u64::try_from(extra.as_millis()).unwrap_or(u64::MAX / 2);
        EXCUSED.store(now() + extra, Ordering::Release);
        let _back = Back;
        call()
    })
}

/// How long the longest of the calls under way has been running, patience or not; zero where there is none. A
/// device that makes a key signs nothing meanwhile, and batches can turn to another one.
pub(crate) fn longest() -> Duration {
    longest_from(0, now())
}

/// The same, without the time that [`call_with_patience`] excuses: what a hung call is known by.
pub(crate) fn longest_unexcused() -> Duration {
    longest_from(EXCUSED.load(Ordering::Acquire), now())
}

/// Counted from `from` on, in milliseconds since [`origin`].
fn longest_from(from: u64, now: u64) -> Duration {
    let threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    let running = threads.iter().filter_map(|began| began.load(Ordering::Acquire).checked_sub(1));
    let oldest = running.min();
    drop(threads);
    Duration::from_millis(oldest.map_or(0, |began| now.saturating_sub(began.max(from))))
}

fn register() -> Began {
    let began = Began::default();
    THREADS.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&began));
    began
}

fn now() -> u64 {
    let since = clock::monotonic().saturating_duration_since(origin());
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX - 1)
}

fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(clock::monotonic)
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    // One test: what is watched is the process's, and calls of other tests would be seen too.
    #[test]
    fn the_longest_call_under_way_is_seen_from_outside() {
        assert_eq!(longest(), Duration::ZERO);
        assert_eq!(call(|| 7), 7);
        assert_eq!(longest(), Duration::ZERO, "it came back");
        let patient = call_with_patience(Duration::from_secs(3600), || {
            let begun = now();
            while now() < begun + 20 {
                thread::yield_now();
            }
            (longest() >= Duration::from_millis(20), longest_unexcused())
        });
        assert_eq!(patient, (true, Duration::ZERO), "told to whoever can turn elsewhere; no hang");
        assert_eq!(longest(), Duration::ZERO, "it came back");
        let (release, released) = mpsc::channel::<()>();
        let hung = thread::spawn(move || call(|| call(|| released.recv())));
        while longest() < Duration::from_millis(20) {
            call(thread::yield_now); // A short call beside it changes nothing.
        }
        // While a device makes a key, whoever waits for it meanwhile does not hang.
        call_with_patience(Duration::from_secs(3600), || {
            let waited = longest();
            while longest() < waited + Duration::from_millis(20) {
                thread::yield_now();
            }
            assert_eq!(longest_unexcused(), Duration::ZERO, "the device is at work");
        });
        while longest_unexcused() < Duration::from_millis(20) {
            thread::yield_now(); // From then on it does again, and counts from there.
        }
        assert!(longest() > longest_unexcused());
        drop(release);
        let _disconnected = hung.join().expect("it comes back");
        assert_eq!((longest(), longest_unexcused()), (Duration::ZERO, Duration::ZERO));
    }
}
