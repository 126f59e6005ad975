//! Finding a name that an object has twice.

use std::{borrow::Cow, collections::HashSet};

/// The names of all objects that are open, innermost last: one allocation for a whole payload.
pub(super) type Open<'a> = Vec<Cow<'a, str>>;

/// The names of one object.
///
/// Few are compared one by one. More than [`Names::FEW`] go into a hash set, whose keyed hash (the
/// standard library's SipHash) keeps a payload made for collisions from costing quadratic time.
pub(super) struct Names<'a> {
    first: usize,
    many: HashSet<Cow<'a, str>>,
}

impl<'a> Names<'a> {
    const FEW: usize = 24;

    /// Begins an object inside of those that are open.
    pub(super) fn begin(open: &Open<'a>) -> Self {
        Self { first: open.len(), many: HashSet::new() }
    }

    /// Adds a name; false if the object has it already.
    pub(super) fn insert(&mut self, open: &mut Open<'a>, name: Cow<'a, str>) -> bool {
        if !self.many.is_empty() {
            return self.many.insert(name);
        }
        let few = &open[self.first..];
        if few.contains(&name) {
            return false;
        }
        if few.len() == Self::FEW {
            self.many.extend(open.drain(self.first..));
            self.many.insert(name);
        } else {
            open.push(name);
        }
        true
    }

    /// Ends the object.
    pub(super) fn end(self, open: &mut Open<'a>) {
        open.truncate(self.first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i9_claims_names_are_found_again_and_no_more_than_few_are_compared() {
        for count in [0, 1, Names::FEW - 1, Names::FEW, Names::FEW + 1, 3 * Names::FEW] {
            let mut open = vec![Cow::Borrowed("n0")];
            let mut names = Names::begin(&open);
            let name = |n: usize| Cow::Owned(format!("n{n}"));
            for n in 0..count {
                assert!(names.insert(&mut open, name(n)), "{n} of {count}");
                assert!(open.len() <= 1 + Names::FEW, "each of these costs a comparison");
            }
            for n in 0..count {
                assert!(!names.insert(&mut open, name(n)), "{n} of {count}");
            }
            assert!(names.insert(&mut open, name(count)));
            names.end(&mut open);
            assert_eq!(open, ["n0"], "an inner object must leave the outer one's names alone");
        }
    }
}
