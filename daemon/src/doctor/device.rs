//! A worker that was started for the examination, and what is known without it.

use std::{
    io::{self, Write as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
    time::Duration,
};

use mintwarden_hsm_config::{
    device::{Device, DeviceKind, Tcti, Tpm},
    model::Model,
    quirks::Quirks,
};
use mintwarden_worker::{
    device::KeptKey,
    finding::{Check, Finding},
    wire::{
        Answer, Ask, BUILD, Examine, FromWorker, Kept, LastWords, MAX_FRAME, ServerHello, ToWorker,
        read_frame, write_frame,
    },
};
use prost::Message as _;

use super::{account::DeviceAccount, bounded};
use crate::workers::examine;

/// How long a device may take to be opened: as long as under the launcher, since a login that is cut
/// short parks the device (I10).
const OPENING: Duration = Duration::from_secs(120);

/// What is known of a device's make.
pub(super) fn model(device: &Device) -> Finding {
    let pkcs11 = match &device.kind {
        DeviceKind::Pkcs11(pkcs11) => pkcs11,
        DeviceKind::Tpm(tpm) => {
            return tpm_model(device, tpm);
        }
        _ => return Finding::skipped(Check::DeviceModel, &device.name, "of another kind", ""),
    };
    let quirks = quirks(&pkcs11.quirks);
    let quirks = if quirks.is_empty() { "none".to_owned() } else { quirks.join(", ") };
    let known = match Model::find(&pkcs11.model) {
        Some(model) if model.run_here => "run by this project",
        Some(_) => "known from documentation alone: this project has never run one",
        None => "not known to this build",
    };
    let module = pkcs11.module.display();
    let found = format!("{}, {known}; {module}; quirks in force: {quirks}", pkcs11.model);
    Finding::ok(Check::DeviceModel, &device.name, found)
}

fn tpm_model(device: &Device, tpm: &Tpm) -> Finding {
    let check = Check::DeviceModel;
    let found = format!("a TPM 2.0 by way of {}", tpm.tcti);
    match (&tpm.tcti, tpm.tcti.is_managed(), tpm.exclusive) {
        (_, true, false) => {
            let found = format!("{found}, behind a resource manager");
            Finding::ok(check, &device.name, found)
        }
        (_, true, true) => {
            let found = format!("{found}, behind a resource manager and with exclusive = true");
            let remedy = "leave exclusive out: what others have loaded is not seen from here";
            Finding::warning(check, &device.name, found, remedy)
        }
        (Tcti::Device(_), false, _) => {
            let found = format!(
                "{found}, without a resource manager: what else uses this TPM is flushed at each start"
            );
            let remedy = "tcti = \"device:/dev/tpmrm0\", without exclusive";
            Finding::warning(check, &device.name, found, remedy)
        }
        (tcti, ..) if tcti.leaves_the_machine() => {
            let found = format!("{found}, over a network in clear");
            let remedy = "keep that network private to the two: who is on it sees what is signed, and can stop it";
            Finding::warning(check, &device.name, found, remedy)
        }
        _ => Finding::ok(check, &device.name, format!("{found}, used by nobody else")),
    }
}

/// In what a module differs from the usual, `key = value` each.
fn quirks(quirks: &Quirks) -> Vec<String> {
    let members = |quirks: &Quirks| match serde_json::to_value(quirks) {
        Ok(serde_json::Value::Object(members)) => members,
        _ => serde_json::Map::new(),
    };
    let usual = members(&Quirks::default());
    members(quirks)
        .into_iter()
        .filter(|(key, value)| usual.get(key) != Some(value))
        .map(|(key, value)| format!("{key} = {value}"))
        .collect()
}

/// Asks the worker behind `socket`; closing that ends it.
pub(super) fn ask(
    name: &str,
    socket: OwnedFd,
    kept: Vec<KeptKey>,
    within: Duration,
) -> DeviceAccount {
    let device = name.to_owned();
    let account = bounded(OPENING + within, move || {
        converse(&device, UnixStream::from(socket), kept, within).unwrap_or_else(|error| {
            let silent =
                matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
            let finding = if silent { examine::silent(&device) } else { broken(&device, &error) };
            DeviceAccount { device: device.clone(), findings: vec![finding], keys: None }
        })
    });
    account.unwrap_or_else(|| DeviceAccount {
        device: name.to_owned(),
        findings: vec![examine::silent(name)],
        keys: None,
    })
}

fn broken(device: &str, error: &io::Error) -> Finding {
    let found = format!("its worker ended or broke the protocol: {error}");
    let remedy = "run the doctor with --verbose to see what the worker says";
    Finding::fault(Check::DeviceState, device, found, remedy)
}

fn converse(
    device: &str,
    wire: UnixStream,
    kept: Vec<KeptKey>,
    within: Duration,
) -> io::Result<DeviceAccount> {
    wire.set_read_timeout(Some(OPENING))?;
    let kept = kept.into_iter().map(Kept::from).collect();
    send(&wire, 0, Ask::Hello(ServerHello { build: BUILD.into(), kept }))?;
    let hello = match receive(&wire)? {
        Some(Answer::Hello(hello)) => hello,
        Some(Answer::LastWords(last)) => return Ok(ended(device, vec![], &last)),
        _ => return Err(io::Error::other("its first message is no hello")),
    };
    if hello.build != BUILD {
        let what = format!("it is of build {:?}, not {BUILD}: install both together", hello.build);
        return Err(io::Error::other(what));
    }
    if let Some(unusable) = hello.unusable {
        let mut findings = examine::decode(&hello.findings);
        let (found, remedy) = if hello.parked {
            (format!("parked: {}", unusable.reason), "no start tries it again by itself")
        } else {
            (format!("not usable: {}", unusable.reason), "the next start tries it again")
        };
        findings.push(Finding::fault(Check::DeviceState, device, found, remedy));
        return Ok(DeviceAccount { device: device.to_owned(), findings, keys: None });
    }
    wire.set_read_timeout(Some(within))?;
    send(&wire, 1, Ask::Examine(Examine {}))?;
    match receive(&wire)? {
        Some(Answer::Examined(examined)) => {
            let mut account = examine::account(device, examined);
            let found = format!("it opened; {} sessions sign", hello.sessions);
            account.findings.push(Finding::ok(Check::DeviceState, device, found));
            Ok(account)
        }
        Some(Answer::Refused(refused)) => {
            let mut findings = examine::decode(&hello.findings);
            let found = format!("{}: {}", refused.reason, refused.detail);
            let remedy = "look at the device and its vendor's log";
            findings.push(Finding::fault(Check::DeviceState, device, found, remedy));
            Ok(DeviceAccount { device: device.to_owned(), findings, keys: None })
        }
        Some(Answer::LastWords(last)) => Ok(ended(device, examine::decode(&hello.findings), &last)),
        _ => Err(io::Error::other("it answered what was not asked")),
    }
}

/// A worker that ended while it was asked.
fn ended(device: &str, mut findings: Vec<Finding>, last: &LastWords) -> DeviceAccount {
    let found = format!("its worker ended: {}: {}", last.why.reason, last.why.detail);
    let remedy = "look at the device, its network and its vendor's log";
    findings.push(Finding::fault(Check::DeviceState, device, found, remedy));
    DeviceAccount { device: device.to_owned(), findings, keys: None }
}

fn send(mut wire: &UnixStream, id: u64, ask: Ask) -> io::Result<()> {
    let frame = ToWorker { id, ask: Some(ask) }.encode_to_vec();
    write_frame(&mut wire, &frame).map_err(io::Error::other)?;
    wire.flush()
}

fn receive(mut wire: &UnixStream) -> io::Result<Option<Answer>> {
    let mut frame = Vec::new();
    read_frame(&mut wire, MAX_FRAME, &mut frame).map_err(|error| match error {
        mintwarden_worker::wire::FrameError::Io(error) => error,
        other => io::Error::other(other),
    })?;
    Ok(FromWorker::read(frame.into()).map_err(io::Error::other)?.answer)
}

#[cfg(test)]
mod tests {
    use mintwarden_hsm_config::pin::PinSource;
    use mintwarden_worker::finding::Verdict;

    use super::*;

    #[test]
    fn a_way_to_a_tpm_that_leaves_the_machine_is_warned_of() {
        for (tcti, verdict) in [
            ("swtpm:host=127.0.0.1,port=2321", Verdict::Ok),
            ("swtpm:host=tpm,port=2321", Verdict::Warning),
        ] {
            let tpm = Tpm {
                tcti: tcti.parse().expect("a way"),
                secret: PinSource::File("secret".into()),
                exclusive: true,
                parent: None,
                pcrs: None,
            };
            let kind = DeviceKind::Tpm(tpm);
            let device = Device {
                name: "tpm-a".parse().expect("a name"),
                kind,
                sessions: 1,
                call_timeout: OPENING,
                environment: [].into(),
            };
            assert_eq!(model(&device).verdict, verdict, "{tcti}");
        }
    }

    #[test]
    fn quirks_are_told_where_they_differ_from_the_usual() {
        assert_eq!(quirks(&Quirks::default()), Vec::<String>::new());
        let unusual = Quirks { user_pin_flag: false, id_bytes: 2, ..Quirks::default() };
        assert_eq!(quirks(&unusual), ["id_bytes = 2", "user_pin_flag = false"]);
    }
}
