//! One command to the TPM.

use std::{thread, time::Duration};

use mintwarden_worker::{clock, device::DeviceError, watch};
use tss_esapi::{Context, Error};

use crate::fault::{fault, is_busy};

/// The first pause before a command is given again that the TPM asked for; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// How long a TPM may ask for the same command again and again. After a start some test themselves for
/// seconds (`TPM_RC_TESTING`).
const PATIENCE: Duration = Duration::from_secs(5);

/// Gives a command, again while the TPM asks for it (`TPM_RC_RETRY`, `TPM_RC_YIELDED`, `TPM_RC_TESTING`).
/// libtss2 does so too, but a few times without a pause.
pub(crate) fn raw<T>(
    context: &mut Context,
    mut command: impl FnMut(&mut Context) -> Result<T, Error>,
) -> Result<T, Error> {
    let until = clock::monotonic() + PATIENCE;
    let mut pause = FIRST_PAUSE;
    loop {
        match watch::call(|| command(context)) {
            Err(error) if is_busy(&error) && clock::monotonic() < until => {
                thread::sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            other => return other,
        }
    }
}

/// The same; an error says what was being done.
pub(crate) fn run<T>(
    context: &mut Context,
    doing: &str,
    command: impl FnMut(&mut Context) -> Result<T, Error>,
) -> Result<T, DeviceError> {
    raw(context, command).map_err(|error| fault(doing, &error))
}
