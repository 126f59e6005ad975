//! A PKCS#11 token as a [`Device`].

use cryptoki::{
    mechanism::MechanismType,
    object::{Attribute, ObjectHandle},
    session::Session,
    slot::{Limit, Slot, TokenInfo},
};
use mintwarden_hsm_config::device::DeviceKind;
use mintwarden_worker::{
    Algorithm, IssuerName,
    device::{self, Cause, Description, Device, DeviceError, DeviceKey, KeyHandle, Remedy},
    login::Ledger,
    setup::Setup,
};

use crate::{
    fault::{ends_session, fault},
    library::Library,
    login::{is_logged_in, login},
    pair,
    scheme::Scheme,
    session::SigningSession,
    token,
};

/// A PKCS#11 token that this process is logged in to.
///
/// One read-write session of its own makes and examines keys; signing sessions are read-only and
/// belong to their threads. The login is of the process, not of a session: it is made once, by
/// [`Pkcs11Device::open`], and where it is lost the process has to be started afresh.
#[derive(Debug)]
pub struct Pkcs11Device {
    /// `None` after an error that cost the session; opened again at the next call.
    management: Option<Session>,
    slot: Slot,
    token: TokenInfo,
    /// Last, so that the session is closed before the module can be finalised.
    library: Library,
}

impl Pkcs11Device {
    /// Loads the module, finds the PKCS#11 token, and logs in at most once (I10).
    ///
    /// # Errors
    /// - [`Cause::ModuleUnusable`], [`Cause::TokenAbsent`], [`Cause::TokenAmbiguous`],
    ///   [`Cause::PinUnavailable`], [`Cause::StateUnusable`]: no login was attempted;
    /// - [`Cause::LoginPending`]: no login was attempted, because of an earlier one;
    /// - [`Cause::LoginFailed`]: the login did not clearly succeed;
    /// - others as the module gives them.
    pub fn open(setup: &Setup) -> Result<Self, DeviceError> {
        let DeviceKind::Pkcs11(config) = &setup.device.kind else {
            let detail = format!("device {} is not a PKCS#11 token", setup.device.name);
            return Err(DeviceError::new(Cause::ModuleUnusable, Remedy::Park, detail));
        };
        let ledger = Ledger::open(&setup.state_dir, setup.device.name.clone())?;
        let library = Library::open(&config.module)?;
        let (slot, token) = token::find(library.context(), &config.token)?;
        if !token.user_pin_initialized() {
            // It is being set up right now, or was never finished. There is no PIN to log in with, so
            // no login is attempted, and a later start looks again.
            let detail = format!(
                "the PKCS#11 token with {} has no user PIN yet; set one (C_InitPIN)",
                config.token
            );
            return Err(DeviceError::new(Cause::TokenAbsent, Remedy::Restart, detail));
        }
        let management = library
            .context()
            .open_rw_session(slot)
            .map_err(|error| fault("opening the management session", &error))?;
        let device = Self { management: Some(management), slot, token, library };
        let session = device.management.as_ref().expect("it was put there above");
        login(session, &device.token, &config.pin, &ledger, setup.resume)?;
        Ok(device)
    }

    /// Does `work` with the management session; opens it again if it was lost, and gives it up after
    /// an error that calls for it.
    fn manage<T>(
        &mut self,
        work: impl FnOnce(&Session) -> Result<T, DeviceError>,
    ) -> Result<T, DeviceError> {
        let session = match self.management.take() {
            Some(session) => session,
            None => {
                let opened = self.library.context().open_rw_session(self.slot);
                self.logged_in(opened.map_err(|e| fault("opening the management session", &e))?)?
            }
        };
        let outcome = work(&session);
        if !outcome.as_ref().is_err_and(ends_session) {
            self.management = Some(session);
        }
        outcome
    }

    fn logged_in(&self, session: Session) -> Result<Session, DeviceError> {
        if is_logged_in(&session)? {
            return Ok(session);
        }
        // Logging in again is for a fresh process, which does it through the record of logins.
        let detail = "a new session is not logged in: the PKCS#11 token forgot the login";
        Err(DeviceError::new(Cause::SessionLost, Remedy::Restart, detail))
    }
}

impl Device for Pkcs11Device {
    fn describe(&self) -> Description {
        let text = |text: &str| token::padding_off(text).to_owned();
        Description {
            manufacturer: text(self.token.manufacturer_id()),
            model: text(self.token.model()),
            serial: text(self.token.serial_number()),
            label: text(self.token.label()),
            library: self.library.describe(),
        }
    }

    fn max_sessions(&self) -> Option<usize> {
        match self.token.max_session_count() {
            // One is the management session.
            Limit::Max(limit) => {
                Some(usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(1))
            }
            Limit::Infinite | Limit::Unavailable => None,
        }
    }

    fn open_session(&mut self) -> Result<Box<dyn device::Session>, DeviceError> {
        let session = self
            .library
            .context()
            .open_ro_session(self.slot)
            .map_err(|error| fault("opening a session", &error))?;
        let session = self.logged_in(session)?;
        Ok(Box::new(SigningSession::new(session, self.library.clone())))
    }

    fn supports(&self, algorithm: Algorithm) -> Result<(), DeviceError> {
        let needed = Scheme::of(algorithm)?.mechanisms();
        let there = self
            .library
            .context()
            .get_mechanism_list(self.slot)
            .map_err(|error| fault("listing the mechanisms", &error))?;
        let lacking: Vec<_> = needed.iter().filter(|wanted| !there.contains(wanted)).collect();
        if lacking.is_empty() {
            return Ok(());
        }
        let names = |mechanisms: &mut dyn Iterator<Item = &MechanismType>| {
            mechanisms.map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let detail = format!(
            "{algorithm} needs {}, which this PKCS#11 token lacks; it has {}",
            names(&mut lacking.into_iter()),
            names(&mut there.iter())
        );
        Err(DeviceError::new(Cause::MechanismMissing, Remedy::Refuse, detail))
    }

    fn generate(
        &mut self,
        issuer: &IssuerName,
        algorithm: Algorithm,
        id: &KeyHandle,
    ) -> Result<DeviceKey, DeviceError> {
        let scheme = Scheme::of(algorithm)?;
        let template = pair::Template::new(&scheme, issuer, id);
        self.manage(|session| {
            if !objects_with(session, id)?.is_empty() {
                let detail = format!("CKA_ID {id:?} is in use; a key is never replaced");
                return Err(DeviceError::new(Cause::KeyUnusable, Remedy::Refuse, detail));
            }
            session
                .generate_key_pair(&scheme.generate, &template.public, &template.private)
                .map_err(|error| fault("generating a key pair", &error))?;
            pair::find(session, id)?.ok_or_else(|| {
                let detail = format!("the pair {id:?} was generated, but is not to be found");
                DeviceError::new(Cause::KeyAbsent, Remedy::Refuse, detail)
            })
        })
    }

    fn list(&mut self) -> Result<Vec<DeviceKey>, DeviceError> {
        self.manage(pair::list)
    }

    fn find(&mut self, handle: &KeyHandle) -> Result<Option<DeviceKey>, DeviceError> {
        self.manage(|session| pair::find(session, handle))
    }

    fn probe(&mut self) -> Result<(), DeviceError> {
        self.manage(|session| {
            if is_logged_in(session)? {
                return Ok(());
            }
            // Whether only this session lost the login, a new one will tell.
            let detail = "the management session is not logged in any more";
            Err(DeviceError::new(Cause::SessionLost, Remedy::Reopen, detail))
        })
    }
}

fn objects_with(session: &Session, id: &KeyHandle) -> Result<Vec<ObjectHandle>, DeviceError> {
    session
        .find_objects(&[Attribute::Id(id.as_bytes().to_vec())])
        .map_err(|error| fault("looking for objects with a CKA_ID", &error))
}
