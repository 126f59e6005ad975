use std::io::{self, Write};

use comfy_table::{Table, presets::NOTHING};

use super::model::{DeviceStatus, Keysets, OneKey, Status};

pub(super) fn keysets(out: &mut impl Write, keysets: &Keysets) -> io::Result<()> {
    let mut keys =
        table(&["ISSUER", "STATE", "KID", "DEVICE", "ALGORITHM", "CREATED", "CHANGED", "NEXT"]);
    for keyset in &keysets.keysets {
        if keyset.keys.is_empty() {
            keys.add_row([keyset.issuer.as_str(), "(no keys; see: mintwardenctl init --help)"]);
        }
        for key in &keyset.keys {
            keys.add_row([
                &keyset.issuer,
                &key.state,
                text(&key.kid),
                &key.device,
                &key.algorithm,
                text(&key.created_at),
                text(&key.changed_at),
                text(&key.outlook),
            ]);
        }
    }
    print(out, &keys)
}

/// A line for each thing to know of a key.
pub(super) fn key(out: &mut impl Write, one: &OneKey) -> io::Result<()> {
    let Some(key) = &one.key else { return Ok(()) };
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    for (name, value) in [
        ("kid", text(&key.kid)),
        ("issuer", &one.issuer),
        ("device", &key.device),
        ("algorithm", &key.algorithm),
        ("state", &key.state),
        ("next", text(&key.outlook)),
        ("next at", text(&key.next_at)),
        ("in the JWK Set", yes(key.published)),
        ("mature", yes(key.mature)),
        ("created", text(&key.created_at)),
        ("published", text(&key.published_at)),
        ("activated", text(&key.activated_at)),
        ("stopped", text(&key.stopped_at)),
        ("unpublished", text(&key.unpublished_at)),
        ("last change", text(&key.changed_at)),
    ] {
        writeln!(out, "{name:<16}{value}")?;
    }
    if let Some(jwk) = &key.jwk {
        writeln!(out, "{:<16}{jwk}", "public key")?;
    }
    Ok(())
}

pub(super) fn status(out: &mut impl Write, status: &Status) -> io::Result<()> {
    writeln!(out, "mintwarden {}, running since {}\n", status.version, text(&status.started_at))?;
    let mut issuers = table(&["ISSUER", "READY", "REASON", "KEYS", "REVISION"]);
    for issuer in &status.issuers {
        issuers.add_row([
            issuer.name.as_str(),
            if issuer.ready { "yes" } else { "no" },
            text(&issuer.reason),
            &issuer.published_keys.to_string(),
            &issuer.revision.to_string(),
        ]);
    }
    print(out, &issuers)?;
    writeln!(out)?;
    let mut devices = table(&[
        "DEVICE",
        "KIND",
        "STATE",
        "REASON",
        "SESSIONS",
        "PER SEC",
        "STARTS",
        "DESCRIPTION",
    ]);
    for device in &status.devices {
        let rate = match device.signatures_per_second {
            0.0 => "-".to_owned(),
            slow if slow < 10.0 => format!("{slow:.1}"),
            rate => format!("{rate:.0}"),
        };
        devices.add_row([
            &device.name,
            &device.kind,
            &device.state,
            text(&device.reason),
            &device.sessions.to_string(),
            &rate,
            &device.starts.to_string(),
            text(&device.description),
        ]);
    }
    print(out, &devices)?;
    notes(out, status)
}

/// What does not fit into a cell: alarms, and what to do about devices.
fn notes(out: &mut impl Write, status: &Status) -> io::Result<()> {
    let appliance = status.alarms.iter().map(|alarm| ("appliance", alarm));
    let alarms = status
        .issuers
        .iter()
        .flat_map(|issuer| issuer.alarms.iter().map(move |alarm| (issuer.name.as_str(), alarm)));
    let alarms = appliance.chain(alarms);
    let details = status
        .devices
        .iter()
        .flat_map(|device| device.detail.iter().map(move |detail| (device.name.as_str(), detail)));
    let fault = |device: &DeviceStatus| {
        let fault = device.last_fault.as_ref()?;
        let (at, detail) = (text(&fault.at), text(&fault.detail));
        Some(format!("last fault at {at}: {} ({detail})", fault.reason))
    };
    let faults =
        status.devices.iter().filter_map(|device| Some((device.name.as_str(), fault(device)?)));
    let notes = alarms.chain(details).map(|(name, note)| (name, note.clone())).chain(faults);
    for (at, (name, note)) in notes.enumerate() {
        if at == 0 {
            writeln!(out)?;
        }
        writeln!(out, "{name}: {note}")?;
    }
    Ok(())
}

pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header.iter().copied());
    table
}

/// Without the spaces that pad the last column.
pub(super) fn print(out: &mut impl Write, table: &Table) -> io::Result<()> {
    table.trim_fmt().lines().try_for_each(|line| writeln!(out, "{}", line.trim_end()))
}

pub(super) fn text(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or("-")
}
