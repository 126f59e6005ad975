//! Users and directories: the server's own, and one for each worker.
//!
//! ```text
//! state_dir/lock              held by the launcher
//! state_dir/server/           the server's: keysets.redb
//! state_dir/anchor/           the server's: which commit of keysets.redb was the last
//! state_dir/devices/NAME/     the worker's: the record of pending logins (I10)
//! ```

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use crate::config::{Config, ConfigError, Users};

/// Who a child process runs as; `None`: as the launcher does.
pub(crate) type Identity = Option<(u32, u32)>;

/// Users and directories of a configuration, ready for use.
#[derive(Debug)]
pub(crate) struct Layout {
    state_dir: PathBuf,
    pub(crate) server: Identity,
    pub(crate) worker: Identity,
}

impl Layout {
    /// Looks up the users; makes nothing.
    pub(crate) fn of(config: &Config) -> Result<Self, ConfigError> {
        let error = |key: &str, what: String, remedy: &str| {
            ConfigError::key(&config.path, key, what, remedy)
        };
        let root = rustix::process::geteuid().is_root();
        let (server, worker) = match &config.users {
            Users::Split { server, worker } if root => (
                Some(look_up(server).ok_or_else(|| unknown(config, "users.server", server))?),
                Some(look_up(worker).ok_or_else(|| unknown(config, "users.worker", worker))?),
            ),
            Users::Inherit if root => {
                return Err(error(
                    "users",
                    "the launcher was started as root, and no users are named".into(),
                    "set users.server and users.worker to two system users, or start as a plain user",
                ));
            }
            _ => (None, None),
        };
        if let (Some((server, _)), Some((worker, _))) = (server, worker)
            && (server == worker || server == 0 || worker == 0)
        {
            return Err(error(
                "users",
                "server and worker have to be two users, neither of them root".into(),
                "name two system users",
            ));
        }
        Ok(Self { state_dir: config.state_dir.clone(), server, worker })
    }

    /// Makes the directories, each for its owner alone.
    pub(crate) fn make(&self, config: &Config) -> Result<(), ConfigError> {
        self.directories(config).map_err(|e| {
            ConfigError::key(
                &config.path,
                "state_dir",
                format!("{}: {e}", config.state_dir.display()),
                "name a directory that can be made and written",
            )
        })
    }

    fn directories(&self, config: &Config) -> io::Result<()> {
        // Others may pass through, and see nothing.
        make(&self.state_dir, 0o711, None)?;
        make(&self.state_dir.join("devices"), 0o711, None)?;
        for directory in ["server", "anchor"] {
            make(&self.state_dir.join(directory), 0o700, self.server)?;
        }
        for device in &config.devices {
            make(&self.device_dir(device.name.as_str()), 0o700, self.worker)?;
        }
        // systemd makes the runtime directory for root; the server has to bind in it.
        if let (Some(owner), Some(socket)) = (self.server, &config.listen.unix)
            && let Some(directory) = socket.parent()
            && (is_runtime_directory(directory) || !directory.exists())
        {
            make(directory, 0o755, Some(owner))?;
        }
        Ok(())
    }

    /// Takes the state directory for this process alone, as long as the file is open: a second
    /// launcher would start workers, and they would log in. `None` where another one has it.
    pub(crate) fn try_lock(&self) -> io::Result<Option<File>> {
        let path = self.state_dir.join("lock");
        let lock =
            File::options().create(true).truncate(false).write(true).mode(0o600).open(&path)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(lock)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// As [`try_lock`](Self::try_lock), for a launcher, which does not start without it.
    pub(super) fn lock(&self) -> io::Result<File> {
        self.try_lock()?.ok_or_else(|| {
            io::Error::other(format!(
                "{} is in use by another launcher, or is being examined by `mintwarden doctor`: one \
                 state directory serves one appliance",
                self.state_dir.display()
            ))
        })
    }

    /// The directory of a device's worker.
    pub(crate) fn device_dir(&self, device: &str) -> PathBuf {
        self.state_dir.join("devices").join(device)
    }
}

fn unknown(config: &Config, key: &str, name: &str) -> ConfigError {
    let remedy =
        format!("make it: useradd --system --no-create-home --shell /usr/sbin/nologin {name}");
    ConfigError::key(&config.path, key, format!("there is no user {name:?}"), remedy)
}

fn look_up(name: &str) -> Option<(u32, u32)> {
    let user = match name.parse() {
        Ok(uid) => uzers::get_user_by_uid(uid),
        Err(_) => uzers::get_user_by_name(name),
    };
    user.map(|user| (user.uid(), user.primary_group_id()))
}

#[expect(
    clippy::disallowed_methods,
    reason = "systemd names the runtime directory in the environment"
)]
fn is_runtime_directory(directory: &Path) -> bool {
    let named = std::env::var_os("RUNTIME_DIRECTORY").unwrap_or_default();
    std::env::split_paths(&named).any(|named| named == directory)
}

/// Makes a directory, or takes one that exists, with this mode and owner.
fn make(path: &Path, mode: u32, owner: Identity) -> io::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    made?;
    let (uid, gid) = owner.unwrap_or_else(|| {
        (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
    });
    let now = fs::metadata(path)?;
    if now.uid() != uid {
        chown(path, Some(uid), Some(gid))?;
    }
    if now.permissions().mode() & 0o7777 != mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}
