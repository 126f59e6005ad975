//! Answers on their way to a peer: what they hold is held until the peer has taken them, and a peer
//! that does not take them is noticed (I9).

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use crate::clock;

/// Something to be kept until a peer has taken the whole answer; an extension of the answer.
#[derive(Clone)]
pub struct Keep {
    _kept: Arc<dyn Send + Sync>,
}

impl Keep {
    /// Keeps `what`.
    pub fn new(what: impl Send + Sync + 'static) -> Self {
        Self { _kept: Arc::new(what) }
    }
}

/// The answers of one connection that its peer has not taken yet.
#[derive(Clone, Default)]
pub(super) struct Untaken(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    next: u64,
    since: BTreeMap<u64, Instant>,
}

impl Untaken {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark(&self, keep: &Option<Keep>) -> Mark {
        let mut waiting = self.lock();
        let id = waiting.next;
        waiting.next += 1;
        waiting.since.insert(id, clock::monotonic());
        Mark { untaken: self.clone(), id, _keep: keep.clone() }
    }

    fn oldest(&self) -> Option<Instant> {
        self.lock().since.first_key_value().map(|(_, since)| *since)
    }

    /// Waits until something has not been taken for `limit`.
    pub(super) async fn overdue(&self, limit: Duration) {
        loop {
            let oldest = self.oldest();
            match oldest.map(|since| since + limit) {
                Some(due) if due <= clock::monotonic() => {
                    // Room that the peer has made already is used before its lack is held against the peer.
                    tokio::task::yield_now().await;
                    if self.oldest() == oldest {
                        return;
                    }
                }
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => tokio::time::sleep(limit).await,
            }
        }
    }
}

/// A piece of an answer that waits for the peer, until this is dropped.
struct Mark {
    untaken: Untaken,
    id: u64,
    _keep: Option<Keep>,
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.untaken.lock().since.remove(&self.id);
    }
}

/// Bytes that wait for the peer.
struct Waits {
    data: Bytes,
    _mark: Mark,
}

impl AsRef<[u8]> for Waits {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

/// The body of an answer.
pub(super) struct Answer {
    body: Body,
    untaken: Untaken,
    keep: Option<Keep>,
    /// There while the connection has not come back for more: the peer's window may be closed. Not there
    /// while the answer itself has nothing to say.
    _mark: Option<Mark>,
}

impl Answer {
    /// Watches over an answer from now on.
    pub(super) fn watched(mut answer: Response, untaken: &Untaken) -> http::Response<Self> {
        let keep = answer.extensions_mut().remove::<Keep>();
        let mark = Some(untaken.mark(&None));
        answer.map(|body| Self { body, untaken: untaken.clone(), keep, _mark: mark })
    }
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        this._mark = None;
        let frame = match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => frame,
            other => return other,
        };
        let waits = |data: Bytes| {
            if data.is_empty() {
                return data;
            }
            Bytes::from_owner(Waits { data, _mark: this.untaken.mark(&this.keep) })
        };
        let frame = frame.map_data(waits);
        this._mark = Some(this.untaken.mark(&None));
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use hyper::body::Body as _;

    use super::*;

    fn answer(untaken: &Untaken, keep: &Arc<()>) -> Answer {
        let mut response = Response::new(Body::from("words"));
        response.extensions_mut().insert(Keep::new(Arc::clone(keep)));
        Answer::watched(response, untaken).into_body()
    }

    #[tokio::test]
    async fn i9_what_an_answer_holds_is_held_until_its_bytes_are_gone() {
        let (untaken, keep) = (Untaken::default(), Arc::new(()));
        let mut answer = answer(&untaken, &keep);
        assert!(untaken.oldest().is_some(), "nobody has asked for it yet");
        assert_eq!(answer.size_hint().exact(), Some(5));
        let data = answer.frame().await.expect("a frame").expect("words").into_data();
        assert!(answer.frame().await.is_none());
        drop(answer);
        let data = data.expect("words");
        assert_eq!((&data[..], Arc::strong_count(&keep)), (&b"words"[..], 2));
        assert!(untaken.oldest().is_some(), "they are not written yet");
        drop(data);
        assert_eq!((untaken.oldest(), Arc::strong_count(&keep)), (None, 1));
    }

    #[tokio::test]
    async fn i9_an_answer_that_is_never_asked_for_is_overdue() {
        let (untaken, keep) = (Untaken::default(), Arc::new(()));
        let answer = answer(&untaken, &keep);
        untaken.overdue(Duration::from_millis(1)).await;
        drop(answer);
        assert_eq!((untaken.oldest(), Arc::strong_count(&keep)), (None, 1));
    }

    #[tokio::test]
    async fn an_answer_that_waits_for_its_own_words_is_not_overdue() {
        let untaken = Untaken::default();
        let silent =
            Body::from_stream(futures_util::stream::pending::<Result<Bytes, axum::Error>>());
        let mut answer = Answer::watched(Response::new(silent), &untaken).into_body();
        let pending = std::future::poll_fn(|context| {
            Poll::Ready(Pin::new(&mut answer).poll_frame(context).is_pending())
        });
        assert!(pending.await);
        assert_eq!(untaken.oldest(), None);
    }
}
