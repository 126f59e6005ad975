//! Frames: a length, then that many bytes.

use std::io::{self, Read, Write};

/// Bound on a frame, bytes: a full batch (4 MiB of claims) with its framing.
pub const MAX_FRAME: usize = 8 * 1024 * 1024;

/// Bound on the set-up frame, bytes.
pub const MAX_SETUP: usize = 256 * 1024;

/// Why no frame could be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The other side closed the wire between two frames.
    #[error("the wire was closed")]
    Closed,
    /// The frame is larger than allowed.
    #[error("a frame of {size} bytes exceeds the bound of {bound}")]
    TooLarge {
        /// What the frame's length says.
        size: usize,
        /// The bound that applies.
        bound: usize,
    },
    /// The socket failed, or ended inside a frame.
    #[error("the wire failed: {0}")]
    Io(#[from] io::Error),
}

/// Reads one frame of at most `bound` bytes into `buffer`, which is overwritten.
///
/// # Errors
/// [`FrameError`]; the wire is then of no further use.
pub fn read_frame(
    wire: &mut impl Read,
    bound: usize,
    buffer: &mut Vec<u8>,
) -> Result<(), FrameError> {
    let mut length = [0; 4];
    let first = loop {
        match wire.read(&mut length) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if first == 0 {
        return Err(FrameError::Closed);
    }
    wire.read_exact(&mut length[first..])?;
    let size = u32::from_be_bytes(length) as usize;
    if size > bound {
        return Err(FrameError::TooLarge { size, bound });
    }
    // Grown as bytes arrive: a length that lies costs no memory.
    buffer.clear();
    let read = wire.take(size as u64).read_to_end(buffer)?;
    if read < size {
        return Err(FrameError::Io(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(())
}

/// Writes one frame.
///
/// # Errors
/// [`FrameError::TooLarge`] beyond [`MAX_FRAME`], or the socket's error.
pub fn write_frame(wire: &mut impl Write, body: &[u8]) -> Result<(), FrameError> {
    let size = body.len();
    let length = u32::try_from(size).ok().filter(|_| size <= MAX_FRAME);
    let length = length.ok_or(FrameError::TooLarge { size, bound: MAX_FRAME })?;
    let frame = [&length.to_be_bytes()[..], body].concat();
    wire.write_all(&frame)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in() {
        let mut wire = Vec::new();
        write_frame(&mut wire, b"one").expect("a vector takes it");
        write_frame(&mut wire, b"").expect("a vector takes it");
        let (mut wire, mut buffer) = (&wire[..], Vec::new());
        read_frame(&mut wire, 3, &mut buffer).expect("a frame");
        assert_eq!(buffer, b"one");
        read_frame(&mut wire, 3, &mut buffer).expect("a frame");
        assert_eq!(buffer, b"");
        assert!(matches!(read_frame(&mut wire, 3, &mut buffer), Err(FrameError::Closed)));
    }

    #[test]
    fn i9_a_frame_beyond_its_bound_is_refused_unread() {
        let mut wire = &[0xff; 64][..];
        let error = read_frame(&mut wire, MAX_FRAME, &mut Vec::new()).expect_err("too large");
        assert!(matches!(error, FrameError::TooLarge { size: 0xffff_ffff, bound: MAX_FRAME }));
    }

    #[test]
    fn a_wire_that_ends_inside_a_frame_is_an_error() {
        for cut in 1..7 {
            let mut wire = &[0, 0, 0, 3, b'o', b'n', b'e'][..cut];
            let error = read_frame(&mut wire, 3, &mut Vec::new()).expect_err("cut short");
            assert!(matches!(error, FrameError::Io(_)), "{cut}: {error}");
        }
    }
}
