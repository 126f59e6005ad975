use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Lease, Links, Pool, Route,
    health::{Health, Standing},
    link::LinkState,
};
use crate::{Error, http2::Connection};

/// Where a call can go.
pub(crate) enum Choice {
    Use(Lease),
    /// An endpoint is being connected to; at this time another one may be worth a probe.
    Wait {
        until: Option<Instant>,
    },
    /// All are set aside, until this time.
    None(Outage),
}

/// No endpoint is of use.
#[derive(Debug)]
pub(crate) struct Outage {
    /// When the first may be of use again.
    pub(crate) until: Instant,
    /// Why that one is set aside.
    pub(crate) error: Error,
    /// Whether every one of them failed since the time asked about.
    pub(crate) fresh: bool,
    /// Whether any failure may pass by itself.
    pub(crate) retryable: bool,
}

/// What one look over all endpoints has found.
struct Survey {
    best: Option<usize>,
    connecting: bool,
    /// To be connected to; their links say so already.
    due: Vec<usize>,
    outage: Option<Outage>,
}

impl Pool {
    /// The endpoint for a call, other than `avoid` if another one is of use. Whatever has no connection
    /// is connected to in the background.
    pub(crate) fn choose(
        self: &Arc<Self>,
        route: &Route,
        avoid: Option<usize>,
        now: Instant,
        since: Instant,
    ) -> Choice {
        let mut health = route.lock();
        let mut links = self.lock();
        let survey = survey(&mut links, &health, avoid, now, since);
        let taken = survey.best.and_then(|endpoint| {
            let connection = links.take(endpoint)?;
            let health = &mut health[endpoint];
            Some(Lease {
                pool: self.clone(),
                endpoint,
                connection,
                is_probe: health.use_it(now),
                generation: links.each[endpoint].generation,
                epoch: health.epoch(),
            })
        });
        drop((health, links));
        self.connect(&survey.due);
        match (taken, survey.outage) {
            (Some(lease), _) => Choice::Use(lease),
            (None, Some(outage)) if !survey.connecting => Choice::None(outage),
            (None, outage) => Choice::Wait { until: outage.map(|outage| outage.until) },
        }
    }

    /// Whether another endpoint than this would take a call now.
    pub(crate) fn has_other(&self, route: &Route, than: usize, now: Instant) -> bool {
        let health = route.lock();
        let mut links = self.lock();
        let survey = survey(&mut links, &health, Some(than), now, now);
        drop((health, links));
        self.connect(&survey.due);
        survey.best.is_some_and(|best| best != than)
    }
}

/// Looks at all endpoints. Those that it is time to connect to are marked as being connected to.
fn survey(
    links: &mut Links,
    health: &[Health],
    avoid: Option<usize>,
    now: Instant,
    since: Instant,
) -> Survey {
    let mut survey = Survey { best: None, connecting: false, due: Vec::new(), outage: None };
    let mut least = None;
    let (count, first) = (links.each.len(), links.next);
    for endpoint in (0..count).map(|step| (first + step) % count) {
        match (links.each[endpoint].state(now), health[endpoint].standing(now)) {
            (LinkState::Up, Standing::Well | Standing::Due) => {
                let load = (avoid == Some(endpoint), links.each[endpoint].calls);
                if least.is_none_or(|least| load < least) {
                    (least, survey.best) = (Some(load), Some(endpoint));
                }
            }
            (LinkState::SetAside { until, failed_at, error }, _)
            | (LinkState::Up, Standing::SetAside { until, failed_at, error }) => {
                survey.set_aside(until, error, failed_at >= since);
            }
            (LinkState::Connecting, _) => survey.connecting = true,
            (LinkState::Due, _) => {
                links.each[endpoint].connecting();
                survey.due.push(endpoint);
                survey.connecting = true;
            }
        }
    }
    survey
}

impl Links {
    /// The connection of an endpoint, for one more call.
    fn take(&mut self, endpoint: usize) -> Option<Connection> {
        let link = &mut self.each[endpoint];
        let connection = link.connection()?.clone();
        link.calls += 1;
        self.next = (endpoint + 1) % self.each.len();
        Some(connection)
    }
}

impl Survey {
    fn set_aside(&mut self, until: Instant, error: &Error, fresh: bool) {
        let retryable = error.is_retryable();
        let Some(outage) = &mut self.outage else {
            self.outage = Some(Outage { until, error: error.clone(), fresh, retryable });
            return;
        };
        // What may pass by itself says more than what will not.
        if (retryable, outage.until) > (outage.retryable, until) {
            outage.error = error.clone();
        }
        outage.until = outage.until.min(until);
        outage.fresh &= fresh;
        outage.retryable |= retryable;
    }
}
