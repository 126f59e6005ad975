//! Modes and owners of files, and of every directory on the way to them.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use mintwarden_hsm_config::{
    device::{Device, DeviceKind, Tcti},
    pin::PinSource,
};
use mintwarden_worker::finding::{Check, Finding};

use super::users::Owners;
use crate::{config::Config, launcher::layout::Layout};

const ROOT: u32 = 0;
/// Write for group and others.
const FOREIGN_WRITE: u32 = 0o022;
/// Anything for group and others.
const FOREIGN: u32 = 0o077;

/// What there is to say about the files that the configuration names.
pub(super) fn examine(config: &Config, layout: &Layout, owners: Owners) -> Vec<Finding> {
    let mut findings = vec![unchangeable(Check::FileConfig, &config.path, &[owners.launcher])];
    if let Some(tls) = &config.tls {
        findings.push(private_key(&tls.private_key, owners));
    }
    for device in &config.devices {
        findings.push(pin(device, owners));
        match &device.kind {
            DeviceKind::Pkcs11(pkcs11) => {
                findings.push(unchangeable(Check::FileModule, &pkcs11.module, &[owners.launcher]));
            }
            DeviceKind::Tpm(tpm) => {
                if let Tcti::Device(path) = &tpm.tcti {
                    findings.push(device_file(path, owners));
                }
            }
            _ => {}
        }
    }
    findings.extend(state(config, layout, owners));
    findings
}

/// A file that only root and `owners` may be able to change.
fn unchangeable(check: Check, path: &Path, owners: &[u32]) -> Finding {
    let metadata = match look(check, path) {
        Ok(metadata) => metadata,
        Err(finding) => return finding,
    };
    let remedy =
        format!("chown root {0} && chmod go-w {0}, and the directories above", quoted(path));
    if let Some(problem) = changeable(&metadata, owners).or_else(|| way_to(path, owners)) {
        return Finding::fault(check, path.display(), problem, remedy);
    }
    Finding::ok(check, path.display(), described(&metadata))
}

fn private_key(path: &Path, owners: Owners) -> Finding {
    let check = Check::FilePrivateKey;
    let metadata = match look(check, path) {
        Ok(metadata) => metadata,
        Err(finding) => return finding,
    };
    let allowed = [owners.launcher, owners.server];
    let remedy = format!(
        "chown to the server's user (uid {}) and chmod 600 {}",
        owners.server,
        quoted(path)
    );
    if metadata.mode() & 0o007 != 0 {
        let found = format!("everybody can get at it ({})", described(&metadata));
        return Finding::fault(
            check,
            path.display(),
            found,
            format!("{remedy}; then replace the key"),
        );
    }
    if let Some(problem) = changeable(&metadata, &allowed).or_else(|| way_to(path, &allowed)) {
        return Finding::fault(check, path.display(), problem, remedy);
    }
    if metadata.mode() & 0o070 != 0 {
        let found = format!("group {} can get at it ({})", metadata.gid(), described(&metadata));
        return Finding::warning(check, path.display(), found, remedy);
    }
    Finding::ok(check, path.display(), described(&metadata))
}

/// A TPM's device file, which the worker has to be able to open for reading and writing.
fn device_file(path: &Path, owners: Owners) -> Finding {
    let check = Check::FileDevice;
    let metadata = match look(check, path) {
        Ok(metadata) => metadata,
        Err(finding) => return finding,
    };
    let of_group = format!("{}, gid {}", described(&metadata), metadata.gid());
    if !metadata.file_type().is_char_device() {
        let remedy = "name the kernel's resource manager: tcti = \"device:/dev/tpmrm0\"";
        return Finding::fault(check, path.display(), "is no device file", remedy);
    }
    let bits = match owners {
        Owners { worker: ROOT, .. } => 0o6,
        Owners { worker, .. } if worker == metadata.uid() => metadata.mode() >> 6,
        Owners { worker_group, .. } if worker_group == metadata.gid() => metadata.mode() >> 3,
        _ => metadata.mode(),
    };
    if bits & 0o6 != 0o6 {
        let Owners { worker, worker_group, .. } = owners;
        let found = format!(
            "the workers' user (uid {worker}, gid {worker_group}) cannot open it ({of_group})"
        );
        let remedy = "give the workers' user the file's group (mostly tss) as its primary group: \
                      usermod --gid tss USER";
        return Finding::fault(check, path.display(), found, remedy);
    }
    if metadata.mode() & 0o006 != 0 {
        let found = format!("everybody can use this TPM ({of_group})");
        let remedy = "chmod 660, by a rule of udev: others could fill it, or lock it out";
        return Finding::warning(check, path.display(), found, remedy);
    }
    Finding::ok(check, path.display(), of_group)
}

fn pin(device: &Device, owners: Owners) -> Finding {
    let check = Check::FilePin;
    let path = match device.secret() {
        PinSource::File(path) => path,
        PinSource::Credential(name) => {
            let found =
                format!("systemd hands the credential {name:?} over when it starts the unit");
            return Finding::skipped(check, &device.name, found, "");
        }
        PinSource::Env(name) => {
            return Finding::warning(
                check,
                &device.name,
                format!("the PIN comes from the environment variable {name}"),
                "for anything but development, use pin = { file = … } or { credential = … }",
            );
        }
    };
    let subject = format!("{}: {}", device.name, path.display());
    let metadata = match look(check, path) {
        Ok(metadata) => metadata,
        Err(finding) => return Finding { subject, ..finding },
    };
    let remedy = format!("chown {} {1} && chmod 600 {1}", owners.worker, quoted(path));
    if !metadata.is_file() {
        return Finding::fault(check, subject, "is no regular file", "put the PIN in a file");
    }
    if metadata.mode() & FOREIGN != 0 {
        let found = format!("others can get at the PIN ({})", described(&metadata));
        return Finding::fault(
            check,
            subject,
            found,
            format!("{remedy}; consider changing the PIN"),
        );
    }
    if metadata.uid() != owners.worker && owners.worker != ROOT {
        let found = format!(
            "belongs to uid {}, but the worker that has to read it is uid {}",
            metadata.uid(),
            owners.worker
        );
        return Finding::fault(check, subject, found, remedy);
    }
    if let Some(problem) = way_to(path, &[owners.launcher, owners.worker]) {
        return Finding::fault(check, subject, problem, remedy);
    }
    Finding::ok(check, subject, described(&metadata))
}

fn state(config: &Config, layout: &Layout, owners: Owners) -> Vec<Finding> {
    let base = &config.state_dir;
    if matches!(fs::metadata(base), Err(e) if e.kind() == io::ErrorKind::NotFound) {
        let found = "not there yet: the first start makes it";
        return vec![Finding::ok(Check::FileState, base.display(), found)];
    }
    let mut findings = vec![unchangeable(Check::FileState, base, &[owners.launcher])];
    let server = ["server", "anchor"].map(|name| (base.join(name), owners.server));
    let devices = config.devices.iter();
    let workers = devices.map(|device| (layout.device_dir(device.name.as_str()), owners.worker));
    for (path, owner) in workers.chain(server) {
        let metadata = match fs::metadata(&path) {
            // Made by the next start.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            _ => match look(Check::FileState, &path) {
                Ok(metadata) => metadata,
                Err(finding) => {
                    findings.push(finding);
                    continue;
                }
            },
        };
        let good = metadata.mode() & FOREIGN == 0 && metadata.uid() == owner;
        findings.push(if good {
            Finding::ok(Check::FileState, path.display(), described(&metadata))
        } else {
            let found =
                format!("should be of uid {owner} and mode 0700, is {}", described(&metadata));
            let remedy = "find out who changed it; the next start sets it right";
            Finding::fault(Check::FileState, path.display(), found, remedy)
        });
    }
    findings
}

/// The unix socket of a running appliance.
pub(super) fn socket(path: &Path) -> Finding {
    let check = Check::FileSocket;
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            let remedy = "take it away and restart the appliance";
            Finding::fault(check, path.display(), "is no socket", remedy)
        }
        Ok(found) if found.mode() & 0o222 != 0o222 => Finding::warning(
            check,
            path.display(),
            format!("some callers cannot connect ({})", described(&found)),
            "grants decide who may do what: chmod 666",
        ),
        Ok(found) => Finding::ok(check, path.display(), described(&found)),
        Err(error) => Finding::fault(
            check,
            path.display(),
            format!("callers do not find it: {error}"),
            "restart the appliance, and see what took the socket away",
        ),
    }
}

fn look(check: Check, path: &Path) -> Result<Metadata, Finding> {
    fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => Finding::skipped(
            check,
            path.display(),
            "this user may not look at it",
            "run the doctor as the user that starts the appliance",
        ),
        _ => Finding::fault(check, path.display(), error, "name a file that exists"),
    })
}

/// Who can change what has this metadata, if that is somebody else than root and `owners`.
fn changeable(metadata: &Metadata, owners: &[u32]) -> Option<String> {
    let (uid, mode) = (metadata.uid(), metadata.mode());
    if uid != ROOT && !owners.contains(&uid) {
        return Some(format!("belongs to uid {uid}, who can change it"));
    }
    // In a sticky directory, nobody can replace what belongs to another.
    let sticky = metadata.is_dir() && mode & 0o1000 != 0;
    (mode & FOREIGN_WRITE != 0 && !sticky)
        .then(|| format!("others than its owner can change it ({})", described(metadata)))
}

/// The first directory above `path` in which somebody else than root and `owners` could put another
/// file in its place.
fn way_to(path: &Path, owners: &[u32]) -> Option<String> {
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let above: Vec<PathBuf> = real.ancestors().skip(1).map(Path::to_owned).collect();
    above.into_iter().find_map(|directory| {
        let metadata = fs::metadata(&directory).ok()?;
        let problem = changeable(&metadata, owners)?;
        Some(format!("{} {problem}, and so put another file in its place", directory.display()))
    })
}

fn described(metadata: &Metadata) -> String {
    format!("mode {:04o}, uid {}", metadata.mode() & 0o7777, metadata.uid())
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use mintwarden_worker::finding::Verdict;

    use super::*;

    /// `/dev/null` is a device file that root has and everybody can open.
    #[test]
    fn a_device_file_has_to_be_one_and_not_everybodys() {
        let owners = Owners { launcher: 1, server: 2, worker: 3, worker_group: 4 };
        let null = device_file(Path::new("/dev/null"), owners);
        assert_eq!((null.check, null.verdict), (Check::FileDevice, Verdict::Warning), "{null:?}");
        let file = tempfile::NamedTempFile::new().expect("a file");
        assert_eq!(device_file(file.path(), owners).found, "is no device file");
        let absent = device_file(Path::new("/dev/no-such-tpm"), owners);
        assert_eq!(absent.verdict, Verdict::Fault);
        let console = Path::new("/dev/tty0");
        if fs::metadata(console).is_ok_and(|found| found.mode() & 0o006 != 0o006) {
            assert!(device_file(console, owners).found.contains("cannot open it"));
        }
    }
}
