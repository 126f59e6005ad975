//! The server's end of the launcher's control socket: its standard input.

use std::{os::fd::AsFd as _, path::PathBuf, thread};

use tokio::sync::mpsc;

use super::ServerError;
use crate::{
    config::Config,
    launcher::control::{self, Downward, Upward},
};

/// Takes the control socket from standard input, the configuration from its first message, and
/// hands on what follows. The receiver ends when the launcher does.
pub(super) fn connect() -> Result<(Upward, Config, mpsc::UnboundedReceiver<Downward>), ServerError>
{
    let process = |what: String| ServerError::Process(what);
    let socket =
        std::io::stdin().as_fd().try_clone_to_owned().map_err(|e| process(e.to_string()))?;
    let first = control::receive_downward(&socket)
        .map_err(|e| process(format!("the server is started by the launcher, not by hand: {e}")))?;
    let Some(Downward::Config { path, text }) = first else {
        return Err(process("the launcher's first message is no configuration".into()));
    };
    let config = Config::parse(&text, &PathBuf::from(path))?;
    let reading = socket.try_clone().map_err(|e| process(e.to_string()))?;
    let (orders, received) = mpsc::unbounded_channel();
    thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            while let Ok(Some(order)) = control::receive_downward(&reading) {
                if orders.send(order).is_err() {
                    return;
                }
            }
        })
        .map_err(|e| process(e.to_string()))?;
    Ok((Upward::new(socket), config, received))
}
