//! Devices and their workers.

use std::sync::Arc;

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::{Labels, counters, gauges};
use crate::workers::{State, Worker, Workers, cause};

#[derive(Debug)]
pub(super) struct Devices {
    pub(super) workers: Arc<Workers>,
}

impl Collector for Devices {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let workers: Vec<_> = self.workers.iter().map(|worker| (worker, worker.state())).collect();
        let label = |worker: &Worker| -> Labels { vec![("device", worker.device.clone())] };
        let states = workers.iter().flat_map(|(worker, state)| {
            states(state).map(|(state, cause, now)| {
                let more = [("state", state.to_owned()), ("cause", cause.to_owned())];
                (label(worker).into_iter().chain(more).collect(), i64::from(now))
            })
        });
        gauges(
            &mut encoder,
            "device_state",
            "1 for the state that a device is in, with the cause where it is not usable; 0 for all others",
            states.collect::<Vec<(Labels, i64)>>(),
        )?;
        let sessions = |state: &State| match state {
            State::Ready(ready) => i64::from(ready.sessions),
            _ => 0,
        };
        gauges(
            &mut encoder,
            "device_sessions",
            "Sessions that sign in parallel",
            workers.iter().map(|(worker, state)| (label(worker), sessions(state))),
        )?;
        gauges(
            &mut encoder,
            "device_open_requests",
            "Requests, batches among them, that were handed to a device's worker and are not answered",
            workers.iter().map(|(worker, state)| {
                let open = if let State::Ready(ready) = state { ready.open_requests() } else { 0 };
                (label(worker), u64::try_from(open).unwrap_or(u64::MAX))
            }),
        )?;
        let rate = |worker: &Worker| worker.signatures_per_second().unwrap_or_default();
        gauges(
            &mut encoder,
            "device_rate",
            "Signatures a second that a device gives with all its sessions, measured with those that it gave; 0 before the first one",
            workers.iter().map(|(worker, _)| (label(worker), rate(worker))),
        )?;
        counters(
            &mut encoder,
            "worker_starts",
            "Worker processes of a device that this server has met: the first one, and restarts",
            workers.iter().map(|(worker, _)| (label(worker), worker.starts())),
        )?;
        let faults = workers.iter().flat_map(|(worker, _)| {
            let of = worker.faults().into_iter();
            of.map(|(cause, count)| {
                let cause = [("cause", cause.to_owned())];
                (label(worker).into_iter().chain(cause).collect::<Labels>(), count)
            })
        });
        counters(
            &mut encoder,
            "device_faults",
            "Faults that cost a worker, by cause",
            faults.collect::<Vec<_>>(),
        )
    }
}

/// Every state, the cause of the one that it is, and whether it is.
fn states(now: &State) -> [(&'static str, &'static str, bool); 4] {
    let (state, cause) = match now {
        State::Starting => ("starting", ""),
        State::Ready(_) => ("ready", ""),
        State::Down(reason) => ("down", cause(&reason.reason)),
        State::Parked(reason) => ("parked", cause(&reason.reason)),
        State::Closed => ("", ""),
    };
    ["starting", "ready", "down", "parked"]
        .map(|known| if known == state { (known, cause, true) } else { (known, "", false) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workers::Reason;

    #[test]
    fn one_state_is_on_and_its_cause_is_of_a_closed_set() {
        let down = |reason: &str| State::Down(Reason::new(reason, ""));
        for (said, shown) in
            [("TOKEN_ABSENT", "TOKEN_ABSENT"), ("WORKER_LOST", "WORKER_LOST"), ("x\"y", "OTHER")]
        {
            let states = states(&down(said));
            assert_eq!(states.iter().filter(|(_, _, now)| *now).count(), 1);
            assert!(states.contains(&("down", shown, true)), "{states:?}");
        }
        assert!(states(&State::Starting).contains(&("starting", "", true)));
    }
}
