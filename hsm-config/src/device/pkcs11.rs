//! The keys of a `[[device]]` table that describe a PKCS#11 token.

use std::{ops::RangeInclusive, path::Path};

use super::{
    Device, DeviceEntry, DeviceKind, Pkcs11, Problem, TokenSelector,
    entry::{call_timeout, environment, secret_source},
};
use crate::{
    model::Model,
    quirks::{Quirks, QuirksEntry},
};

/// More sessions than this are a typing error, not a wish (I9).
const MAX_SESSIONS: usize = 1024;

/// With fewer bytes two keys would meet; with a shorter label no issuer would fit.
const MIN_ID_BYTES: usize = 2;
const MIN_LABEL_BYTES: usize = 24;

/// Lengths of `label` and `serialNumber` in `CK_TOKEN_INFO` (PKCS#11 v3.1 section 3.2).
const MAX_LABEL: usize = 32;
const MAX_SERIAL: usize = 16;

/// A table with `kind = "pkcs11"`, checked.
pub(super) fn resolve(entry: DeviceEntry, base_dir: &Path, dev: bool) -> Result<Device, Problem> {
    let absent = |key, hint| Problem::Absent { key, kind: "pkcs11", hint };
    let name = entry.model.ok_or(absent("model", "the make of the device; see docs/devices.md"))?;
    let pin = entry.pin.ok_or(absent("pin", "where the worker reads the user PIN"))?;
    let model = Model::find(&name).ok_or_else(|| Problem::UnknownModel {
        model: name.clone(),
        known: Model::all().iter().map(|model| model.name.as_str()).collect(),
    })?;
    if let Some(why) = &model.unusable {
        return Err(Problem::ModelUnusable { model: &model.name, why });
    }
    let module = match entry.module {
        Some(path) => base_dir.join(path),
        None => model
            .installed_module()
            .ok_or(Problem::ModuleNotInstalled {
                model: &model.name,
                looked_for: &model.module,
                install: &model.install,
            })?
            .to_owned(),
    };
    let sessions = sessions(entry.sessions.unwrap_or(model.sessions))?;
    if let Some(max) = model.max_sessions.filter(|max| sessions > *max) {
        return Err(Problem::Sessions { sessions, max });
    }
    Ok(Device {
        kind: DeviceKind::Pkcs11(Pkcs11 {
            model: name,
            module,
            token: selector(entry.token_label, entry.token_serial)?,
            pin: secret_source("pin", pin, base_dir, dev)?,
            init_args: init_args(entry.init_args)?,
            quirks: quirks(entry.quirks, model)?,
        }),
        sessions,
        call_timeout: call_timeout(entry.device_call_timeout)?,
        environment: environment(entry.environment, dev)?,
        name: entry.name,
    })
}

fn selector(label: Option<String>, serial: Option<String>) -> Result<TokenSelector, Problem> {
    let checked = |key, value: String, max| {
        let fits = (1..=max).contains(&value.len()) && !value.ends_with(' ');
        if fits { Ok(value) } else { Err(Problem::Unmatchable { key, value, max }) }
    };
    match (label, serial) {
        (Some(label), None) => checked("token_label", label, MAX_LABEL).map(TokenSelector::Label),
        (None, Some(serial)) => {
            checked("token_serial", serial, MAX_SERIAL).map(TokenSelector::Serial)
        }
        (label, _) => Err(Problem::Selector { both: label.is_some() }),
    }
}

fn init_args(text: Option<String>) -> Result<Option<String>, Problem> {
    match text {
        Some(text) if text.is_empty() || text.contains('\0') => Err(Problem::InitArgs),
        text => Ok(text),
    }
}

fn quirks(entry: Option<QuirksEntry>, model: &Model) -> Result<Quirks, Problem> {
    let quirks = entry.unwrap_or_default().over(model.quirks.clone());
    if let Err([one, other]) = quirks.provable() {
        return Err(Problem::Unprovable { one, other });
    }
    let in_range = |key, value, range: RangeInclusive<usize>| {
        let (min, max) = (*range.start(), *range.end());
        if range.contains(&value) { Ok(()) } else { Err(Problem::Quirk { key, value, min, max }) }
    };
    in_range("id_bytes", quirks.id_bytes, MIN_ID_BYTES..=Quirks::MAX_ID_BYTES)?;
    in_range("label_bytes", quirks.label_bytes, MIN_LABEL_BYTES..=Quirks::MAX_LABEL_BYTES)?;
    Ok(quirks)
}

fn sessions(sessions: usize) -> Result<usize, Problem> {
    if (1..=MAX_SESSIONS).contains(&sessions) {
        Ok(sessions)
    } else {
        Err(Problem::Sessions { sessions, max: MAX_SESSIONS })
    }
}
