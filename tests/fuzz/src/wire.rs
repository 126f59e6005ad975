use bytes::Bytes;
use mintwarden_worker::wire::{
    Answer, Ask, FromWorker, MAX_ITEMS, MAX_SETUP, ToWorker, read_frame, write_frame,
};
use prost::Message;

/// What a server may write on a wire is read whole and bounded, or refused.
///
/// # Panics
/// Where that does not hold.
pub fn to_worker(wire: &[u8]) {
    frames(wire, |frame| {
        let message = ToWorker::read(frame).ok()?;
        if let Some(Ask::Sign(sign)) = &message.ask {
            assert!(sign.claims.len() <= MAX_ITEMS);
        }
        Some((
            message.encode_to_vec(),
            ToWorker::read(message.encode_to_vec().into()) == Ok(message),
        ))
    });
}

/// What a worker may write on a wire is read whole and bounded, or refused.
///
/// # Panics
/// Where that does not hold.
pub fn from_worker(wire: &[u8]) {
    frames(wire, |frame| {
        let message = FromWorker::read(frame).ok()?;
        if let Some(Answer::Signed(signed)) = &message.answer {
            assert!(signed.items.len() <= MAX_ITEMS);
        }
        let encoded = message.encode_to_vec();
        Some((encoded.clone(), FromWorker::read(encoded.into()) == Ok(message)))
    });
}

/// Reads frames until one is none; what was read is written and read again.
fn frames(mut wire: &[u8], read: impl Fn(Bytes) -> Option<(Vec<u8>, bool)>) {
    let mut buffer = Vec::new();
    while read_frame(&mut wire, MAX_SETUP, &mut buffer).is_ok() {
        let Some((encoded, same)) = read(Bytes::copy_from_slice(&buffer)) else { return };
        assert!(same, "a message is another one when it is read again");
        let (mut written, mut again) = (Vec::new(), Vec::new());
        write_frame(&mut written, &encoded).expect("a vector takes it");
        read_frame(&mut &written[..], MAX_SETUP * 2, &mut again).expect("a frame");
        assert_eq!(again, encoded);
    }
}
