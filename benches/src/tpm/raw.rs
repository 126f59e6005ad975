//! The raw loop: a process of its own, which signs as the worker does and nothing more.

use std::{
    env,
    io::{self, Write as _},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use aws_lc_rs::{
    digest,
    signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey},
};
use clap::{Args, ValueEnum};
use tss_esapi::{
    Context,
    attributes::{ObjectAttributesBuilder, SessionAttributesBuilder},
    constants::SessionType,
    handles::KeyHandle,
    interface_types::{
        algorithm::{HashingAlgorithm, PublicAlgorithm},
        ecc::EccCurve,
        resource_handles::Hierarchy,
        session_handles::AuthSession,
    },
    structures::{
        Auth, Digest, EccPoint, EccScheme, HashScheme, HashcheckTicket, Public, PublicBuilder,
        PublicEccParametersBuilder, Signature, SignatureScheme, SymmetricDefinition,
        SymmetricDefinitionObject,
    },
    tcti_ldr::TctiNameConf,
};

use crate::{
    error::{BenchError, system},
    options::Timing,
};

/// What the loop does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// `TPM2_Sign`.
    Sign,
    /// The same, and verification of each signature: what the product does.
    SignAndVerify,
}

/// One measurement.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The way to the TPM.
    #[arg(long)]
    tcti: String,
    /// What to do.
    #[arg(long, value_enum)]
    work: Work,
    /// Seconds that do not count.
    #[arg(long)]
    warm_up: f64,
    /// Seconds that count.
    #[arg(long)]
    measure: f64,
}

/// Has a process of its own measure; signatures a second.
///
/// # Errors
/// [`BenchError`].
///
/// # Panics
/// Never: the work has a name.
pub fn measure(tcti: &str, work: Work, timing: &Timing) -> Result<f64, BenchError> {
    let work = work.to_possible_value().expect("none is skipped");
    // A session of its own, as the appliance has: see `raw`.
    let output = Command::new("setsid")
        .arg("--wait")
        .arg(env::current_exe().map_err(system("own path"))?)
        .args(["tpm-raw", "--tcti", tcti, "--work", work.get_name()])
        .args(["--warm-up", &timing.warm_up.as_secs_f64().to_string()])
        .args(["--measure", &timing.measure.as_secs_f64().to_string()])
        .stderr(Stdio::inherit())
        .output()
        .map_err(system("starting the raw loop"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    said.trim().parse().map_err(|_| BenchError::Raw(format!("it ended with {}", output.status)))
}

/// The process: says how many signatures a second there were.
///
/// # Errors
/// [`BenchError`].
pub fn serve(arguments: &Arguments) -> Result<(), BenchError> {
    let mut signing = Signing::begin(&arguments.tcti).map_err(failed)?;
    let seconds = |seconds| Duration::try_from_secs_f64(seconds).map_err(failed);
    let (warm_up, measure) = (seconds(arguments.warm_up)?, seconds(arguments.measure)?);
    let warm = Instant::now() + warm_up;
    while Instant::now() < warm {
        signing.once(arguments.work)?;
    }
    let (begun, mut count) = (Instant::now(), 0_u32);
    while begun.elapsed() < measure {
        signing.once(arguments.work)?;
        count += 1;
    }
    let rate = f64::from(count) / begun.elapsed().as_secs_f64();
    drop(signing);
    writeln!(io::stdout(), "{rate}").map_err(system("standard output"))
}

fn failed(error: impl std::fmt::Display) -> BenchError {
    BenchError::Raw(error.to_string())
}

/// A key as the worker makes it, and a session as the worker has it.
struct Signing {
    context: Context,
    session: AuthSession,
    key: KeyHandle,
    public: ParsedPublicKey,
    digest: digest::Digest,
}

impl Signing {
    fn begin(tcti: &str) -> Result<Self, tss_esapi::Error> {
        let tcti = tcti.strip_prefix("swtpm:").unwrap_or(tcti);
        let mut context = Context::new(TctiNameConf::Swtpm(tcti.parse()?))?;
        let parent = context
            .execute_with_session(Some(AuthSession::Password), |context| {
                context.create_primary(Hierarchy::Owner, storage_key()?, None, None, None, None)
            })?
            .key_handle;
        let session = context.execute_without_session(|context| {
            let (hmac, aes) = (SessionType::Hmac, SymmetricDefinition::AES_128_CFB);
            let sha256 = HashingAlgorithm::Sha256;
            context.start_auth_session(Some(parent), None, None, hmac, aes, sha256)
        })?;
        let session = session.ok_or(tss_esapi::Error::WrapperError(
            tss_esapi::WrapperErrorKind::WrongValueFromTpm,
        ))?;
        let (attributes, mask) = SessionAttributesBuilder::new()
            .with_continue_session(true)
            .with_decrypt(true)
            .with_encrypt(true)
            .build();
        context.tr_sess_set_attributes(session, attributes, mask)?;
        let auth = Auth::try_from([7_u8; 32].as_slice())?;
        let (key, public) = context.execute_with_session(Some(session), |context| {
            let template = signing_key()?;
            let made = context.create(parent, template, Some(auth.clone()), None, None, None)?;
            let key = context.load(parent, made.out_private, made.out_public.clone())?;
            Ok::<_, tss_esapi::Error>((key, made.out_public))
        })?;
        context.tr_set_auth(key.into(), auth)?;
        let digest = digest::digest(&digest::SHA256, b"a signing input");
        Ok(Self { context, session, key, public: parsed(&public), digest })
    }

    fn once(&mut self, work: Work) -> Result<(), BenchError> {
        let Self { context, session, key, public, digest } = self;
        let ticket = HashcheckTicket::try_from(tss_esapi::tss2_esys::TPMT_TK_HASHCHECK {
            tag: tss_esapi::constants::tss::TPM2_ST_HASHCHECK,
            hierarchy: tss_esapi::constants::tss::TPM2_RH_NULL,
            digest: Default::default(),
        });
        let (ticket, input) = (ticket.map_err(failed)?, Digest::try_from(digest.as_ref()));
        let input = input.map_err(failed)?;
        let signature = context.execute_with_session(Some(*session), |context| {
            context.sign(*key, input, SignatureScheme::Null, ticket)
        });
        let Signature::EcDsa(signature) = signature.map_err(failed)? else {
            return Err(failed("it is no ECDSA signature"));
        };
        if work == Work::Sign {
            return Ok(());
        }
        let mut fixed = [0; 64];
        for (half, value) in [(0, signature.signature_r()), (32, signature.signature_s())] {
            let value = value.value();
            fixed[half + 32 - value.len()..half + 32].copy_from_slice(value);
        }
        let verified = public.verify_digest_sig(digest, &fixed);
        verified.map_err(|_| failed("a signature does not verify"))
    }
}

impl Drop for Signing {
    fn drop(&mut self) {
        // The process ends; what it leaves the appliance flushes at its start.
        let _flushed = self.context.flush_context(self.key.into());
    }
}

/// The key of a public area that was just made: P-256.
fn parsed(public: &Public) -> ParsedPublicKey {
    let Public::Ecc { unique, .. } = public else { unreachable!("an ECC key was asked for") };
    let mut point = [0; 65];
    point[0] = 4;
    for (at, value) in [(1, unique.x().value()), (33, unique.y().value())] {
        point[at + 32 - value.len()..at + 32].copy_from_slice(value);
    }
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).expect("a point of a TPM's")
}

/// The worker's storage key.
fn storage_key() -> Result<Public, tss_esapi::Error> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_no_da(true)
        .with_restricted(true)
        .with_decrypt(true)
        .build()?;
    let parameters = PublicEccParametersBuilder::new_restricted_decryption_key(
        SymmetricDefinitionObject::AES_128_CFB,
        EccCurve::NistP256,
    );
    template(attributes, parameters)
}

/// An issuer's key.
fn signing_key() -> Result<Public, tss_esapi::Error> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_no_da(true)
        .with_sign_encrypt(true)
        .build()?;
    let scheme = EccScheme::EcDsa(HashScheme::new(HashingAlgorithm::Sha256));
    let parameters =
        PublicEccParametersBuilder::new_unrestricted_signing_key(scheme, EccCurve::NistP256);
    template(attributes, parameters)
}

fn template(
    attributes: tss_esapi::attributes::ObjectAttributes,
    parameters: PublicEccParametersBuilder,
) -> Result<Public, tss_esapi::Error> {
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_ecc_parameters(parameters.build()?)
        .with_ecc_unique_identifier(EccPoint::default())
        .build()
}
