//! A relay before a swtpm: makes it slow, lets others use it beside a worker, and strikes at commands.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use super::rule::{Action, Command, Rc, Rule};

/// Tag, size and code: what every command and every answer begins with (TPM 2.0 part 1 section 18).
const HEADER: usize = 10;

/// More than any command or answer has.
const MAX_MESSAGE: usize = 16 * 1024;

const NO_SESSIONS: [u8; 2] = [0x80, 0x01];
const STARTUP_CLEAR: [u8; 12] = [0x80, 0x01, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0];
const STARTUP_STATE: [u8; 12] = [0x80, 0x01, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 1];
const SHUTDOWN_STATE: [u8; 12] = [0x80, 0x01, 0, 0, 0, 12, 0, 0, 1, 0x45, 0, 1];

/// `CMD_INIT` of swtpm's control channel, without flags: what a reset does to a TPM.
const CMD_INIT: [u8; 8] = [0, 0, 0, 2, 0, 0, 0, 0];

/// How often a command that a rule blocks looks whether the rule is still there.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A TCP relay before both channels of a swtpm, which itself serves one at a time: whoever connects here uses the
/// TPM beside the others, as with `/dev/tpm0`. Nothing keeps their objects and sessions apart. It ends with the
/// test's process.
pub struct Relay {
    port: u16,
    shared: Arc<Shared>,
}

/// A rule that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied(u64);

struct Shared {
    swtpm: u16,
    delay: AtomicU64,
    counts: Mutex<HashMap<u32, u64>>,
    rules: Mutex<Rules>,
    /// The one connection to the swtpm, and whose turn it is.
    wire: Mutex<Option<TcpStream>>,
}

#[derive(Default)]
struct Rules {
    next: u64,
    /// The oldest first.
    entries: BTreeMap<u64, Entry>,
}

struct Entry {
    rule: Rule,
    matched: u64,
    fired: u64,
}

impl Relay {
    /// A relay to the swtpm that serves its commands at this port.
    ///
    /// # Panics
    /// If no two ports in a row can be had.
    #[must_use]
    pub fn before(swtpm: u16) -> Self {
        let pair = || {
            let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
            let next = first.local_addr().ok()?.port().checked_add(1)?;
            Some((first, TcpListener::bind((Ipv4Addr::LOCALHOST, next)).ok()?))
        };
        let (commands, control) = (0..1000).find_map(|_| pair()).expect("two free ports in a row");
        let port = commands.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared {
            swtpm,
            delay: AtomicU64::default(),
            counts: Mutex::default(),
            rules: Mutex::default(),
            wire: Mutex::default(),
        });
        let relayed = Arc::clone(&shared);
        each_client(commands, move |client| relayed.serve(client));
        each_client(control, move |client| {
            // Without power the client's connection ends.
            let _ended = at(swtpm + 1).and_then(|swtpm| copy_both_ways(client, swtpm));
        });
        Self { port, shared }
    }

    /// The port of its command channel; that of the control channel is the next one.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on each command takes so much longer.
    ///
    /// # Panics
    /// If it is millennia.
    pub fn delay(&self, by: Duration) {
        let micros = u64::try_from(by.as_micros()).expect("a short time");
        self.shared.delay.store(micros, Ordering::Relaxed);
    }

    /// Commands of this kind up to now, those that were struck included.
    #[must_use]
    pub fn count(&self, command: Command) -> u64 {
        lock(&self.shared.counts).get(&(command as u32)).copied().unwrap_or(0)
    }

    /// Strikes from now on.
    pub fn add(&self, rule: Rule) -> Applied {
        let mut rules = lock(&self.shared.rules);
        rules.next += 1;
        let id = rules.next;
        rules.entries.insert(id, Entry { rule, matched: 0, fired: 0 });
        Applied(id)
    }

    /// Strikes no more. Returns how often it has.
    ///
    /// # Panics
    /// If it was removed before.
    pub fn remove(&self, rule: Applied) -> u64 {
        lock(&self.shared.rules).entries.remove(&rule.0).expect("it is there").fired
    }

    /// How often a rule has struck.
    ///
    /// # Panics
    /// If it was removed.
    #[must_use]
    pub fn fired(&self, rule: Applied) -> u64 {
        lock(&self.shared.rules).entries.get(&rule.0).expect("it is there").fired
    }

    /// Gives a command of the caller's own making, beside whoever uses the TPM: its response code, and the answer
    /// from there on.
    ///
    /// # Panics
    /// If the TPM does not answer.
    pub fn command(&self, command: &[u8]) -> (Rc, Vec<u8>) {
        let answer = self.shared.exchange(command).expect("the TPM answers");
        let code = answer[6..HEADER].try_into().expect("four bytes");
        (Rc(u32::from_be_bytes(code)), answer[HEADER..].to_vec())
    }
}

impl Shared {
    fn serve(&self, mut client: TcpStream) {
        while let Ok(command) = read_message(&mut client) {
            let Ok(answer) = self.answer(&command) else { break };
            if client.write_all(&answer).is_err() {
                break;
            }
        }
        // It may have ended already.
        let _ended = client.shutdown(Shutdown::Both);
    }

    /// The answer to a command.
    ///
    /// # Errors
    /// Ends the client's connection.
    fn answer(&self, command: &[u8]) -> io::Result<Vec<u8>> {
        let code = u32::from_be_bytes(command[6..HEADER].try_into().expect("four bytes"));
        *lock(&self.counts).entry(code).or_default() += 1;
        let Some((rule, action)) = self.strike(code) else { return self.exchange(command) };
        match action {
            Action::Answer(code) => Ok(refusal(code)),
            Action::Reset => {
                self.restart(None, STARTUP_CLEAR)?;
                self.exchange(command)
            }
            Action::Resume => {
                self.restart(Some(SHUTDOWN_STATE), STARTUP_STATE)?;
                self.exchange(command)
            }
            Action::HangUp => Err(io::ErrorKind::ConnectionReset.into()),
            Action::LoseAnswer => {
                self.exchange(command)?;
                Err(io::ErrorKind::ConnectionReset.into())
            }
            Action::Garble => {
                let mut answer = self.exchange(command)?;
                answer[HEADER..].fill(0xff);
                Ok(answer)
            }
            Action::Flip(byte) => {
                let mut answer = self.exchange(command)?;
                answer[byte] ^= 1;
                Ok(answer)
            }
            Action::Extend(pcr) => {
                let answer = self.exchange(&pcr_extend(pcr))?;
                assert_eq!(answer[6..HEADER], [0; 4], "TPM2_PCR_Extend");
                self.exchange(command)
            }
            Action::Block => {
                while lock(&self.rules).entries.contains_key(&rule) {
                    thread::sleep(LOOK_AGAIN);
                }
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
    }

    /// The rule that strikes at this command; the oldest, if several do.
    fn strike(&self, code: u32) -> Option<(u64, Action)> {
        let mut rules = lock(&self.rules);
        rules.entries.iter_mut().find_map(|(id, entry)| {
            if entry.rule.on.is_some_and(|on| on as u32 != code) {
                return None;
            }
            entry.matched += 1;
            let is_over = entry.rule.times.is_some_and(|times| entry.fired >= times);
            if entry.matched <= entry.rule.after || is_over {
                return None;
            }
            entry.fired += 1;
            Some((*id, entry.rule.action))
        })
    }

    /// One command at a time. A swtpm that has lost its power is connected to again.
    fn exchange(&self, command: &[u8]) -> io::Result<Vec<u8>> {
        let mut wire = lock(&self.wire);
        thread::sleep(Duration::from_micros(self.delay.load(Ordering::Relaxed)));
        let mut swtpm = match wire.take() {
            Some(swtpm) => swtpm,
            None => at(self.swtpm)?,
        };
        swtpm.write_all(command)?;
        let answer = read_message(&mut swtpm)?;
        *wire = Some(swtpm);
        Ok(answer)
    }

    fn restart(&self, before: Option<[u8; 12]>, startup: [u8; 12]) -> io::Result<()> {
        if let Some(shutdown) = before {
            self.exchange(&shutdown)?;
        }
        let mut control = at(self.swtpm + 1)?;
        control.write_all(&CMD_INIT)?;
        let mut result = [0xff; 4];
        control.read_exact(&mut result)?;
        assert_eq!(result, [0; 4], "swtpm does not take CMD_INIT");
        let answer = self.exchange(&startup)?;
        assert_eq!(answer, refusal(Rc(0)), "TPM2_Startup");
        Ok(())
    }
}

/// `TPM2_PCR_Extend` of a PCR in the SHA-256 bank, in a session of the empty password.
fn pcr_extend(pcr: u8) -> Vec<u8> {
    let rest = [
        &[0, 0, 0, pcr, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0][..],
        &[0, 0, 0, 1, 0, 0x0b],
        &[0xab; 32],
    ]
    .concat();
    let size = u32::try_from(HEADER + rest.len()).expect("a short command");
    [&[0x80, 0x02][..], &size.to_be_bytes(), &0x182_u32.to_be_bytes(), &rest].concat()
}

/// An answer that is a response code and nothing else.
fn refusal(code: Rc) -> Vec<u8> {
    [&NO_SESSIONS[..], &10_u32.to_be_bytes(), &code.0.to_be_bytes()].concat()
}

/// A command or an answer, whole.
fn read_message(from: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; HEADER];
    from.read_exact(&mut message)?;
    let size = u32::from_be_bytes(message[2..6].try_into().expect("four bytes"));
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if !(HEADER..=MAX_MESSAGE).contains(&size) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    message.resize(size, 0);
    from.read_exact(&mut message[HEADER..])?;
    Ok(message)
}

fn at(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn each_client(listener: TcpListener, serve: impl Fn(TcpStream) + Send + Sync + 'static) {
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            if client.set_nodelay(true).is_ok() {
                thread::spawn(move || serve(client));
            }
        }
    });
}

fn copy_both_ways(client: TcpStream, swtpm: TcpStream) -> io::Result<()> {
    let (answering, answers) = (client.try_clone()?, swtpm.try_clone()?);
    thread::spawn(move || copy(answers, answering));
    copy(client, swtpm);
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    // However it ends, both end; either may have already.
    let _copied = io::copy(&mut from, &mut to);
    let _ended = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
