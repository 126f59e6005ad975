//! Where a module gets its rules: from the control socket, or from a script file.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};

use super::Engine;
use crate::{
    Rule, Script,
    control::{CONTROL, Rules, SCRIPT, Said},
    state::RULES,
};

/// How long the controlling side may take to send the first rules.
const LIMIT: Duration = Duration::from_secs(10);
/// How often a script file is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Where rules come from.
pub(super) enum Link {
    Control(BufReader<UnixStream>),
    Script(PathBuf, Option<SystemTime>),
    None,
}

impl Link {
    /// Finds it in the environment, and gets the first rules.
    #[expect(clippy::disallowed_methods, reason = "a module has no other way to be told")]
    pub(super) fn open() -> Result<(Self, Rules), String> {
        match (env::var_os(CONTROL), env::var_os(SCRIPT)) {
            (Some(_), Some(_)) => Err(format!("{CONTROL} and {SCRIPT}: set one of them")),
            (Some(socket), None) => connect(Path::new(&socket))
                .map_err(|error| format!("{CONTROL}: {}: {error}", socket.display())),
            (None, Some(script)) => {
                let script = PathBuf::from(script);
                let rules = read(&script)?;
                let modified = modified(&script);
                Ok((Self::Script(script, modified), Rules { sequence: 0, rules }))
            }
            (None, None) => Ok((Self::None, Rules::default())),
        }
    }

    /// Follows it as long as there is something to follow. What was last said stays in force.
    pub(super) fn follow(self, engine: &Engine) {
        match self {
            Self::None => {}
            Self::Control(mut stream) => {
                let mut line = String::new();
                while matches!(stream.read_line(&mut line), Ok(1..)) {
                    let Ok(rules) = serde_json::from_str::<Rules>(&line) else { return };
                    line.clear();
                    let sequence = rules.sequence;
                    engine.set(rules);
                    if say(stream.get_mut(), &Said::Applied(sequence)).is_err() {
                        return;
                    }
                }
            }
            Self::Script(path, mut before) => loop {
                thread::sleep(LOOK_AGAIN);
                let now = modified(&path);
                if now == before {
                    continue;
                }
                before = now;
                match read(&path) {
                    Ok(rules) => engine.set(Rules { sequence: 0, rules }),
                    Err(problem) => super::complain(&problem),
                }
            },
        }
    }
}

fn connect(socket: &Path) -> io::Result<(Link, Rules)> {
    let mut stream = UnixStream::connect(socket)?;
    say(&mut stream, &Said::Pid(std::process::id()))?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line)?;
    stream.get_ref().set_read_timeout(None)?;
    let rules: Rules = serde_json::from_str(&line)?;
    // In force before anyone can call a function, since none was found yet.
    say(stream.get_mut(), &Said::Applied(rules.sequence))?;
    Ok((Link::Control(stream), rules))
}

fn say(stream: &mut UnixStream, said: &Said) -> io::Result<()> {
    let mut line = serde_json::to_vec(said)?;
    line.push(b'\n');
    stream.write_all(&line)
}

fn read(script: &Path) -> Result<BTreeMap<usize, Rule>, String> {
    let problem = |what: String| format!("{SCRIPT}: {}: {what}", script.display());
    let text = fs::read(script).map_err(|error| problem(error.to_string()))?;
    let script: Script =
        serde_json::from_slice(&text).map_err(|error| problem(error.to_string()))?;
    if script.rules.len() > RULES {
        return Err(problem(format!("it has more than {RULES} rules")));
    }
    Ok(script.rules.into_iter().enumerate().collect())
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|metadata| metadata.modified()).ok()
}
