use std::collections::VecDeque;

use bytes::Bytes;
use tokio::{sync::oneshot, time::Instant};

use super::{Failure, Outcome};
use crate::Error;

/// The API's bound on a batch, items.
const MAX_BATCH_ITEMS: usize = 1024;
/// The API's bound on a batch is 4 MiB of claims; this leaves room for framing.
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024 - 64 * 1024;

/// Bounds on what waits: beyond them a call fails at once (I9).
const MAX_WAITING: usize = 16 * 1024;
const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;

/// Below this many items another batch in flight costs more than it gains; above it, several keep
/// the device busy while answers and new calls travel.
const WORTH_A_BATCH: usize = 32;

/// A call that waits to be sent.
pub(super) struct Waiting {
    pub(super) claims: Bytes,
    pub(super) deadline: Instant,
    pub(super) answer: oneshot::Sender<Outcome>,
}

/// What waits, and how many batches are in flight. Knows no I/O and no tasks.
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    max_in_flight: usize,
    /// Batches in flight, drivers that start included.
    in_flight: usize,
    /// Drivers that are about to take their share.
    starting: usize,
}

impl Queue {
    pub(super) fn new(max_in_flight: usize) -> Self {
        Self { waiting: VecDeque::new(), bytes: 0, max_in_flight, in_flight: 0, starting: 0 }
    }

    /// Counts a call that goes out alone, if nothing else is in flight.
    pub(super) fn start_alone(&mut self) -> bool {
        let idle = self.in_flight == 0 && self.waiting.is_empty();
        self.in_flight += usize::from(idle);
        idle
    }

    /// Counts one more driver, if what waits is worth it. The caller has to run it.
    pub(super) fn start_driver(&mut self) -> bool {
        let worth = self.in_flight < self.max_in_flight
            && self.waiting.len() > self.starting * WORTH_A_BATCH;
        self.in_flight += usize::from(worth);
        self.starting += usize::from(worth);
        worth
    }

    pub(super) fn push(&mut self, waiting: Waiting) -> Result<(), Error> {
        let bytes = self.bytes.saturating_add(waiting.claims.len());
        let full = self.waiting.len() >= MAX_WAITING
            || (bytes > MAX_WAITING_BYTES && !self.waiting.is_empty());
        if full {
            return Err(Error::Overloaded { waiting: self.waiting.len() });
        }
        self.bytes = bytes;
        self.waiting.push_back(waiting);
        Ok(())
    }

    /// The share of a driver that was counted as starting. If nothing is left to send, the batch
    /// is empty and the driver is not counted any more.
    pub(super) fn take(&mut self, now: Instant) -> Vec<Waiting> {
        let share = self.waiting.len().div_ceil(self.starting.max(1));
        let share = share.clamp(WORTH_A_BATCH, MAX_BATCH_ITEMS);
        self.starting -= 1;
        let mut batch = Vec::with_capacity(share.min(self.waiting.len()));
        let mut bytes = 0;
        while batch.len() < share
            && let Some(next) = self.waiting.front()
        {
            let length = next.claims.len();
            let wanted = !next.answer.is_closed();
            // An item beyond the bound goes alone, so that its refusal is only its own.
            if wanted && bytes + length > MAX_BATCH_BYTES && !batch.is_empty() {
                break;
            }
            let Some(next) = self.waiting.pop_front() else { break };
            self.bytes -= length;
            if wanted && next.deadline <= now {
                // Its caller will not wait for this answer much longer either.
                let _ = next.answer.send(Err(Failure::Batch(Error::DeadlineExceeded)));
            } else if wanted {
                bytes += length;
                batch.push(next);
            }
        }
        self.in_flight -= usize::from(batch.is_empty());
        batch
    }

    /// A driver's batch came back; it takes again.
    pub(super) fn restart(&mut self) {
        self.starting += 1;
    }

    /// The call that went out alone ended.
    pub(super) fn release(&mut self) {
        self.in_flight -= 1;
    }

    /// A driver ended before its time, while it was starting.
    pub(super) fn abandon_start(&mut self) {
        self.starting -= 1;
        self.abandon();
    }

    /// A driver ended before its time. If it was the last one, nobody would serve those who wait:
    /// dropping their channels tells them.
    pub(super) fn abandon(&mut self) {
        self.in_flight -= 1;
        if self.in_flight == 0 {
            self.waiting.clear();
            self.bytes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;

    type Answer = oneshot::Receiver<Outcome>;

    fn waiting(length: usize, within: Duration) -> (Waiting, Answer) {
        let (answer, receiver) = oneshot::channel();
        let claims = Bytes::from(vec![b' '; length]);
        (Waiting { claims, deadline: clock::deadline(within), answer }, receiver)
    }

    fn push(queue: &mut Queue, count: usize, length: usize) -> Vec<Answer> {
        (0..count)
            .map(|_| {
                let (waiting, answer) = waiting(length, Duration::from_secs(9));
                queue.push(waiting).unwrap();
                answer
            })
            .collect()
    }

    #[test]
    fn an_idle_queue_lets_one_out_alone() {
        let mut queue = Queue::new(4);
        assert!(queue.start_alone());
        assert!(!queue.start_alone());
        queue.release();
        assert!(queue.start_alone());
    }

    #[test]
    fn few_share_a_batch_and_many_are_shared_out() {
        let mut queue = Queue::new(4);
        assert!(queue.start_alone());
        let _few = push(&mut queue, WORTH_A_BATCH, 1);
        assert!(queue.start_driver());
        assert!(!queue.start_driver(), "one driver takes them all");
        let _more = push(&mut queue, 200 - WORTH_A_BATCH, 1);
        assert!(queue.start_driver() && queue.start_driver());
        assert!(!queue.start_driver(), "four are in flight");
        let sizes: Vec<_> = (0..3).map(|_| queue.take(clock::now()).len()).collect();
        assert_eq!(sizes, [67, 67, 66]);
        queue.restart();
        assert!(queue.take(clock::now()).is_empty());
        assert_eq!((queue.in_flight, queue.starting), (3, 0));
    }

    #[test]
    fn i9_batches_and_what_waits_are_bounded() {
        let mut queue = Queue::new(1);
        let _answers = push(&mut queue, MAX_WAITING, 1);
        let (one_more, _answer) = waiting(1, Duration::from_secs(9));
        assert!(matches!(queue.push(one_more), Err(Error::Overloaded { waiting: MAX_WAITING })));
        assert!(queue.start_driver());
        assert_eq!(queue.take(clock::now()).len(), MAX_BATCH_ITEMS);

        let mut queue = Queue::new(1);
        let _answers = push(&mut queue, 64, 1024 * 1024);
        let (one_more, _answer) = waiting(1, Duration::from_secs(9));
        assert!(queue.push(one_more).is_err());
        assert!(queue.start_driver());
        assert_eq!(queue.take(clock::now()).len(), 3);
    }

    #[test]
    fn an_oversized_item_goes_alone() {
        let mut queue = Queue::new(1);
        let _answers = [
            push(&mut queue, 1, 1),
            push(&mut queue, 1, MAX_BATCH_BYTES + 1),
            push(&mut queue, 1, 1),
        ];
        assert!(queue.start_driver());
        for _ in 0..3 {
            assert_eq!(queue.take(clock::now()).len(), 1);
            queue.restart();
        }
    }

    #[test]
    fn those_who_gave_up_and_those_who_are_late_are_left_out() {
        let mut queue = Queue::new(1);
        drop(push(&mut queue, 2, 1));
        let (late, mut answer) = waiting(1, Duration::ZERO);
        queue.push(late).unwrap();
        let _stays = push(&mut queue, 1, 1);
        assert!(queue.start_driver());
        assert_eq!(queue.take(clock::now()).len(), 1);
        assert!(matches!(answer.try_recv(), Ok(Err(Failure::Batch(Error::DeadlineExceeded)))));
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn the_last_driver_that_is_lost_tells_those_who_wait() {
        let mut queue = Queue::new(2);
        assert!(queue.start_driver() || queue.start_alone());
        let mut answers = push(&mut queue, 1, 1);
        assert!(queue.start_driver());
        queue.abandon_start();
        assert!(
            answers[0].try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Empty)
        );
        queue.abandon();
        assert!(
            answers[0].try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed)
        );
        assert!(queue.start_alone());
    }
}
