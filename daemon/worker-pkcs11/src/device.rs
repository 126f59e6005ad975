//! A PKCS#11 token as a [`Device`].

use std::{sync::Arc, time::Duration};

use cryptoki::{
    object::{Attribute, ObjectHandle},
    session::Session,
    slot::{Limit, Slot, TokenInfo},
};
use mintwarden_attestation::{Challenge, Residence};
use mintwarden_hsm_config::{device::DeviceKind, quirks::Quirks};
use mintwarden_worker::{
    IssuerName, KeySpec,
    device::{
        self, Cause, Description, Device, DeviceError, DeviceKey, KeyHandle, Remedy, Support,
    },
    finding::Finding,
    login::Ledger,
    setup::Setup,
    watch,
};

use crate::{
    attest, examine,
    fault::{ends_session, fault},
    library::Library,
    login::{is_logged_in, login, still_logged_in},
    mechanism::{Mechanisms, Offer},
    pair,
    session::SigningSession,
    token,
};

/// What making an RSA key may take beyond the bound on other calls. The server waits two minutes.
const RSA_PATIENCE: Duration = Duration::from_secs(90);

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
    /// How many sign, as configured.
    sessions: usize,
    mechanisms: Arc<Mechanisms>,
    quirks: Quirks,
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
        Self::open_telling(setup, &mut Vec::new())
    }

    /// As [`Pkcs11Device::open`]; notes in `seen` what it finds on the way, so that something is known
    /// of a device that cannot be opened or must not be logged in to.
    ///
    /// # Errors
    /// As [`Pkcs11Device::open`].
    pub fn open_telling(setup: &Setup, seen: &mut Vec<Finding>) -> Result<Self, DeviceError> {
        let DeviceKind::Pkcs11(config) = &setup.device.kind else {
            let detail = format!("device {} is not a PKCS#11 token", setup.device.name);
            return Err(DeviceError::of(Cause::ModuleUnusable, detail));
        };
        let ledger = Ledger::open(&setup.state_dir, setup.device.name.clone())?;
        let library = Library::open(&config.module, config.init_args.as_deref())?;
        seen.push(examine::module(&library));
        let (slot, token) = token::find(library.context(), &config.token)?;
        seen.extend(examine::token(&token, setup.device.sessions));
        if config.quirks.user_pin_flag && !token.user_pin_initialized() {
            // It is being set up right now, or was never finished. There is no PIN to log in with, so
            // no login is attempted, and a later start looks again.
            let detail = format!(
                "the PKCS#11 token with {} has no user PIN yet; set one (C_InitPIN)",
                config.token
            );
            return Err(DeviceError::of(Cause::TokenAbsent, detail));
        }
        if token.protected_authentication_path() {
            let detail = format!(
                "the PKCS#11 token with {} takes its PIN at a reader of its own \
                 (CKF_PROTECTED_AUTHENTICATION_PATH), which a service cannot operate; have it take \
                 the PIN from applications, or use another device",
                config.token
            );
            return Err(DeviceError::new(Cause::PinUnavailable, Remedy::Park, detail));
        }
        let management = watch::call(|| library.context().open_rw_session(slot))
            .map_err(|error| fault("opening the management session", &error))?;
        let offer = Offer::read(library.context(), slot)?;
        let mechanisms = Arc::new(Mechanisms::new(offer, config.quirks.hashing));
        for profile in &setup.profiles {
            seen.push(Finding::of_support(&profile.issuer, &mechanisms.support(profile.key)));
        }
        let (sessions, quirks) = (setup.device.sessions, config.quirks.clone());
        let management = Some(management);
        let device = Self { management, slot, token, sessions, mechanisms, quirks, library };
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
                let opened = watch::call(|| self.library.context().open_rw_session(self.slot));
                self.logged_in(opened.map_err(|e| fault("opening the management session", &e))?)?
            }
        };
        let outcome = work(&session);
        if outcome.as_ref().is_err_and(ends_session) {
            watch::call(|| drop(session));
        } else {
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
        let session = watch::call(|| self.library.context().open_ro_session(self.slot))
            .map_err(|error| fault("opening a session", &error))?;
        let session = self.logged_in(session)?;
        let mechanisms = Arc::clone(&self.mechanisms);
        Ok(Box::new(SigningSession::new(session, mechanisms, self.library.clone())))
    }

    fn supports(&self, key: KeySpec) -> Result<Support, DeviceError> {
        self.mechanisms.support(key)
    }

    fn generate(
        &mut self,
        issuer: &IssuerName,
        key: KeySpec,
        id: &KeyHandle,
    ) -> Result<DeviceKey, DeviceError> {
        let mechanism = self.mechanisms.making(key)?;
        let quirks = self.quirks.clone();
        let template = pair::Template::new(key, issuer, id, &quirks);
        self.manage(|session| {
            if !objects_with(session, id)?.is_empty() {
                let detail = format!("CKA_ID {id:?} is in use; a key is never replaced");
                return Err(DeviceError::of(Cause::KeyUnusable, detail));
            }
            let (public, private) = (&template.public, &template.private);
            // Prime numbers take their time: tens of seconds in some HSMs.
            let patience = if key.rsa_bits().is_some() { RSA_PATIENCE } else { Duration::ZERO };
            let make = || session.generate_key_pair(&mechanism, public, private);
            watch::call_with_patience(patience, make)
                .map_err(|error| fault("generating a key pair", &error))?;
            let made = pair::find(session, id, &quirks)?;
            still_logged_in(session)?;
            made.ok_or_else(|| {
                let detail = format!("the pair {id:?} was generated, but is not to be found");
                DeviceError::of(Cause::KeyAbsent, detail)
            })
        })
    }

    fn list(&mut self) -> Result<Vec<DeviceKey>, DeviceError> {
        let quirks = self.quirks.clone();
        self.manage(|session| {
            let found = pair::list(session, &quirks)?;
            still_logged_in(session)?;
            Ok(found)
        })
    }

    fn find(&mut self, handle: &KeyHandle) -> Result<Option<DeviceKey>, DeviceError> {
        let quirks = self.quirks.clone();
        self.manage(|session| {
            let found = pair::find(session, handle, &quirks)?;
            still_logged_in(session)?;
            Ok(found)
        })
    }

    fn examine(&mut self) -> Result<Vec<Finding>, DeviceError> {
        let token = watch::call(|| self.library.context().get_token_info(self.slot));
        let token =
            token.map_err(|error| fault("reading the PKCS#11 token's description", &error))?;
        let mut findings = vec![examine::module(&self.library)];
        findings.extend(examine::token(&token, self.sessions));
        Ok(findings)
    }

    fn destroy(&mut self, issuer: &IssuerName, id: &KeyHandle) -> Result<bool, DeviceError> {
        self.manage(|session| {
            // Before, lest only the public half be seen and destroyed; and after, for what is told of it.
            still_logged_in(session)?;
            let was_there = pair::destroy(session, issuer, id)?;
            still_logged_in(session)?;
            Ok(was_there)
        })
    }

    fn attest(
        &mut self,
        key: &DeviceKey,
        _challenge: &Challenge,
    ) -> Result<Residence, DeviceError> {
        let library = attest::library(self.library.context())?;
        let token = attest::token(self.library.context(), self.slot)?;
        let private_key = self.manage(|session| {
            still_logged_in(session)?;
            pair::private_attributes(session, &key.handle)
        })?;
        attest::claim(key, library, token, &private_key)
    }

    fn probe(&mut self) -> Result<(), DeviceError> {
        self.manage(still_logged_in)
    }
}

fn objects_with(session: &Session, id: &KeyHandle) -> Result<Vec<ObjectHandle>, DeviceError> {
    let like = [Attribute::Id(id.as_bytes().to_vec())];
    watch::call(|| session.find_objects(&like))
        .map_err(|error| fault("looking for objects with a CKA_ID", &error))
}
