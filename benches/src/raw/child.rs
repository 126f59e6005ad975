//! The process with the loop.

use std::{
    io::{self, BufRead as _, Write as _},
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use aws_lc_rs::{
    digest::{self, Digest},
    signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey},
};
use clap::Args;
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    mechanism::Mechanism,
    object::{Attribute, AttributeType, ObjectHandle},
    session::{Session, UserType},
    types::AuthPin,
};
use mintwarden_hsm_config::pin::PinSource;

use super::{Answer, Ask, Work};
use crate::{
    cpu,
    error::{BenchError, system},
};

/// `1.2.840.10045.3.1.7`, P-256, in DER.
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// Which PKCS#11 token the loop works with.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The PKCS#11 module.
    #[arg(long)]
    module: PathBuf,
    /// The PKCS#11 token's label.
    #[arg(long)]
    label: String,
    /// The file with the user PIN.
    #[arg(long)]
    pin: PathBuf,
    /// How many sessions work at once.
    #[arg(long)]
    sessions: usize,
}

fn failed(error: impl std::fmt::Display) -> BenchError {
    BenchError::Raw(error.to_string())
}

/// Answers on standard output what standard input asks, until that ends.
///
/// # Errors
/// [`BenchError::Raw`] and [`BenchError::System`].
pub fn serve(arguments: &Arguments) -> Result<(), BenchError> {
    let mut bench = Bench::open(arguments)?;
    for line in io::stdin().lock().lines() {
        let line = line.map_err(system("standard input"))?;
        let ask: Ask = serde_json::from_str(&line).map_err(failed)?;
        let answer = match ask.work {
            Work::Sign => bench.all_sessions(&ask, Bench::sign),
            Work::SignAndVerify => bench.all_sessions(&ask, Bench::sign_and_verify),
            Work::OneByOne => bench.one_by_one(&ask),
        }?;
        let mut text = serde_json::to_string(&answer).map_err(failed)?;
        text.push('\n');
        io::stdout().write_all(text.as_bytes()).map_err(system("standard output"))?;
    }
    Ok(())
}

/// Sessions and a key like the worker's.
struct Bench {
    sessions: Vec<Session>,
    key: Key,
    /// Keeps the login; last but one, so that sessions are closed before the module is finalised.
    _management: Session,
    _module: Module,
}

struct Key {
    private: ObjectHandle,
    public: ParsedPublicKey,
    digest: Digest,
}

struct Module(Option<Pkcs11>);

impl Drop for Module {
    fn drop(&mut self) {
        if let Some(context) = self.0.take() {
            // The process ends anyway.
            let _finalised = context.finalize();
        }
    }
}

impl Bench {
    fn open(arguments: &Arguments) -> Result<Self, BenchError> {
        let context = Pkcs11::new(&arguments.module).map_err(failed)?;
        context
            .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
            .map_err(failed)?;
        let is_ours = |slot: &_| {
            context.get_token_info(*slot).is_ok_and(|info| info.label().trim() == arguments.label)
        };
        let slots = context.get_slots_with_initialized_token().map_err(failed)?;
        let slot = slots.into_iter().find(is_ours);
        let slot = slot.ok_or_else(|| failed("no PKCS#11 token has the label"))?;
        let management = context.open_rw_session(slot).map_err(failed)?;
        let pin = PinSource::File(arguments.pin.clone()).read().map_err(failed)?;
        let pin = AuthPin::from(pin.expose_secret());
        management.login(UserType::User, Some(&pin)).map_err(failed)?;
        let key = Key::generate(&management)?;
        let open = |_| context.open_ro_session(slot).map_err(failed);
        let sessions = (0..arguments.sessions).map(open).collect::<Result<_, _>>()?;
        Ok(Self { sessions, key, _management: management, _module: Module(Some(context)) })
    }

    fn sign(session: &Session, key: &Key) -> Result<(), BenchError> {
        let digest = key.digest.as_ref();
        session.sign(&Mechanism::Ecdsa, key.private, digest).map(drop).map_err(failed)
    }

    fn sign_and_verify(session: &Session, key: &Key) -> Result<(), BenchError> {
        let signature =
            session.sign(&Mechanism::Ecdsa, key.private, key.digest.as_ref()).map_err(failed)?;
        let verified = key.public.verify_digest_sig(&key.digest, &signature);
        verified.map_err(|_| failed("a signature does not verify"))
    }

    fn all_sessions(
        &mut self,
        ask: &Ask,
        work: fn(&Session, &Key) -> Result<(), BenchError>,
    ) -> Result<Answer, BenchError> {
        let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
        let (stop, done, key) = (&stop, &done, &self.key);
        thread::scope(|scope| {
            let threads: Vec<_> = self
                .sessions
                .iter_mut()
                .map(|session| {
                    scope.spawn(move || {
                        while !stop.load(Ordering::Relaxed) {
                            work(session, key)?;
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(())
                    })
                })
                .collect();
            let reading = || (done.load(Ordering::Relaxed), Instant::now(), cpu::own());
            thread::sleep(ask.warm_up);
            let start = reading();
            thread::sleep(ask.measure);
            let end = reading();
            stop.store(true, Ordering::Relaxed);
            threads.into_iter().try_for_each(|thread| {
                thread.join().unwrap_or_else(|_| Err(failed("a thread panicked")))
            })?;
            Ok(Answer {
                signatures: end.0 - start.0,
                elapsed: end.1 - start.1,
                cpu: end.2 - start.2,
                latencies: Vec::new(),
            })
        })
    }

    fn one_by_one(&mut self, ask: &Ask) -> Result<Answer, BenchError> {
        let session = self.sessions.first().ok_or_else(|| failed("no session"))?;
        let warm = Instant::now() + ask.warm_up;
        while Instant::now() < warm {
            Self::sign_and_verify(session, &self.key)?;
        }
        let (start, cpu) = (Instant::now(), cpu::own());
        let mut latencies = Vec::new();
        let mut last = start;
        while last - start < ask.measure {
            Self::sign_and_verify(session, &self.key)?;
            let now = Instant::now();
            latencies.push(nanos(now - last));
            last = now;
        }
        let (elapsed, cpu) = (last - start, cpu::own() - cpu);
        Ok(Answer { signatures: latencies.len() as u64, elapsed, cpu, latencies })
    }
}

impl Key {
    /// A pair with the attributes that the worker asks for: what a module does for a private key on a
    /// PKCS#11 token costs more than for one in a session.
    fn generate(session: &Session) -> Result<Self, BenchError> {
        let public = [
            Attribute::Token(true),
            Attribute::Private(false),
            Attribute::Verify(true),
            Attribute::EcParams(P256.to_vec()),
        ];
        let private = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            Attribute::Decrypt(false),
            Attribute::Unwrap(false),
            Attribute::Derive(false),
        ];
        let (public, private) = session
            .generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)
            .map_err(failed)?;
        let point = session.get_attributes(public, &[AttributeType::EcPoint]).map_err(failed)?;
        let [Attribute::EcPoint(point)] = &point[..] else {
            return Err(failed("the public key has no CKA_EC_POINT"));
        };
        // A DER octet string of 65 bytes (PKCS#11 v3.1 section 6.3.3).
        let point = point.strip_prefix(&[0x04, 0x41]).unwrap_or(point);
        let public = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).map_err(failed)?;
        Ok(Self { private, public, digest: digest::digest(&digest::SHA256, b"a signing input") })
    }
}

fn nanos(duration: Duration) -> u32 {
    u32::try_from(duration.as_nanos()).unwrap_or(u32::MAX)
}
