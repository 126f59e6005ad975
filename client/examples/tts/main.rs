//! A Transaction Token Service that has no key: it decides, the appliance signs.
//!
//! An RFC 8693 token endpoint as draft-ietf-oauth-transaction-tokens profiles it, `POST /token`, over mutual
//! TLS. A start for a service of your own; docs/behind-your-tts.md tells the story around it.
//!
//! | module | what |
//! |---|---|
//! | `config` | the configuration file, and what it makes |
//! | `request` | the form of RFC 8693, parsed once into a type |
//! | `subject` | subject and actor tokens, verified |
//! | `delegation` | who acts for whom: pure |
//! | `rules` | what goes into `tctx` and `agentic_ctx`, and who may ask: pure |
//! | `exchange` | all of it in order, up to the signature |
//! | `endpoint` | HTTP |
//! | `tally` | how calls joined into batches: for metrics |
//! | `error` | refusals, as RFC 6749 section 5.2 has them |

mod config;
mod delegation;
mod endpoint;
mod error;
mod exchange;
mod request;
mod rules;
mod subject;
#[path = "../support/mod.rs"]
mod support;
mod tally;

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use clap::Parser as _;

use crate::{
    support::{Failure, listen},
    tally::Tally,
};

/// A Transaction Token Service that delegates its signing.
#[derive(clap::Parser)]
struct Arguments {
    /// The configuration file.
    #[arg(long)]
    config: PathBuf,
    /// What to log.
    #[arg(long, default_value = "info")]
    log: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    support::end("tts", run(Arguments::parse()).await)
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    support::log_to_stderr(&arguments.log)?;
    let config = config::read(&arguments.config)?;
    let tls = config.tls.server()?;
    let trust_domain = config.trust_domain()?;
    let tally = Arc::new(Tally::default());
    let exchange = config.exchange(tally.clone()).await?;
    let listener = listen::open("tts", config.listen).await?;
    listen::serve(listener, tls, trust_domain, endpoint::router(exchange)).await;
    tally.log();
    Ok(())
}
