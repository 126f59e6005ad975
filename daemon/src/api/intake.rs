//! Takes in the one message of a call, before anything is decoded: bounded, counted, whole.
//!
//! All calls of our own services have one message (gRPC over HTTP/2, "Requests"): a flag, a length of
//! four bytes, and that many bytes of protobuf.

use axum::{body::Body, extract::Request};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt as _;
use mintwarden_worker::wire::occurrences;

use super::errors::ApiError;
use crate::{
    admission::{Inadmissible, Occupied},
    clock::Deadline,
    config::fixed::{MAX_BATCH_ITEMS, MAX_MESSAGE_BYTES},
    signer::SignError,
};

/// Where our own services are.
pub(super) const OURS: &str = "/mintwarden.v1.";

const SIGNING: &str = "/mintwarden.v1.SigningService/";
const SIGN_BATCH: &str = "/mintwarden.v1.SigningService/SignBatch";

/// The tag of `SignBatchRequest.claims`.
const CLAIMS: u32 = 2;

/// What the answer to one item occupies at most: a refusal with its texts.
const ANSWER: usize = 512;

/// Bound on a message that is no batch, bytes: names and reasons.
const MAX_SMALL_MESSAGE: usize = 64 * 1024;

/// Flag and length before a message.
const PREFIX: usize = 5;

/// The header fields of a request, bytes.
pub(super) fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

/// Reads the message of a request, counting its bytes as they come and what it holds once it is
/// there.
///
/// # Errors
/// [`ApiError`] for a message that is malformed, compressed, too large or late, or for which the caller
/// has no room.
pub(super) async fn take(
    request: Request,
    occupied: &mut Occupied,
    deadline: Deadline,
) -> Result<Request, ApiError> {
    let (head, body) = request.into_parts();
    let encoding = head.headers.get("grpc-encoding");
    if encoding.is_some_and(|encoding| encoding != "identity") {
        return Err(ApiError::Compressed);
    }
    let path = head.uri.path();
    let max = if path.starts_with(SIGNING) { MAX_MESSAGE_BYTES } else { MAX_SMALL_MESSAGE };
    let reading = read(body, max, occupied);
    let message = tokio::time::timeout_at(deadline.instant().into(), reading);
    let message = message.await.map_err(|_| ApiError::Sign(SignError::Deadline))??;
    if path == SIGN_BATCH {
        let items = occurrences(&message[PREFIX..], &[CLAIMS]).map_err(|_| ApiError::Malformed)?;
        if items > MAX_BATCH_ITEMS {
            return Err(SignError::from(Inadmissible::TooManyItems(items)).into());
        }
        occupied.grow(items * ANSWER).map_err(SignError::from)?;
    }
    Ok(Request::from_parts(head, Body::from(message)))
}

async fn read(mut body: Body, max: usize, occupied: &mut Occupied) -> Result<Bytes, ApiError> {
    let mut message = BytesMut::new();
    let mut whole = None;
    while let Some(frame) = body.frame().await {
        // The connection failed, or the caller gave up.
        let Ok(data) = frame.map_err(|_| ApiError::Malformed)?.into_data() else { continue };
        occupied.grow(data.len()).map_err(SignError::from)?;
        message.extend_from_slice(&data);
        if whole.is_none() {
            whole = length(&message, max)?;
        }
        if whole.is_some_and(|whole| message.len() > whole) {
            return Err(ApiError::Malformed);
        }
    }
    if whole == Some(message.len()) { Ok(message.freeze()) } else { Err(ApiError::Malformed) }
}

/// What the message says of its own length, prefix included, once the prefix is there.
fn length(message: &[u8], max: usize) -> Result<Option<usize>, ApiError> {
    let Some((&[flag, ref length @ ..], _)) = message.split_first_chunk::<PREFIX>() else {
        return Ok(None);
    };
    match flag {
        0 => {}
        1 => return Err(ApiError::Compressed),
        _ => return Err(ApiError::Malformed),
    }
    let size = u32::from_be_bytes(*length) as usize;
    if size > max { Err(ApiError::TooLarge { size, max }) } else { Ok(Some(PREFIX + size)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_messages_prefix_is_a_flag_and_its_length() {
        for short in [&b""[..], b"\0", b"\0\0\0\0"] {
            assert!(matches!(length(short, 10), Ok(None)), "{short:?}");
        }
        assert!(matches!(length(b"\0\0\0\0\x0a", 10), Ok(Some(15))));
        assert!(matches!(length(b"\0\0\0\0\x0arest", 10), Ok(Some(15))));
        let large = length(b"\0\0\0\0\x0b", 10);
        assert!(matches!(large, Err(ApiError::TooLarge { size: 11, max: 10 })));
        let lies = length(b"\0\xff\xff\xff\xff", 10);
        assert!(matches!(lies, Err(ApiError::TooLarge { size: 0xffff_ffff, .. })));
        assert!(matches!(length(b"\x01\0\0\0\0", 10), Err(ApiError::Compressed)));
        assert!(matches!(length(b"\x02\0\0\0\0", 10), Err(ApiError::Malformed)));
    }
}
