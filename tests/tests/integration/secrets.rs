//! I1: where the PIN is not, and who cannot look.

use std::{fs, os::unix::fs::MetadataExt as _};

use mintwarden_client::api::DeviceState;
use mintwarden_tests::{Appliance, DEVICE, ISSUER, Process, Role, claims};

fn contains(text: &[u8], pin: &str) -> bool {
    text.windows(pin.len()).any(|window| window == pin.as_bytes())
}

/// The roles of all processes: none is missing.
fn roles(processes: &[Process]) -> Vec<Role> {
    processes.iter().map(|process| process.role).collect()
}

#[tokio::test]
async fn i1_the_pin_is_in_no_log_argument_environment_or_state() {
    let mut appliance = Appliance::softhsm().start_initialised().await;
    appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
    let processes = appliance.processes();
    assert_eq!(roles(&processes), [Role::Launcher, Role::Server, Role::Worker]);
    let pin = appliance.token().pin();
    assert!(pin.len() >= 16, "long enough not to be anywhere by chance");
    for process in &processes {
        let arguments = process.read("cmdline").unwrap();
        assert!(!contains(&arguments, &pin), "{process:?}");
        // To a plain user the environment of a process that is not dumpable is closed altogether.
        if let Ok(environment) = process.read("environ") {
            assert!(!contains(&environment, &pin), "{process:?}");
        }
    }
    appliance.stop().await;
    // Also when it is refused: another PIN, so that there is something to complain about.
    let wrong = "fedcba9876543210fedcba9876543210";
    appliance.token().write_pin_file(wrong);
    appliance.start().await;
    let device = appliance.until_device(DEVICE, DeviceState::Parked).await;
    appliance.stop().await;
    let said = appliance.log() + &device.detail;
    let mut files = vec![said.into_bytes()];
    let mut directories = vec![appliance.file("state")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                files.push(fs::read(path).unwrap());
            }
        }
    }
    assert!(files.len() > 2, "log, keysets and the record of the login");
    for secret in [&*pin, wrong] {
        assert!(!files.iter().any(|file| contains(file, secret)));
    }
}

#[tokio::test]
async fn i1_no_process_can_be_looked_into_and_each_has_its_own_user() {
    // As root the production set-up is tried: three users. As a plain user there is only one.
    let users = rustix::process::geteuid().is_root().then_some([1, 2]);
    let builder = Appliance::softhsm();
    let appliance = match users {
        // `daemon` and `bin`: Debian has these ids everywhere.
        Some([server, worker]) => builder.with_split_users(server, worker),
        None => builder,
    };
    let appliance = appliance.start_initialised().await;
    appliance.client().issuer(ISSUER).sign(claims::trade(1)).await.unwrap();
    let processes = appliance.processes();
    assert_eq!(roles(&processes), [Role::Launcher, Role::Server, Role::Worker]);
    for process in &processes {
        let status = String::from_utf8(process.read("status").unwrap()).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().to_owned()
        };
        let own = rustix::process::geteuid().as_raw();
        let expected = match (process.role, users) {
            (Role::Server, Some([server, _])) => server,
            (Role::Worker, Some([_, worker])) => worker,
            _ => own,
        };
        assert_eq!(field("Uid:"), expected.to_string(), "{process:?}");
        assert_eq!(field("NoNewPrivs:"), "1", "{process:?}");
        // The kernel gives the files of a process that is not dumpable to root (proc(5)).
        if expected != 0 {
            let owner = fs::metadata(format!("/proc/{}/environ", process.pid)).unwrap().uid();
            assert_eq!(owner, 0, "{process:?} is dumpable");
        }
        let limits = String::from_utf8(process.read("limits").unwrap()).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        let core: Vec<_> = core.split_whitespace().skip(4).take(2).collect();
        assert_eq!(core, ["0", "0"], "{process:?}");
    }
    if let Some([_, worker]) = users {
        // The server cannot get at the PIN, nor at the record of logins.
        let pin = appliance.token().soft_hsm().pin_file.metadata().unwrap();
        assert_eq!((pin.uid(), pin.mode() & 0o7777), (worker, 0o600));
        let record = appliance.file("state/devices/hsm-a").metadata().unwrap();
        assert_eq!((record.uid(), record.mode() & 0o7777), (worker, 0o700));
        let keysets = appliance.file("state/server").metadata().unwrap();
        assert_eq!((keysets.uid(), keysets.mode() & 0o7777), (users.unwrap()[0], 0o700));
    }
}
