//! The baseline: a loop of the same device calls as the worker's, with as many sessions, and nothing
//! else but the verification of each signature.
//!
//! It runs in a process of its own, for two reasons: the module reads `SOFTHSM2_CONF` from its
//! process's environment, and the client's processor time and memory are to be its own. One JSON
//! line on its standard input asks for a measurement, one on its standard output answers.

pub mod child;

use std::{
    env,
    ffi::OsString,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use mintwarden_hsm_config::model::Model;
use mintwarden_tests::Token;
use serde::{Deserialize, Serialize};

use crate::{
    error::{BenchError, system},
    options::Timing,
    statistics::Latencies,
};

/// How many sessions the loop has: as many as the appliance with such a device, where its operator says
/// nothing.
///
/// # Panics
/// Never: a test of the models parses each.
#[must_use]
pub fn sessions() -> usize {
    Model::find("softhsm2").expect("a built-in model").sessions
}

/// What the loop does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// All sessions at once: `C_SignInit`, `C_Sign`.
    Sign,
    /// All sessions at once: `C_SignInit`, `C_Sign`, verification.
    SignAndVerify,
    /// One session: `C_SignInit`, `C_Sign`, verification, each timed.
    OneByOne,
}

#[derive(Debug, Serialize, Deserialize)]
struct Ask {
    work: Work,
    warm_up: Duration,
    measure: Duration,
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    signatures: u64,
    elapsed: Duration,
    cpu: Duration,
    /// Of single operations, nanoseconds; for [`Work::OneByOne`] only.
    latencies: Vec<u32>,
}

/// What the loop did within the time that counted.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Raw {
    /// Signatures a second.
    pub rate: f64,
    /// Processor time for each, in microseconds.
    pub cpu: f64,
    /// Of single operations, where they were timed.
    pub latencies: Option<Latencies>,
}

/// The process with the loop; waits to be asked. It ends when this is dropped.
pub struct RawLoop {
    child: Child,
    asks: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl RawLoop {
    /// Starts it, on a PKCS#11 token of its own in `directory`.
    ///
    /// # Errors
    /// [`BenchError`].
    ///
    /// # Panics
    /// If no PKCS#11 token can be provisioned.
    pub fn start(directory: &Path) -> Result<Self, BenchError> {
        let token = Token::provision(directory, "raw");
        Self::on(&token, &token.soft_hsm().module, sessions(), [])
    }

    /// Starts it on this PKCS#11 token, by way of `module` and with what that wants in its environment.
    ///
    /// # Errors
    /// [`BenchError`].
    pub fn on<const N: usize>(
        token: &Token,
        module: &Path,
        sessions: usize,
        environment: [(&str, OsString); N],
    ) -> Result<Self, BenchError> {
        let token = token.soft_hsm();
        // A session of its own, as the appliance has: where Linux shares out processors by session
        // (autogroup, see sched(7)), each is to get as much.
        let mut child = Command::new("setsid")
            .arg(env::current_exe().map_err(system("own path"))?)
            .arg("raw")
            .arg("--module")
            .arg(module)
            .arg("--label")
            .arg(&token.label)
            .arg("--pin")
            .arg(&token.pin_file)
            .args(["--sessions", &sessions.to_string()])
            .envs(environment)
            .env("SOFTHSM2_CONF", &token.conf)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(system("starting the raw loop"))?;
        let asks = child.stdin.take();
        let answers = child.stdout.take().expect("it was asked for above");
        Ok(Self { child, asks, answers: BufReader::new(answers) })
    }

    /// Runs the loop. Blocks.
    ///
    /// # Errors
    /// [`BenchError::Raw`]; the process has said why on standard error.
    pub fn measure(&mut self, work: Work, timing: &Timing) -> Result<Raw, BenchError> {
        let ask = Ask { work, warm_up: timing.warm_up, measure: timing.measure };
        let failed = |error: &dyn std::fmt::Display| BenchError::Raw(error.to_string());
        let mut line = serde_json::to_string(&ask).expect("a struct of numbers");
        line.push('\n');
        let asks = self.asks.as_mut().expect("kept until it is dropped");
        asks.write_all(line.as_bytes()).map_err(|e| failed(&e))?;
        line.clear();
        self.answers.read_line(&mut line).map_err(|e| failed(&e))?;
        let answer: Answer = serde_json::from_str(&line).map_err(|e| failed(&e))?;
        Ok(Raw::new(&answer))
    }
}

impl Raw {
    fn new(answer: &Answer) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let signatures = answer.signatures as f64;
        let latencies = answer.latencies.iter().map(|nanos| Duration::from_nanos((*nanos).into()));
        Self {
            rate: signatures / answer.elapsed.as_secs_f64(),
            cpu: answer.cpu.as_secs_f64() * 1e6 / signatures,
            latencies: Latencies::of(latencies.collect()),
        }
    }

    /// Half-way between two measurements: what to hold against one that was made between them.
    #[must_use]
    pub fn between(before: &Self, after: &Self) -> Self {
        let latencies = before.latencies.zip(after.latencies).map(|(a, b)| Latencies {
            count: a.count + b.count,
            p50: f64::midpoint(a.p50, b.p50),
            p99: f64::midpoint(a.p99, b.p99),
        });
        Self {
            rate: f64::midpoint(before.rate, after.rate),
            cpu: f64::midpoint(before.cpu, after.cpu),
            latencies,
        }
    }
}

impl Drop for RawLoop {
    fn drop(&mut self) {
        // The end of its standard input is the end of its work.
        self.asks = None;
        let _reaped = self.child.wait();
    }
}
