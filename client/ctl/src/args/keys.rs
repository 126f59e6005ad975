use clap::{Args, Subcommand};

/// Why an act is done.
#[derive(Debug, Args)]
pub(crate) struct Why {
    /// Why; kept with the act
    #[arg(long, default_value = "")]
    pub(crate) reason: String,
}

/// Which key.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The key's kid, or its first characters: at least 8, and enough to tell it from all others
    #[arg(value_name = "KID", allow_hyphen_values = true)]
    pub(crate) kid: String,
    /// Its issuer; found by the kid where it is left out
    #[arg(long, value_name = "NAME")]
    pub(crate) issuer: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// List the keys of all issuers that you may see
    List {
        /// Only this issuer's
        #[arg(long, value_name = "NAME")]
        issuer: Option<String>,
    },
    /// Show one key with its history
    Show(Which),
    /// Have a key's device show where its private half lives
    ///
    /// Writes evidence, which `attest verify` judges. For custodians and auditors of the issuer.
    Attest(super::Attestation),
    /// Replace the active keys of an issuer now, as the schedule would
    ///
    /// Each is replaced by the oldest mature standby of its device. Where none is mature the old key goes
    /// on until one is.
    Rotate {
        /// The issuer's name
        issuer: String,
        /// Only the key in this device
        #[arg(long, value_name = "NAME")]
        device: Option<String>,
        #[command(flatten)]
        why: Why,
    },
    /// Let a standby be the next active key of its device, now
    Activate {
        #[command(flatten)]
        which: Which,
        /// Also if verifiers cannot know it yet: they refuse its tokens until they have asked again
        #[arg(long)]
        immature: bool,
        #[command(flatten)]
        why: Why,
    },
    /// Stop a key from signing, at once; it stays published
    ///
    /// Nothing takes the place of an active key by itself, but for another device of the issuer. `keys
    /// resume` undoes it.
    Suspend {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        why: Why,
    },
    /// Let a suspended key go on
    Resume {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        why: Why,
    },
    /// Unpublish and destroy a key, for good; a mature standby takes over in the same step
    ///
    /// Where no standby is mature, nothing is done without --activate-immature or --wait, and the answer
    /// says how long it would take.
    Revoke {
        #[command(flatten)]
        which: Which,
        /// Where no standby is mature: let one sign that verifiers may not know yet
        #[arg(long, conflicts_with = "wait")]
        activate_immature: bool,
        /// Where no standby is mature: sign nothing in its device until one is
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        why: Why,
    },
    /// Destroy the private key of a deactivated key now, without waiting for destroy_after
    Destroy {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        why: Why,
    },
}
