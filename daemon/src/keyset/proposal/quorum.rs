//! How many have to agree, and who counts.

use std::collections::BTreeSet;

use super::{Approval, Proposal};
use crate::{
    access::{Custodian, Custodians},
    config::{Approvals, Person},
    keyset::act::{CustodianAct, Fallback},
    record::By,
};

/// Who has to agree for one issuer, by the configuration in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quorum {
    /// How many persons, for each act; and how long a proposal waits for them.
    pub approvals: Approvals,
    /// Who counts.
    pub custodians: Custodians,
}

impl Quorum {
    /// How many persons an act needs: where it is more than one thing, as many as the part that needs
    /// most.
    #[must_use]
    pub fn needed(&self, act: &CustodianAct) -> usize {
        let Approvals { init, recover, rotate, activate, resume, revoke, destroy, .. } =
            self.approvals;
        let (persons, immature) = match act {
            CustodianAct::Init => (init, false),
            CustodianAct::Recover { danger_immature } => (recover, *danger_immature),
            CustodianAct::Rotate { .. } => (rotate, false),
            CustodianAct::Activate { danger_immature, .. } => (activate, *danger_immature),
            // The brake: one person, at once.
            CustodianAct::Suspend { .. } => (1, false),
            CustodianAct::Resume { .. } => (resume, false),
            CustodianAct::Revoke { fallback, .. } => {
                (revoke, *fallback == Some(Fallback::DangerImmature))
            }
            CustodianAct::Destroy { .. } => (destroy, false),
        };
        if immature { persons.max(self.approvals.activate_immature) } else { persons }
    }

    /// The distinct persons whose approval of a proposal counts today.
    #[must_use]
    pub fn persons(&self, proposal: &Proposal) -> BTreeSet<&Person> {
        proposal.approvals.iter().filter_map(|approval| self.counts(approval)).collect()
    }

    /// The person whose word an approval is, if it counts: the identity is still that person's, and
    /// the person still a custodian of the issuer.
    #[must_use]
    pub fn counts(&self, Approval { by, .. }: &Approval) -> Option<&Person> {
        self.person(by)
    }

    /// Whether somebody who calls now is a custodian of the issuer.
    #[must_use]
    pub fn knows(&self, custodian: &Custodian) -> bool {
        self.person(&By::from(custodian)).is_some()
    }

    fn person(&self, by: &By) -> Option<&Person> {
        self.custodians.person(&by.identity).filter(|person| person.as_str() == by.person)
    }
}
