use std::{
    io::{self, BufRead, BufReader, Read},
    thread,
};

use tokio::sync::mpsc;

/// Far beyond what an issuer signs, and a bound on what a line without end may take.
const MAX_LINE: usize = 1024 * 1024;
/// Lines read ahead of the signer.
const AHEAD: usize = 64;

/// A line of the input, without its end.
#[derive(Debug, PartialEq)]
pub(super) struct Line {
    /// From 1.
    pub(super) number: u64,
    pub(super) content: Result<Vec<u8>, BadLine>,
}

/// Why a line is not sent to the appliance.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum BadLine {
    #[error("the line is empty; write one JSON object per line")]
    Empty,
    #[error("the line is longer than 1 MiB; write one JSON object per line")]
    TooLong,
}

impl BadLine {
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Empty => "LINE_EMPTY",
            Self::TooLong => "LINE_TOO_LONG",
        }
    }
}

impl Line {
    /// Bytes that it holds in memory.
    pub(super) fn length(&self) -> usize {
        self.content.as_ref().map_or(0, Vec::len)
    }
}

/// Reads lines in a thread of its own, which waits when they are not taken. An error is the last
/// item.
pub(super) fn read(input: impl Read + Send + 'static) -> mpsc::Receiver<io::Result<Line>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    // A plain thread, since nothing can interrupt a read from a terminal: the process has to be able
    // to end without it.
    thread::spawn(move || {
        let mut input = BufReader::with_capacity(64 * 1024, input);
        for number in 1.. {
            let line = next(&mut input).transpose();
            let Some(content) = line else { return };
            let failed = content.is_err();
            let line = content.map(|content| Line { number, content });
            if sender.blocking_send(line).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// The next line; none at the end of the input.
fn next(input: &mut impl BufRead) -> io::Result<Option<Result<Vec<u8>, BadLine>>> {
    let mut line = Vec::new();
    // One byte more for the line's end, and one to see that it is too long.
    let read = input.by_ref().take(MAX_LINE as u64 + 2).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Ok(None);
    }
    let whole = line.last() == Some(&b'\n');
    if whole {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    if line.len() > MAX_LINE {
        if !whole {
            input.skip_until(b'\n')?;
        }
        return Ok(Some(Err(BadLine::TooLong)));
    }
    if line.trim_ascii().is_empty() {
        return Ok(Some(Err(BadLine::Empty)));
    }
    Ok(Some(Ok(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: impl Into<Vec<u8>>) -> Vec<Result<Vec<u8>, BadLine>> {
        let mut receiver = read(io::Cursor::new(input.into()));
        let mut lines = Vec::new();
        while let Some(line) = receiver.blocking_recv() {
            let line = line.unwrap();
            lines.push(line.content);
            assert_eq!(line.number, lines.len() as u64);
        }
        lines
    }

    #[test]
    fn ends_of_lines_are_no_part_of_them() {
        assert_eq!(
            lines("{}\n{\"a\": 1} \r\n\n{}"),
            [
                Ok(b"{}".to_vec()),
                Ok(b"{\"a\": 1} ".to_vec()),
                Err(BadLine::Empty),
                Ok(b"{}".to_vec())
            ]
        );
        assert_eq!(lines(""), []);
    }

    #[test]
    fn a_line_without_end_is_bounded_and_skipped() {
        let mut input = vec![b' '; 3 * MAX_LINE];
        input.extend(b"\n{}\n");
        assert_eq!(lines(input), [Err(BadLine::TooLong), Ok(b"{}".to_vec())]);
        let mut longest = vec![b'x'; MAX_LINE];
        longest.extend(b"\nlast");
        assert_eq!(
            lines(longest.clone()),
            [Ok(longest[..MAX_LINE].to_vec()), Ok(b"last".to_vec())]
        );
        longest.insert(0, b'x');
        assert_eq!(lines(longest), [Err(BadLine::TooLong), Ok(b"last".to_vec())]);
    }
}
