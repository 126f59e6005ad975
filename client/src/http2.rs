//! HTTP/2 as it suits signing: few large messages, one task a connection, and a dead peer is found
//! out.
//!
//! A call writes its frames from the caller's own task and is woken by the connection's; nothing
//! stands between the two.

use std::{
    future::{self, Future},
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Ping, PingPong, Reason, RecvStream, SendStream,
    client::{self, SendRequest},
};
use http::{HeaderValue, Request, Response, Uri, header, uri};
use http_body::{Body as _, Frame};
use tokio::time;
use tonic::body::Body;
use tower::Service;

use crate::connect::Target;

/// Larger than the answer to the largest batch, so that flow control never stops one.
const WINDOW: u32 = 8 * 1024 * 1024;
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

const USER_AGENT: &str = concat!("mintwarden-client/", env!("CARGO_PKG_VERSION"));

/// What went wrong below gRPC.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("{0}")]
    Http2(h2::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("the peer closed the connection without a word")]
    Mute,
    #[error("the peer answers no ping")]
    Dead,
    #[error("{0}")]
    Request(tonic::Status),
    #[error(transparent)]
    Uri(#[from] http::Error),
}

impl From<h2::Error> for Broken {
    fn from(error: h2::Error) -> Self {
        Self::Http2(error)
    }
}

impl Broken {
    /// The error itself where this only wraps it, so that it can be looked into.
    pub(crate) fn into_source(self) -> Box<dyn std::error::Error + Send + Sync> {
        match self {
            Self::Io(error) => error.into(),
            other => other.into(),
        }
    }
}

/// Takes requests for one connection; cheap to clone. The connection ends when no clone is left.
#[derive(Clone)]
pub(crate) struct Connection {
    requests: SendRequest<Bytes>,
    scheme: Option<uri::Scheme>,
    authority: Option<uri::Authority>,
}

/// Connects and waits until the peer has shown that it speaks HTTP/2. The second is what moves the
/// connection's bytes, until its end.
pub(crate) async fn open(
    target: &Target,
) -> Result<(Connection, Pin<Box<impl Future<Output = Result<(), Broken>> + use<>>>), Broken> {
    let (io, spoken) = target.connect().await?;
    let (requests, connection) = client::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .enable_push(false)
        .handshake(io)
        .await?;
    let mut moves = Box::pin(run(connection));
    tokio::select! {
        biased;
        Ok(()) = spoken => {}
        end = &mut moves => return Err(end.err().unwrap_or(Broken::Mute)),
    }
    let (scheme, authority) = (target.origin.scheme(), target.origin.authority());
    let connection =
        Connection { requests, scheme: scheme.cloned(), authority: authority.cloned() };
    Ok((connection, moves))
}

async fn run<T>(mut connection: client::Connection<T, Bytes>) -> Result<(), Broken>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let pings = connection.ping_pong();
    tokio::select! {
        end = connection => Ok(end?),
        () = silence(pings) => Err(Broken::Dead),
    }
}

/// Ends when the peer leaves a ping unanswered.
async fn silence(pings: Option<PingPong>) {
    let Some(mut pings) = pings else { return future::pending().await };
    loop {
        time::sleep(PING_EVERY).await;
        let pong = time::timeout(PING_TIMEOUT, pings.ping(Ping::opaque())).await;
        if pong.is_err() {
            return;
        }
    }
}

impl Service<Request<Body>> for Connection {
    type Response = Response<Answer>;
    type Error = Broken;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, Broken>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        // Generated stubs turn an error from here into a text, as if the appliance had said it. `call` meets
        // the same one, and its callers see what it is: the connection's.
        self.requests.poll_ready(cx).map(|_| Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (head, body) = request.into_parts();
        let sent = self.head(head).and_then(|head| Ok(self.requests.send_request(head, false)?));
        Box::pin(async move {
            let (response, stream) = sent?;
            send(body, stream).await?;
            let response = response.await?;
            Ok(response.map(|stream| Answer { stream, data_ended: false }))
        })
    }
}

impl Connection {
    fn head(&self, mut head: http::request::Parts) -> Result<Request<()>, Broken> {
        let mut parts = mem::take(&mut head.uri).into_parts();
        parts.scheme = self.scheme.clone();
        parts.authority = self.authority.clone();
        head.uri = Uri::from_parts(parts).map_err(http::Error::from)?;
        head.headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        Ok(Request::from_parts(head, ()))
    }
}

/// Sends a body. That of a unary call is at hand as a whole, and bounded by the API.
async fn send(mut body: Body, mut stream: SendStream<Bytes>) -> Result<(), Broken> {
    // One behind, so that the last frame ends the stream.
    let mut last = Bytes::new();
    while let Some(frame) = future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(data) = frame.map_err(Broken::Request)?.into_data() {
            let previous = mem::replace(&mut last, data);
            if !previous.is_empty() && stream.send_data(previous, false).is_err() {
                break;
            }
        }
    }
    // A stream that takes nothing more was ended by the peer: the response says why.
    let _ = stream.send_data(last, true);
    Ok(())
}

/// The body of a response.
pub(crate) struct Answer {
    stream: RecvStream,
    data_ended: bool,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        while !self.data_ended {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    self.stream.flow_control().release_capacity(data.len())?;
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                // The answer is complete; the peer did not want to read the rest of the request.
                Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => {
                    return Poll::Ready(None);
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => self.data_ended = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx)?);
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use mintwarden_proto::v1::{SignRequest, signing_service_client::SigningServiceClient};
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::{Error, status};

    #[tokio::test]
    async fn a_connection_that_broke_before_a_call_is_to_blame_for_it() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let (requests, connection) = client::handshake::<_>(ours).await.expect("begun");
        // No frame of HTTP/2.
        theirs.write_all(&[0xff; 9]).await.expect("written");
        connection.await.expect_err("the connection ends");
        let connection = Connection { requests, scheme: None, authority: None };
        let mut signing = SigningServiceClient::new(connection);
        let failed = signing.sign(SignRequest::default()).await.expect_err("broken");
        let error = status::to_error(failed, &"an appliance".into());
        assert!(matches!(error, Error::Transport(_)), "{error:?}");
        assert!(error.is_retryable(), "{error:?}");
    }
}
