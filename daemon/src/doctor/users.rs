//! Who the processes are, and what it costs where they are one.

use mintwarden_worker::finding::{Check, Finding};
use rustix::process::{getegid, geteuid};

use crate::{
    config::{Config, Users},
    launcher::layout::Layout,
};

/// The users of the appliance's processes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owners {
    /// The launcher's; the doctor has to be the same.
    pub(super) launcher: u32,
    pub(super) server: u32,
    pub(super) worker: u32,
    /// The workers' only group.
    pub(super) worker_group: u32,
}

impl Owners {
    pub(super) fn of(layout: &Layout) -> Self {
        let own = (geteuid().as_raw(), getegid().as_raw());
        let ((server, _), worker) = (layout.server.unwrap_or(own), layout.worker.unwrap_or(own));
        Self { launcher: own.0, server, worker: worker.0, worker_group: worker.1 }
    }
}

/// What there is to say about the users.
pub(super) fn examine(config: &Config, owners: Owners) -> Finding {
    let Owners { launcher, server, worker, .. } = owners;
    if server != worker {
        let found = format!("launcher uid {launcher}, server uid {server}, workers uid {worker}");
        return Finding::ok(Check::Users, "", found);
    }
    let cost = "a server that is taken over from the network can read the PIN and, with SoftHSM2, \
                the keys";
    match config.users {
        Users::DangerSharedRoot => Finding::warning(
            Check::Users,
            "",
            format!("everything is root (danger_shared_root): {cost}, and everything else"),
            "for anything but development, set users.server and users.worker to two system users",
        ),
        Users::Split { .. } => Finding::warning(
            Check::Users,
            "",
            format!(
                "[users] is without effect for uid {launcher}: only root can start server and \
                 workers as other users; {cost}"
            ),
            "start the appliance and the doctor as root",
        ),
        Users::Inherit => Finding::warning(
            Check::Users,
            "",
            format!("launcher, server and workers are all uid {launcher}: {cost}"),
            "start the launcher as root, with users.server and users.worker set to two system users",
        ),
    }
}
