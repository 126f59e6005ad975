//! What a proposal needs, case by case; and histories of all kinds.

mod course;
mod histories;
pub(in crate::keyset) mod world;
