//! The endpoints of a client: connections to all of them, and the choice of one for each call.
//!
//! - The first call connects to every endpoint, in the background. Calls go to the connected endpoint
//!   with the fewest calls under way, and wait only while there is none.
//! - An endpoint that cannot be reached is set aside with a back-off that doubles, and then tried
//!   again in the background when there is a call.
//! - An endpoint that answers `UNAVAILABLE` is set aside for that issuer only ([`Route`]), as long as
//!   it asks for; then one call probes it, and the others follow if that goes well. So is one that leaves
//!   a call without an answer, twice as long as that waited.
//!
//! An idle client sends nothing but pings, and has no timer but theirs.

mod choice;
mod connector;
mod health;
mod link;
mod route;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::sync::Notify;

pub(crate) use self::{choice::Choice, health::back_off, route::Route};
use self::{connector::Connecting, link::Link};
use crate::{
    Error, clock,
    connect::Target,
    http2::Connection,
    observe::{EndpointChange, EndpointState, Observer},
};

/// Made once for a client and its clones.
pub(crate) struct Pool {
    /// For the tasks that connect: they do not keep a client alive.
    this: Weak<Pool>,
    targets: Box<[Arc<Target>]>,
    connect_timeout: Duration,
    observer: Option<Arc<dyn Observer>>,
    links: Mutex<Links>,
    /// Wakes calls that wait for an endpoint.
    changed: Notify,
}

struct Links {
    each: Box<[Link]>,
    /// Where the search for the least loaded begins, so that equals take turns.
    next: usize,
}

/// An endpoint in use by one call.
pub(crate) struct Lease {
    pool: Arc<Pool>,
    pub(crate) endpoint: usize,
    pub(crate) connection: Connection,
    /// Whether the endpoint was set aside until now.
    pub(crate) is_probe: bool,
    generation: u64,
    epoch: u64,
}

impl Pool {
    pub(crate) fn new(
        targets: Vec<Target>,
        connect_timeout: Duration,
        observer: Option<Arc<dyn Observer>>,
    ) -> Arc<Self> {
        let each = targets.iter().map(|_| Link::default()).collect();
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            targets: targets.into_iter().map(Arc::new).collect(),
            connect_timeout,
            observer,
            links: Mutex::new(Links { each, next: 0 }),
            changed: Notify::new(),
        })
    }

    /// A route of its own for an issuer, or for calls that need no device.
    pub(crate) fn route(&self, issuer: Option<&str>) -> Route {
        Route::new(issuer.map(str::to_owned), self.targets.len())
    }

    pub(crate) fn name(&self, endpoint: usize) -> &Arc<str> {
        &self.targets[endpoint].name
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.targets.iter().map(|target| &*target.name)
    }

    pub(crate) fn observer(&self) -> Option<&dyn Observer> {
        self.observer.as_deref()
    }

    /// Completes at the next change; one that comes after this call is not missed.
    pub(crate) fn change(&self) -> impl Future<Output = ()> {
        self.changed.notified()
    }

    /// Connects to endpoints whose links say so already. Not to be called under a lock: where a task
    /// cannot be spawned, its drop says so to the link.
    fn connect(&self, endpoints: &[usize]) {
        let tasks: Vec<_> = endpoints
            .iter()
            .map(|&endpoint| {
                Connecting::new(self.this.clone(), endpoint, self.targets[endpoint].clone())
            })
            .collect();
        for connecting in tasks {
            tokio::spawn(connecting.run(self.connect_timeout));
        }
    }

    fn connected(&self, endpoint: usize, connection: Connection) -> u64 {
        let generation = self.lock().each[endpoint].connected(connection);
        self.announce(endpoint, EndpointState::Connected);
        generation
    }

    fn unreachable(&self, endpoint: usize, error: &Error) {
        let wait = self.lock().each[endpoint].failed(clock::now(), error.clone());
        let wait = wait.unwrap_or_default();
        self.announce(endpoint, EndpointState::SetAside { wait, error });
    }

    fn abandoned(&self, endpoint: usize) {
        self.lock().each[endpoint].abandoned();
        self.changed.notify_waiters();
    }

    fn disconnected(&self, endpoint: usize, generation: u64) {
        let was_used = self.lock().each[endpoint].lost(generation);
        if was_used {
            self.announce(endpoint, EndpointState::Disconnected);
        }
    }

    fn announce(&self, endpoint: usize, state: EndpointState<'_>) {
        self.changed.notify_waiters();
        if let Some(observer) = self.observer() {
            observer.endpoint(&EndpointChange { endpoint: self.name(endpoint), state });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Links> {
        // Links change in single steps, so a poisoned lock guards sound ones.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// The call was answered.
    pub(crate) fn served(&self, route: &Route) {
        let recovered = route.lock()[self.endpoint].succeed(self.epoch);
        if recovered && let Some(issuer) = route.issuer.as_deref() {
            self.pool.announce(self.endpoint, EndpointState::Recovered { issuer });
        } else if recovered {
            self.pool.changed.notify_waiters();
        }
    }

    /// The endpoint cannot serve the route: it is set aside, `at_least` so long.
    pub(crate) fn unavailable(&self, route: &Route, error: &Error, at_least: Duration) {
        let mut health = route.lock();
        let now = clock::now();
        let wait = health[self.endpoint].fail(self.epoch, now, at_least, error.clone());
        drop(health);
        if let (Some(wait), Some(issuer)) = (wait, route.issuer.as_deref()) {
            let state = EndpointState::SetAsideFor { issuer, wait, error };
            self.pool.announce(self.endpoint, state);
        }
    }

    /// The connection is of no use: the next call makes another one.
    pub(crate) fn broken(&self) {
        self.pool.disconnected(self.endpoint, self.generation);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.lock().each[self.endpoint].calls -= 1;
    }
}
