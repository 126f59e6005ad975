use super::{Malformed, Name, reader::Reader};

/// `TPM_GENERATED_VALUE`, "ÿTCG": stands before everything that a restricted key signs of the TPM's own, and
/// nothing else that it signs may begin with it (Part 2, section 6.2).
pub const GENERATED: u32 = 0xff54_4347;

/// `TPM_ST_ATTEST_CERTIFY` (Part 2, section 6.9).
pub const CERTIFY: u16 = 0x8017;

/// What a TPM said with TPM2_Certify (`TPMS_ATTEST` with `TPMS_CERTIFY_INFO`, Part 2 section 10.12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attest {
    /// Qualified name of the key that signed it.
    pub signer: Name,
    /// What the caller gave: qualifyingData.
    pub extra_data: Vec<u8>,
    /// The TPM's clock.
    pub clock: Clock,
    /// The firmware's version, in the manufacturer's own form. True only of a signer in the endorsement or
    /// platform hierarchy; for others the TPM obscures it.
    pub firmware_version: u64,
    /// Name of the certified object.
    pub name: Name,
    /// Its qualified name: of it and all its parents, up to the hierarchy.
    pub qualified_name: Name,
}

/// A TPM's clock (`TPMS_CLOCK_INFO`, Part 2 section 10.11.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Milliseconds for which the TPM was powered, in all.
    pub milliseconds: u64,
    /// How often it was reset.
    pub resets: u32,
    /// How often it was restarted or resumed since.
    pub restarts: u32,
    /// Whether no higher value was shown before.
    pub safe: bool,
}

impl Attest {
    /// The magic number and the type that a structure begins with; `None` where it is shorter. To be compared
    /// with [`GENERATED`] and [`CERTIFY`].
    #[must_use]
    pub fn kind(bytes: &[u8]) -> Option<(u32, u16)> {
        let mut reader = Reader::new(bytes);
        Some((reader.u32().ok()?, reader.u16().ok()?))
    }

    /// Reads one to its last byte.
    ///
    /// # Errors
    /// [`Malformed`], also for one that the TPM did not make or that is about something else.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        match reader.u32()? {
            GENERATED => {}
            value => return Err(Malformed::Unknown { what: "magic number", value }),
        }
        match reader.u16()? {
            CERTIFY => {}
            value => return Err(Malformed::Unknown { what: "type", value: value.into() }),
        }
        let signer = Name::parse(reader.sized("qualifiedSigner", Name::MAX)?)?;
        let extra_data = reader.sized("extraData", Name::MAX)?.to_vec();
        let milliseconds = reader.u64()?;
        let (resets, restarts) = (reader.u32()?, reader.u32()?);
        let safe = match reader.u8()? {
            0 => false,
            1 => true,
            value => return Err(Malformed::Unknown { what: "safe", value: value.into() }),
        };
        let clock = Clock { milliseconds, resets, restarts, safe };
        let firmware_version = reader.u64()?;
        let name = Name::parse(reader.sized("name", Name::MAX)?)?;
        let qualified_name = Name::parse(reader.sized("qualifiedName", Name::MAX)?)?;
        reader.end()?;
        Ok(Self { signer, extra_data, clock, firmware_version, name, qualified_name })
    }
}
