//! Bounds on what a message holds, counted before it is decoded: two bytes on the wire can become a
//! hundred in memory.

use prost::{
    bytes::Buf as _,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};

/// Bound on the items of a batch, in a request and in its answer.
pub const MAX_ITEMS: usize = 1024;

/// Bound on the keys that a device shows, and on all that is said of their defects.
pub(super) const MAX_KEYS: usize = 16 * 1024;

/// A message that cannot be read, or holds more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// It is not protobuf, or not of the shape that was expected.
    #[error("a message that does not decode")]
    Malformed,
    /// It repeats a field more often than it may.
    #[error("a message with {count} {what}; at most {bound} are allowed")]
    TooMany {
        /// The field.
        what: &'static str,
        /// How often it is there.
        count: usize,
        /// The bound.
        bound: usize,
    },
}

/// How often the field at `path` (tags, outermost first) occurs in an encoded message. Nothing is
/// decoded and nothing allocated. Messages on the way may occur more than once, as protobuf allows:
/// their fields add up.
///
/// # Errors
/// [`MessageError::Malformed`] where the message is not protobuf that far.
pub fn occurrences(mut message: &[u8], path: &[u32]) -> Result<usize, MessageError> {
    let mut count = 0;
    while message.has_remaining() {
        let (tag, wire_type) = decode_key(&mut message).map_err(|_| MessageError::Malformed)?;
        match path {
            [outer, inner @ ..] if *outer == tag && !inner.is_empty() => {
                if wire_type != WireType::LengthDelimited {
                    return Err(MessageError::Malformed);
                }
                let length = decode_varint(&mut message).map_err(|_| MessageError::Malformed)?;
                let length = usize::try_from(length).ok().filter(|n| *n <= message.len());
                let (nested, rest) = message.split_at(length.ok_or(MessageError::Malformed)?);
                count += occurrences(nested, inner)?;
                message = rest;
            }
            _ => {
                count += usize::from(path == [tag]);
                skip_field(wire_type, tag, &mut message, DecodeContext::default())
                    .map_err(|_| MessageError::Malformed)?;
            }
        }
    }
    Ok(count)
}

/// Refuses a message that has the field at `path` more than `bound` times.
pub(super) fn at_most(
    bound: usize,
    what: &'static str,
    message: &[u8],
    path: &[u32],
) -> Result<(), MessageError> {
    match occurrences(message, path)? {
        count if count > bound => Err(MessageError::TooMany { what, count, bound }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::wire::{Answer, Ask, FromWorker, KeyReport, Listed, Sign, Signed, ToWorker};

    fn sign(items: usize) -> ToWorker {
        let sign = Sign { claims: vec![Default::default(); items], ..Sign::default() };
        ToWorker { id: 7, ask: Some(Ask::Sign(sign)) }
    }

    fn signed(items: usize) -> FromWorker {
        let signed = Signed { items: vec![Default::default(); items], ..Signed::default() };
        FromWorker { id: 7, answer: Some(Answer::Signed(signed)) }
    }

    #[test]
    fn i9_items_are_counted_before_they_are_decoded() {
        for count in [0, 1, MAX_ITEMS] {
            let message = sign(count);
            assert_eq!(ToWorker::read(message.encode_to_vec().into()), Ok(message));
            let message = signed(count);
            assert_eq!(FromWorker::read(message.encode_to_vec().into()), Ok(message));
        }
        for count in [MAX_ITEMS + 1, 1 << 20] {
            let too_many = MessageError::TooMany { what: "items", count, bound: MAX_ITEMS };
            assert_eq!(ToWorker::read(sign(count).encode_to_vec().into()), Err(too_many));
            assert_eq!(FromWorker::read(signed(count).encode_to_vec().into()), Err(too_many));
        }
        // Said in pieces, which protobuf joins: the bound is for the whole.
        let pieces = [sign(MAX_ITEMS).encode_to_vec(), sign(1).encode_to_vec()].concat();
        assert!(matches!(ToWorker::read(pieces.into()), Err(MessageError::TooMany { .. })));
    }

    #[test]
    fn i9_keys_and_their_defects_are_counted_before_they_are_decoded() {
        let listed = |keys| {
            let answer = Some(Answer::Listed(Listed { keys }));
            FromWorker::read(FromWorker { id: 1, answer }.encode_to_vec().into())
        };
        assert!(listed(vec![KeyReport::default(); 64]).is_ok());
        let many = listed(vec![KeyReport::default(); MAX_KEYS + 1]);
        assert!(matches!(many, Err(MessageError::TooMany { what: "keys", .. })), "{many:?}");
        let defects = vec![String::new(); MAX_KEYS + 1];
        let many = listed(vec![KeyReport { defects, ..KeyReport::default() }]);
        assert!(matches!(many, Err(MessageError::TooMany { what: "defects", .. })), "{many:?}");
    }

    #[test]
    fn what_is_not_protobuf_is_refused() {
        let good = sign(3).encode_to_vec();
        for cut in 1..good.len() {
            // Cut after the id it is a message without a question, which the reader refuses.
            let read = ToWorker::read(good[..cut].to_vec().into());
            assert!(read.is_err() || read.is_ok_and(|message| message.ask.is_none()), "{cut}");
        }
        for bad in
            [&b"\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"[..], b"\x18\x01", b"\0", b"\x0b"]
        {
            assert_eq!(
                ToWorker::read(bad.to_vec().into()),
                Err(MessageError::Malformed),
                "{bad:?}"
            );
        }
    }
}
