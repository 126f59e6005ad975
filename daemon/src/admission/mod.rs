//! Admission (I9): a batch is let in whole or refused at once; nothing piles up.

mod memory;
mod room;

use std::{collections::HashMap, time::Duration};

use mintwarden_worker::IssuerName;

pub use memory::{Memory, Occupied};
pub(crate) use room::share;

use self::room::{Room, Taken};
use crate::{
    config::{Config, fixed},
    identity::Caller,
};

/// When a refused caller may come back: about the time that a full house takes to empty.
const COME_BACK: Duration = Duration::from_millis(100);

/// The room that there is for requests.
#[derive(Debug)]
pub struct Admission {
    /// Of each issuer, with a number that tells it from the others.
    items: HashMap<IssuerName, (u32, Room)>,
    bytes: Room,
}

/// Room taken by one batch, until this is dropped.
#[derive(Debug)]
pub struct Permit {
    lane: Lane,
    _items: Taken,
    _bytes: Taken,
}

/// Who takes turns with whom in a device: callers of an issuer, and issuers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Tells the issuer from others.
    pub issuer: u32,
    /// Tells the caller from others of that issuer.
    pub caller: u32,
}

impl Permit {
    /// Whose batch it is.
    #[must_use]
    pub fn lane(&self) -> Lane {
        self.lane
    }
}

/// Why a batch is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Inadmissible {
    /// No items.
    #[error("the batch is empty")]
    Empty,
    /// Too many items.
    #[error("the batch has {0} items; at most {max} are allowed", max = fixed::MAX_BATCH_ITEMS)]
    TooManyItems(usize),
    /// Too many bytes.
    #[error("the batch has {0} bytes of claims; at most {max} are allowed", max = fixed::MAX_BATCH_BYTES)]
    TooManyBytes(usize),
    /// The house is full.
    #[error("too much is under way")]
    Overloaded {
        /// When to come back.
        retry_after: Duration,
    },
}

impl Inadmissible {
    /// The house is full.
    #[must_use]
    pub const fn overloaded() -> Self {
        Self::Overloaded { retry_after: COME_BACK }
    }
}

impl Admission {
    /// Room as configured.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let items = |issuer: &IssuerName| {
            Room::new(config.limits.max_inflight_items, &config.signers(Some(issuer)))
        };
        let issuers = config.issuers.iter().map(|issuer| issuer.name());
        Self {
            items: (0..).zip(issuers).map(|(n, name)| (name.clone(), (n, items(name)))).collect(),
            bytes: Room::new(config.limits.max_inflight_bytes, &config.signers(None)),
        }
    }

    /// Items of an issuer under way.
    #[must_use]
    pub fn in_flight(&self, issuer: &IssuerName) -> usize {
        self.items.get(issuer).map_or(0, |(_, room)| room.taken())
    }

    /// Bytes of claims under way.
    #[must_use]
    pub fn bytes_in_flight(&self) -> usize {
        self.bytes.taken()
    }

    /// Lets a batch of `caller`, who may sign for `issuer`, in. Where others may sign too, half of the
    /// room is the most that one caller gets.
    ///
    /// # Errors
    /// [`Inadmissible`], at once.
    pub fn admit<C: AsRef<[u8]>>(
        &self,
        issuer: &IssuerName,
        caller: &Caller,
        claims: &[C],
    ) -> Result<Permit, Inadmissible> {
        let (items, bytes) = (claims.len(), claims.iter().map(|c| c.as_ref().len()).sum());
        if items == 0 {
            return Err(Inadmissible::Empty);
        }
        if items > fixed::MAX_BATCH_ITEMS {
            return Err(Inadmissible::TooManyItems(items));
        }
        if bytes > fixed::MAX_BATCH_BYTES {
            return Err(Inadmissible::TooManyBytes(bytes));
        }
        let full = Inadmissible::overloaded;
        let take = |room: &Room, count| room.take(caller, count).ok_or_else(full);
        let (issuer, room) = self.items.get(issuer).ok_or_else(full)?;
        let (items, bytes) = (take(room, items)?, take(&self.bytes, bytes)?);
        let lane = Lane { issuer: *issuer, caller: items.caller };
        Ok(Permit { lane, _items: items, _bytes: bytes })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const CONFIG: &str = r#"
state_dir = "state"
[listen]
unix = "api.sock"
[[device]]
name = "hsm-a"
kind = "pkcs11"
model = "softhsm2"
token_label = "tts"
pin = { file = "pin" }
[[issuer]]
name = "a"
iss = "https://a.example"
devices = ["hsm-a"]
audience = ["a.example"]
[[issuer]]
name = "b"
iss = "https://b.example"
devices = ["hsm-a"]
audience = ["b.example"]
[[grant]]
role = "signer"
to = ["unix:uid=1"]
issuers = ["a", "b"]
"#;
    const SECOND: &str = r#"
[[grant]]
role = "signer"
to = ["unix:uid=2"]
issuers = ["a"]
"#;
    const FIRST: Caller = Caller::Unix(1);
    const OTHER: Caller = Caller::Unix(2);

    fn admission(config: &str) -> Admission {
        Admission::new(&Config::parse(config, Path::new("mintwarden.toml")).expect("good"))
    }

    fn issuer(name: &str) -> IssuerName {
        IssuerName::parse(name).expect("a name")
    }

    fn fill(admission: &Admission, name: &str, caller: &Caller, claims: &[Vec<u8>]) -> Vec<Permit> {
        let admit = || admission.admit(&issuer(name), caller, claims).ok();
        std::iter::from_fn(admit).collect()
    }

    #[test]
    fn i9_a_caller_with_the_largest_batches_leaves_half_of_the_bytes_to_others() {
        let admission = admission(&[CONFIG, SECOND].concat());
        let large = [vec![b' '; fixed::MAX_BATCH_BYTES]];
        let mut held = fill(&admission, "a", &FIRST, &large);
        let refused = admission.admit(&issuer("b"), &FIRST, &large).expect_err("its share is full");
        assert_eq!(refused, Inadmissible::overloaded());
        let others = fill(&admission, "a", &OTHER, &large);
        assert_eq!((held.len(), others.len()), (2, 2));
        held.pop();
        assert_eq!(fill(&admission, "a", &FIRST, &large).len(), 1, "what was held is there again");
    }

    #[test]
    fn i9_a_caller_with_the_most_items_leaves_half_of_an_issuers_to_others() {
        let admission = admission(&[CONFIG, SECOND].concat());
        let many = vec![vec![]; fixed::MAX_BATCH_ITEMS];
        let held = fill(&admission, "a", &FIRST, &many);
        let others = fill(&admission, "a", &OTHER, &many);
        assert_eq!((held.len(), others.len()), (4, 4));
        assert_eq!(admission.in_flight(&issuer("a")), 8192);
        // Nobody else may use the other issuer.
        assert_eq!(fill(&admission, "b", &FIRST, &many).len(), 8);
    }

    #[test]
    fn who_alone_may_sign_has_all_the_room() {
        let large = [vec![b' '; fixed::MAX_BATCH_BYTES]];
        assert_eq!(fill(&admission(CONFIG), "a", &FIRST, &large).len(), 4);
    }
}
