mod attest;
mod keys;
mod pcr;
mod proposals;

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand};

pub(crate) use attest::{Accepted, AttestCommand, Attestation, Verify};
pub(crate) use keys::{KeysCommand, Which, Why};
pub(crate) use pcr::{PcrCommand, State};
pub(crate) use proposals::{ActsCommand, ProposalsCommand, Proposed};

const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   the appliance refused, a line was not signed, or evidence does not prove enough
  2   wrong usage
  3   proposed, and nothing done yet: more custodians have to agree
  69  the appliance cannot be reached
  78  wrong configuration

Each connection option may also come from the environment, or from the configuration file,
in this order of precedence: option, environment, file. The file is
$XDG_CONFIG_HOME/mintwarden/ctl.toml (usually ~/.config/mintwarden/ctl.toml) and may hold:
  endpoint = \"https://mintwarden.example:7443\"   # or a list: [\"https://a\", \"https://b\"]
  cert = \"ada.crt\"      # relative to the file's directory
  key = \"ada.key\"
  ca = \"ca.crt\"
  timeout = \"10s\"";

/// Operate a Mintwarden signing appliance.
#[derive(Debug, Parser)]
#[command(name = "mintwardenctl", version, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

impl Args {
    pub(crate) fn split(self) -> (Global, Command) {
        (self.global, self.command)
    }
}

/// Options of all commands.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// Print JSON for programs instead of tables for people
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// How to reach the appliance.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Connection {
    /// The appliance: https://HOST:PORT or unix:/PATH [default: unix:/run/mintwarden/api.sock].
    /// Several that serve the same issuers may be given, with commas or as many options
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "MINTWARDEN_ENDPOINT",
        value_delimiter = ','
    )]
    pub(crate) endpoint: Vec<String>,
    /// Your certificate chain, PEM
    #[arg(long, global = true, value_name = "FILE", env = "MINTWARDEN_CERT")]
    pub(crate) cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, global = true, value_name = "FILE", env = "MINTWARDEN_KEY")]
    pub(crate) key: Option<PathBuf>,
    /// The CA that signed the appliance's certificate, PEM
    #[arg(long, global = true, value_name = "FILE", env = "MINTWARDEN_CA")]
    pub(crate) ca: Option<PathBuf>,
    /// How long a call may take, e.g. 500ms or 2m [default: 10s, of init, recover and
    /// keys attest 60s]
    #[arg(long, global = true, value_name = "DURATION", value_parser = parse_timeout)]
    pub(crate) timeout: Option<Duration>,
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create the first keys of an issuer that has never published
    Init {
        /// The issuer's name, e.g. payments-tts
        issuer: String,
        #[command(flatten)]
        why: Why,
    },
    /// After a store was emptied or put back: old keys only verify from now on, new ones are made
    ///
    /// The new keys sign once every verifier knows them.
    Recover {
        /// The issuer's name
        issuer: String,
        /// The new keys sign at once: verifiers refuse their tokens until they have asked again
        #[arg(long)]
        immature: bool,
        #[command(flatten)]
        why: Why,
    },
    /// Sign JSON payloads, one per line of standard input
    ///
    /// Prints one token (JWS compact serialization) per payload, in the order of the input. A line that
    /// is not signed gives no token but a JSON object on standard error: `line` (from 1), `reason`,
    /// `message`, and where they apply `claim` and `rule`. Signs while the input goes on.
    Sign {
        /// The issuer's name
        #[arg(long, value_name = "NAME")]
        issuer: String,
    },
    /// Print an issuer's published JWK Set
    Jwks {
        /// The issuer's name
        #[arg(long, value_name = "NAME")]
        issuer: String,
    },
    /// Look at keys, and act on them
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Challenge devices to show where keys live, and judge what they answer
    #[command(subcommand)]
    Attest(AttestCommand),
    /// Sign off states of machines that keys are bound to, offline
    #[command(subcommand)]
    Pcr(PcrCommand),
    /// Agree to acts that need more than one person, or do not
    #[command(subcommand)]
    Proposals(ProposalsCommand),
    /// Read the record of what custodians and the schedule did
    #[command(subcommand)]
    Acts(ActsCommand),
    /// Show how issuers and devices are
    Status,
    /// Act on devices
    #[command(subcommand)]
    Device(DeviceCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Let a parked device try again, e.g. after its PIN was corrected
    Resume {
        /// The device's name
        name: String,
        #[command(flatten)]
        why: Why,
    },
}

/// Reads a time limit such as `500ms` or `2m`.
pub(crate) fn parse_timeout(text: &str) -> Result<Duration, String> {
    let timeout =
        humantime::parse_duration(text).map_err(|error| format!("{error}; write e.g. 10s"))?;
    if timeout.is_zero() {
        return Err("zero leaves no time for an answer; write e.g. 10s".to_owned());
    }
    Ok(timeout)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn global_options_may_follow_the_command() {
        let (global, command) = Args::parse_from([
            "mintwardenctl",
            "keys",
            "list",
            "--issuer",
            "a",
            "--json",
            "--timeout",
            "2m",
        ])
        .split();
        assert!(global.json);
        assert_eq!(global.connection.timeout, Some(Duration::from_secs(120)));
        assert!(
            matches!(command, Command::Keys(KeysCommand::List { issuer: Some(issuer) }) if issuer == "a")
        );
    }

    #[test]
    fn a_kid_may_begin_with_a_hyphen() {
        let kid = "-jXx0QfPjJZdbnR_lSq3-hHCo0cYNpFHsMDRIBqjZ3U";
        let line = ["mintwardenctl", "keys", "revoke", kid, "--wait", "--reason", "lost", "--json"];
        let (global, command) = Args::parse_from(line).split();
        assert!(global.json);
        let Command::Keys(KeysCommand::Revoke { which, wait: true, why, .. }) = command else {
            panic!("{command:?}");
        };
        assert_eq!((&*which.kid, &*why.reason), (kid, "lost"));
        // Nor is it taken for an option, as long as it is none.
        let Command::Keys(KeysCommand::Show(which)) =
            Args::parse_from(["mintwardenctl", "keys", "show", "-hXx0QfP"]).split().1
        else {
            panic!("another command");
        };
        assert_eq!(which.kid, "-hXx0QfP");
    }

    #[test]
    fn of_a_revocations_choices_one_is_made() {
        let both = ["mintwardenctl", "keys", "revoke", "abcdefgh", "--wait", "--activate-immature"];
        assert!(Args::try_parse_from(both).is_err());
    }

    #[test]
    fn a_timeout_is_more_than_nothing() {
        assert!(parse_timeout("0s").unwrap_err().contains("zero"));
        assert!(parse_timeout("ten").is_err());
    }
}
