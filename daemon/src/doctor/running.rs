//! A running appliance, asked through its server.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    account::{MAX_ACCOUNT, Question, ServerAccount},
    bounded, server,
};

/// What the server may take on top of its devices.
const MORE: Duration = Duration::from_secs(5);

/// What the server of the appliance in `state_dir` says, its devices included.
///
/// # Errors
/// Why it says nothing, in words.
pub(super) fn ask(state_dir: &Path, within: Duration) -> Result<ServerAccount, String> {
    let path = server::socket_path(state_dir);
    let limit = within + MORE;
    match bounded(limit, move || converse(&path, within)) {
        Some(answer) => answer.map_err(|error| error.to_string()),
        None => Err(format!("it did not answer within {limit:?}")),
    }
}

fn converse(path: &PathBuf, within: Duration) -> io::Result<ServerAccount> {
    let mut stream = UnixStream::connect(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    let within_ms = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
    let mut question = serde_json::to_vec(&Question { within_ms })?;
    question.push(b'\n');
    stream.write_all(&question)?;
    read(&stream)
}

/// Reads an account to its end.
pub(super) fn read(stream: &UnixStream) -> io::Result<ServerAccount> {
    let mut text = Vec::new();
    stream.take(MAX_ACCOUNT + 1).read_to_end(&mut text)?;
    if text.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it said nothing"));
    }
    if text.len() as u64 > MAX_ACCOUNT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it said more than 8 MiB"));
    }
    serde_json::from_slice(&text).map_err(|error| {
        let what = format!("it said what this build does not understand: {error}");
        io::Error::new(io::ErrorKind::InvalidData, what)
    })
}
