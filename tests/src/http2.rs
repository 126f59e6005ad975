//! HTTP/2 frame by frame (RFC 9113): for peers that a library would not let one be.

use std::{io, path::Path};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

/// The preface of a connection (section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types (section 6).
pub mod kind {
    #![allow(missing_docs, reason = "the standard's own names")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags (section 6).
pub mod flag {
    #![allow(missing_docs, reason = "the standard's own names")]
    pub const END_STREAM: u8 = 1;
    pub const ACK: u8 = 1;
    pub const END_HEADERS: u8 = 4;
}

/// The parameter `SETTINGS_INITIAL_WINDOW_SIZE` (section 6.5.2).
pub const INITIAL_WINDOW_SIZE: u16 = 4;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame.
    #[must_use]
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// SETTINGS with these parameters.
    #[must_use]
    pub fn settings(parameters: &[(u16, u32)]) -> Self {
        let parameter =
            |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
        Self::new(kind::SETTINGS, 0, 0, parameters.iter().flat_map(parameter).collect::<Vec<_>>())
    }

    /// The HEADERS of a gRPC request to `path`, complete.
    #[must_use]
    pub fn request(stream: u32, path: &str) -> Self {
        Self::new(kind::HEADERS, flag::END_HEADERS, stream, fields(path))
    }

    /// The last DATA of a stream: one gRPC message.
    #[must_use]
    pub fn message(stream: u32, message: &[u8]) -> Self {
        let size = u32::try_from(message.len()).expect("small");
        let payload = [&[0][..], &size.to_be_bytes(), message].concat();
        Self::new(kind::DATA, flag::END_STREAM, stream, payload)
    }

    /// The frame as it is written.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let size = u32::try_from(self.payload.len()).expect("small");
        let head = [&size.to_be_bytes()[1..], &[self.kind, self.flags], &self.stream.to_be_bytes()];
        [&head.concat()[..], &self.payload].concat()
    }
}

/// The header fields of a gRPC request (HPACK, RFC 7541): indexed where the static table has them, else
/// literal, never in the dynamic table.
#[must_use]
pub fn fields(path: &str) -> Vec<u8> {
    // :method POST, :scheme http
    let mut fields = vec![0x83, 0x86];
    literal(&mut fields, b"\x04", path);
    literal(&mut fields, b"\x01", "localhost");
    literal(&mut fields, b"\x0f\x10", "application/grpc");
    field(&mut fields, "te", "trailers");
    fields
}

/// Appends a field with a name of its own.
pub fn field(fields: &mut Vec<u8>, name: &str, value: &str) {
    fields.push(0);
    length(fields, name);
    literal(fields, b"", value);
}

fn literal(fields: &mut Vec<u8>, index: &[u8], value: &str) {
    fields.extend_from_slice(index);
    length(fields, value);
}

/// A string with its length: an integer with a prefix of seven bits (section 5.1).
fn length(fields: &mut Vec<u8>, text: &str) {
    let mut left = text.len();
    if left < 127 {
        fields.push(u8::try_from(left).expect("below 127"));
    } else {
        fields.push(127);
        left -= 127;
        while left >= 128 {
            fields.push(u8::try_from(left % 128 + 128).expect("one byte"));
            left /= 128;
        }
        fields.push(u8::try_from(left).expect("below 128"));
    }
    fields.extend_from_slice(text.as_bytes());
}

/// A connection over a unix socket.
pub struct Connection {
    socket: UnixStream,
}

impl Connection {
    /// Connects and begins with these settings.
    ///
    /// # Panics
    /// If there is no listener.
    pub async fn open(path: &Path, settings: &[(u16, u32)]) -> Self {
        let socket = UnixStream::connect(path).await.expect("a listener");
        let mut this = Self { socket };
        let begin = [PREFACE, &Frame::settings(settings).encode()].concat();
        this.write(&begin).await.expect("a listener that listens");
        this
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// If the peer has ended the connection.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes).await
    }

    /// Writes a frame.
    ///
    /// # Errors
    /// If the peer has ended the connection.
    pub async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        self.write(&frame.encode()).await
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// If the peer has ended the connection.
    pub async fn read(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        self.socket.read_exact(&mut head).await?;
        let size = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; size];
        self.socket.read_exact(&mut payload).await?;
        Ok(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Reads to the end of the connection; the error code of its GOAWAY, if there was one.
    pub async fn goaway(&mut self) -> Option<u32> {
        let mut code = None;
        while let Ok(frame) = self.read().await {
            if frame.kind == kind::GOAWAY {
                let field = frame.payload.get(4..8).and_then(|code| code.try_into().ok());
                code = field.map(u32::from_be_bytes);
            }
        }
        code
    }
}
