use std::fmt;

use super::{
    Hash, Malformed, Public,
    reader::{Reader, sized},
};

/// The name of an object: the id of a hash algorithm and the digest of its public area (Part 1, section
/// 16, "Names"). Two objects with one name have the same key, attributes and policy.
#[derive(Clone, PartialEq, Eq)]
pub struct Name {
    hash: Hash,
    digest: Vec<u8>,
}

/// A primary seed under which objects are made (`TPMI_RH_HIERARCHY`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// The owner's: `TPM_RH_OWNER`.
    Owner,
    /// The endorsement hierarchy, whose seed the manufacturer vouches for: `TPM_RH_ENDORSEMENT`.
    Endorsement,
    /// The platform firmware's: `TPM_RH_PLATFORM`.
    Platform,
}

impl Hierarchy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Owner, Self::Endorsement, Self::Platform];

    fn handle(self) -> u32 {
        match self {
            Self::Owner => 0x4000_0001,
            Self::Endorsement => 0x4000_000b,
            Self::Platform => 0x4000_000c,
        }
    }
}

impl fmt::Display for Hierarchy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Owner => "owner",
            Self::Endorsement => "endorsement",
            Self::Platform => "platform",
        })
    }
}

impl Name {
    /// Bytes of the longest: an algorithm's id and a SHA-512 digest.
    pub(super) const MAX: usize = 2 + 64;

    /// Reads a name.
    ///
    /// # Errors
    /// [`Malformed`], also for a digest that does not have its algorithm's length.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let hash = Hash::from_id("name's algorithm", reader.u16()?)?;
        let digest = reader.rest().to_vec();
        if digest.len() != hash.digest_len() {
            return Err(Malformed::Inconsistent("name's length"));
        }
        Ok(Self { hash, digest })
    }

    pub(super) fn of(hash: Hash, public: &[u8]) -> Self {
        Self { hash, digest: hash.digest(public) }
    }

    /// The qualified name of a primary object with this public area (Part 1, section 16, "Qualified
    /// Names").
    #[must_use]
    pub fn qualified_primary(hierarchy: Hierarchy, object: &Public) -> Self {
        Self::qualified(&hierarchy.handle().to_be_bytes(), object)
    }

    /// The qualified name of an object under the parent that has this qualified name.
    #[must_use]
    pub fn qualified_child(&self, object: &Public) -> Self {
        Self::qualified(&self.to_bytes(), object)
    }

    fn qualified(parent: &[u8], object: &Public) -> Self {
        Self::of(object.name_hash(), &[parent, &object.name().to_bytes()].concat())
    }

    /// The name as a TPM writes it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.hash.id().to_be_bytes()[..], &self.digest].concat()
    }

    /// The same as a `TPM2B_NAME`.
    #[must_use]
    pub fn to_sized(&self) -> Vec<u8> {
        sized(&self.to_bytes())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.to_bytes()))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}
