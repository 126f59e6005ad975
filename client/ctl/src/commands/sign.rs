mod lines;

use std::{
    io::{self, BufWriter, Write},
    pin::pin,
    process::ExitCode,
};

use futures_util::{FutureExt, StreamExt, stream::FuturesOrdered};
use mintwarden_client::{Bytes, Error, Issuer, Token};
use serde::Serialize;
use tokio::sync::mpsc;

use self::lines::{BadLine, Line};
use crate::exit::{self, Failure};

/// Bounds on what was read but not answered yet. The client joins it into batches.
const MAX_OPEN_LINES: usize = 2048;
const MAX_OPEN_BYTES: usize = 8 * 1024 * 1024;

/// Signs standard input, line by line.
pub(crate) async fn run(issuer: &Issuer, out: impl Write) -> Result<ExitCode, Failure> {
    let input = lines::read(io::stdin());
    Signer {
        issuer,
        out: BufWriter::new(out),
        errors: io::stderr(),
        open_bytes: 0,
        failed: false,
        gone: None,
    }
    .run(input)
    .await
}

struct Signer<'a, O: Write, E> {
    issuer: &'a Issuer,
    out: BufWriter<O>,
    errors: E,
    open_bytes: usize,
    failed: bool,
    /// The exit code, once the appliance did not answer.
    gone: Option<u8>,
}

/// What became of a line.
struct Answer {
    number: u64,
    bytes: usize,
    result: Result<Token, Refused>,
}

enum Refused {
    Line(BadLine),
    Call(Error),
}

enum Event {
    Answer(Answer),
    Line(io::Result<Line>),
    End,
}

impl<O: Write, E: Write> Signer<'_, O, E> {
    async fn run(
        mut self,
        mut input: mpsc::Receiver<io::Result<Line>>,
    ) -> Result<ExitCode, Failure> {
        let mut open = FuturesOrdered::new();
        loop {
            // Once the appliance is gone nothing more is read, and what was read gets its answer.
            let room = self.gone.is_none()
                && open.len() < MAX_OPEN_LINES
                && self.open_bytes < MAX_OPEN_BYTES;
            let event = {
                let mut next = pin!(async {
                    tokio::select! {
                        biased;
                        Some(answer) = open.next(), if !open.is_empty() => Event::Answer(answer),
                        Some(line) = input.recv(), if room => Event::Line(line),
                        else => Event::End,
                    }
                });
                match next.as_mut().now_or_never() {
                    Some(event) => event,
                    None => {
                        // Someone may type the next line only after seeing the last answer.
                        self.out.flush()?;
                        next.await
                    }
                }
            };
            match event {
                Event::Line(line) => {
                    let line = line?;
                    self.open_bytes += line.length();
                    open.push_back(answer(self.issuer.clone(), line));
                }
                Event::Answer(answer) => {
                    self.write(answer)?;
                }
                Event::End => break,
            }
        }
        self.out.flush()?;
        let failed = if self.failed { exit::REFUSED } else { 0 };
        Ok(ExitCode::from(self.gone.unwrap_or(failed)))
    }

    /// Writes a token or an error line, and notes if there is no use in reading on.
    fn write(&mut self, answer: Answer) -> io::Result<()> {
        self.open_bytes -= answer.bytes;
        match answer.result {
            Ok(token) => {
                self.out.write_all(token.as_bytes())?;
                self.out.write_all(b"\n")?;
            }
            Err(refused) => {
                self.failed = true;
                let mut text = serde_json::to_vec(&ErrorLine::new(answer.number, &refused))?;
                text.push(b'\n');
                self.errors.write_all(&text)?;
                if matches!(&refused, Refused::Call(error) if exit::is_unavailable(error)) {
                    self.gone = Some(exit::UNAVAILABLE);
                }
            }
        }
        Ok(())
    }
}

async fn answer(issuer: Issuer, line: Line) -> Answer {
    let (number, bytes) = (line.number, line.length());
    let result = match line.content {
        Ok(claims) => issuer.sign(Bytes::from(claims)).await.map_err(Refused::Call),
        Err(bad) => Err(Refused::Line(bad)),
    };
    Answer { number, bytes, result }
}

/// A line that was not signed, as JSON on standard error.
#[derive(Serialize)]
struct ErrorLine<'a> {
    /// The input's line, from 1.
    line: u64,
    reason: &'a str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
}

impl<'a> ErrorLine<'a> {
    fn new(line: u64, refused: &'a Refused) -> Self {
        match refused {
            Refused::Line(bad) => Self {
                line,
                reason: bad.reason(),
                message: bad.to_string(),
                claim: None,
                rule: None,
            },
            Refused::Call(error) => {
                let refusal = error.refusal();
                Self {
                    line,
                    reason: error.reason(),
                    message: refusal
                        .map_or_else(|| error.to_string(), |refusal| refusal.message.clone()),
                    claim: refusal.and_then(|refusal| refusal.claim.as_deref()),
                    rule: refusal.and_then(|refusal| refusal.rule.as_deref()),
                }
            }
        }
    }
}
