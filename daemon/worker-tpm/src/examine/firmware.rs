//! A TPM's firmware version.

use std::fmt;

/// `TPM_PT_FIRMWARE_VERSION_1` and `_2` (TPM 2.0 part 2 section 6.13), as four numbers of 16 bits: so most
/// makers mean them. In order of age within one maker's line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Firmware([u16; 4]);

impl Firmware {
    /// From the two properties.
    pub(crate) const fn new(first: u32, second: u32) -> Self {
        Self([high(first), low(first), high(second), low(second)])
    }

    /// The first two numbers, which name a release.
    pub(crate) const fn release(self) -> (u16, u16) {
        let [major, minor, ..] = self.0;
        (major, minor)
    }

    /// The first three numbers.
    pub(crate) const fn patch(self) -> (u16, u16, u16) {
        let [major, minor, patch, _] = self.0;
        (major, minor, patch)
    }
}

const fn high(number: u32) -> u16 {
    (number >> 16) as u16
}

const fn low(number: u32) -> u16 {
    (number & 0xffff) as u16
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.0;
        write!(f, "{a}.{b}.{c}.{d}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let version = |a: u32, b: u32, c: u32, d: u32| Firmware::new(a << 16 | b, c << 16 | d);
        assert_eq!(version(7, 85, 4555, 0).to_string(), "7.85.4555.0");
        assert!(version(7, 9, 0, 0) < version(7, 85, 0, 0));
        assert!(version(7, 61, 2785, 0) < version(7, 62, 3126, 0));
        assert!(version(11, 8, 65, 0).patch() > (11, 8, 9));
        assert_eq!(version(73, 4, 17568, 4452).release(), (73, 4));
    }
}
