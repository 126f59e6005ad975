use super::Malformed;

/// Reads a TPM structure from its bytes (Part 1, section 11: "big-endian, packed"): never beyond them,
/// and never more of them than the caller allows.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        Ok(self.take(N)?.try_into().expect("as many were taken"))
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// A `TPM2B`: its size, then as many bytes, of which there may be `max`.
    pub(super) fn sized(&mut self, what: &'static str, max: usize) -> Result<&'a [u8], Malformed> {
        let size = usize::from(self.u16()?);
        if size > max { Err(Malformed::TooLong { what, size, max }) } else { self.take(size) }
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Nothing is left.
    pub(super) fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed::Trailing(self.0.len())) }
    }
}

/// A `TPM2B` with these bytes.
pub(super) fn sized(bytes: &[u8]) -> Vec<u8> {
    // Nothing that is written here comes near 64 KiB: all of it was read under its own bound.
    let size = u16::try_from(bytes.len()).expect("a bounded structure");
    [&size.to_be_bytes()[..], bytes].concat()
}
