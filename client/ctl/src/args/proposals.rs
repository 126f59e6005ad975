use clap::{Args, Subcommand};

use super::Why;

/// Which proposal.
#[derive(Debug, Args)]
pub(crate) struct Proposed {
    /// The proposal's id, or its first characters: at least 8, and enough to tell it from all others
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Its issuer; found by the id where it is left out
    #[arg(long, value_name = "NAME")]
    pub(crate) issuer: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProposalsCommand {
    /// List the proposals that wait for approvals
    List {
        /// Only this issuer's
        #[arg(long, value_name = "NAME")]
        issuer: Option<String>,
        /// Also those that ended last
        #[arg(long)]
        all: bool,
    },
    /// Show one proposal, and who has agreed
    Show(Proposed),
    /// Agree to a proposal: the last of as many persons as needed has it done
    Approve {
        #[command(flatten)]
        which: Proposed,
        #[command(flatten)]
        why: Why,
    },
    /// End a proposal; also your own, to withdraw it
    Reject {
        #[command(flatten)]
        which: Proposed,
        #[command(flatten)]
        why: Why,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ActsCommand {
    /// List who did what, when and why, and what the schedule did: the newest at the end
    List {
        /// Only of this issuer's keys
        #[arg(long, value_name = "NAME")]
        issuer: Option<String>,
        /// Only entries with a smaller number
        #[arg(long, value_name = "NUMBER")]
        before: Option<u64>,
        /// How many at most, up to 200
        #[arg(long, value_name = "COUNT", default_value_t = 50)]
        limit: u32,
    },
}
