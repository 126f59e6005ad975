use std::fmt;

use super::{
    Attribute, Attributes, Hash, Malformed, Name,
    reader::{Reader, sized},
};

/// Bound on a public area, bytes: an RSA key of 4096 bits with a SHA-512 policy takes 600.
const MAX: usize = 1024;
const NULL: u16 = 0x0010;

/// The public area of an asymmetric key (`TPMT_PUBLIC`, Part 2 section 12.2.4).
#[derive(Clone, PartialEq, Eq)]
pub struct Public {
    name_hash: Hash,
    attributes: Attributes,
    policy: Vec<u8>,
    symmetric: Option<Symmetric>,
    scheme: Option<Scheme>,
    key: Key,
    /// As it was read: what its name is the digest of.
    bytes: Vec<u8>,
}

/// A public key.
#[derive(Clone, PartialEq, Eq)]
pub enum Key {
    /// A point (`TPMS_ECC_POINT`).
    Ecc {
        /// Its curve.
        curve: Curve,
        /// Its coordinates, unsigned and big-endian, each as long as the curve's field.
        x: Vec<u8>,
        /// See `x`.
        y: Vec<u8>,
    },
    /// An RSA key.
    Rsa {
        /// The modulus, big-endian, as long as the key's size says.
        modulus: Vec<u8>,
        /// The public exponent.
        exponent: u32,
    },
}

/// A curve (`TPM_ECC_CURVE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// `TPM_ECC_NIST_P256`.
    P256,
    /// `TPM_ECC_NIST_P384`.
    P384,
}

impl Curve {
    /// Length of a coordinate in bytes.
    #[must_use]
    pub fn coordinate_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }
}

/// What a key signs with (`TPMT_SIG_SCHEME`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `TPM_ALG_ECDSA`.
    Ecdsa(Hash),
    /// `TPM_ALG_RSASSA`.
    RsaSsa(Hash),
    /// `TPM_ALG_RSAPSS`.
    RsaPss(Hash),
}

/// What a storage key protects its children with (`TPMT_SYM_DEF_OBJECT`): AES in CFB mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symmetric {
    /// 128 or 256.
    pub(super) aes_bits: u16,
}

impl Public {
    /// Reads a `TPM2B_PUBLIC` to its last byte.
    ///
    /// # Errors
    /// [`Malformed`]; what is not an RSA or elliptic curve key is refused too.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let area = reader.sized("public area", MAX)?;
        reader.end()?;
        Self::parse_area(area)
    }

    /// The public area of an endorsement key with this key, by the default templates of the TCG EK
    /// Credential Profile: L-1 for RSA 2048, L-2 for P-256.
    ///
    /// # Errors
    /// [`Malformed`] for a key that is none of the two.
    pub fn endorsement(key: &Key) -> Result<Self, Malformed> {
        // PolicySecret(TPM_RH_ENDORSEMENT), from the profile, appendix B.3.
        const POLICY: [u8; 32] = [
            0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5,
            0xd7, 0x24, 0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b,
            0x33, 0x14, 0x69, 0xaa,
        ];
        // fixedTPM fixedParent sensitiveDataOrigin adminWithPolicy restricted decrypt
        const ATTRIBUTES: u32 = 0x0003_00b2;
        let (kind, parameters, unique): (u16, &[u16], _) = match key {
            // 2048 bits, exponent zero for 65537.
            Key::Rsa { modulus, .. } => (0x0001, &[0x0800, 0, 0], sized(modulus)),
            Key::Ecc { x, y, .. } => (0x0023, &[0x0003, NULL], [sized(x), sized(y)].concat()),
        };
        let mut area = Vec::new();
        area.extend(kind.to_be_bytes());
        area.extend(Hash::Sha256.id().to_be_bytes());
        area.extend(ATTRIBUTES.to_be_bytes());
        area.extend(sized(&POLICY));
        // AES-128-CFB, no scheme.
        area.extend([0x0006_u16, 128, 0x0043, NULL].into_iter().flat_map(u16::to_be_bytes));
        area.extend(parameters.iter().copied().flat_map(u16::to_be_bytes));
        area.extend(unique);
        Self::parse_area(&area)
    }

    /// The public area of a key that signs off PCR states, as every TPM is to load it: what its name, and with it
    /// every policy that mentions the key, depends on. ECDSA on P-256 or RSASSA-PKCS1-v1_5, with SHA-256.
    ///
    /// # Errors
    /// [`Malformed`] for another kind of key.
    pub(crate) fn signing_off(key: &Key) -> Result<Self, Malformed> {
        // userWithAuth sign
        const ATTRIBUTES: u32 = 0x0004_0040;
        const SHA256: u16 = 0x000b;
        let (kind, scheme, parameters, unique): (u16, u16, &[u16], _) = match key {
            Key::Rsa { modulus, .. } => {
                let bits = u16::try_from(modulus.len() * 8)
                    .map_err(|_| Malformed::Inconsistent("modulus"))?;
                // The exponent 65537 as a number, as tpm2_loadexternal has it, and not as zero.
                (0x0001, 0x0014, &[bits, 1, 1], sized(modulus))
            }
            Key::Ecc { x, y, .. } => {
                (0x0023, 0x0018, &[0x0003, NULL], [sized(x), sized(y)].concat())
            }
        };
        let mut area = Vec::new();
        area.extend(kind.to_be_bytes());
        area.extend(SHA256.to_be_bytes());
        area.extend(ATTRIBUTES.to_be_bytes());
        area.extend(sized(&[]));
        area.extend([NULL, scheme, SHA256].into_iter().flat_map(u16::to_be_bytes));
        area.extend(parameters.iter().copied().flat_map(u16::to_be_bytes));
        area.extend(unique);
        Self::parse_area(&area)
    }

    fn parse_area(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let kind = reader.u16()?;
        let name_hash = Hash::from_id("nameAlg", reader.u16()?)?;
        let attributes = Attributes::parse(reader.u32()?)?;
        let policy = reader.sized("authPolicy", 64)?.to_vec();
        if !policy.is_empty() && policy.len() != name_hash.digest_len() {
            return Err(Malformed::Inconsistent("authPolicy"));
        }
        let symmetric = symmetric(&mut reader)?;
        let scheme = scheme(&mut reader)?;
        let key = match kind {
            0x0001 => rsa(&mut reader)?,
            0x0023 => ecc(&mut reader)?,
            _ => return Err(Malformed::Unknown { what: "type", value: kind.into() }),
        };
        reader.end()?;
        let fits = match (&key, scheme) {
            (_, None) => true,
            (Key::Ecc { .. }, Some(scheme)) => matches!(scheme, Scheme::Ecdsa(_)),
            (Key::Rsa { .. }, Some(scheme)) => !matches!(scheme, Scheme::Ecdsa(_)),
        };
        // Part 2, section 12.2.3: a symmetric algorithm is for restricted decryption keys, and for these
        // always.
        let storage = attributes.has(Attribute::Restricted) && attributes.has(Attribute::Decrypt);
        if !fits {
            return Err(Malformed::Inconsistent("scheme"));
        }
        if symmetric.is_some() != storage {
            return Err(Malformed::Inconsistent("symmetric algorithm"));
        }
        let bytes = bytes.to_vec();
        Ok(Self { name_hash, attributes, policy, symmetric, scheme, key, bytes })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> Name {
        Name::of(self.name_hash, &self.bytes)
    }

    /// The algorithm of its name.
    #[must_use]
    pub fn name_hash(&self) -> Hash {
        self.name_hash
    }

    /// Its attributes.
    #[must_use]
    pub fn attributes(&self) -> Attributes {
        self.attributes
    }

    /// Its policy's digest; empty where it has none.
    #[must_use]
    pub fn policy(&self) -> &[u8] {
        &self.policy
    }

    /// What protects the children of a storage key.
    #[must_use]
    pub fn symmetric(&self) -> Option<Symmetric> {
        self.symmetric
    }

    /// What it signs with, where that is fixed.
    #[must_use]
    pub fn scheme(&self) -> Option<Scheme> {
        self.scheme
    }

    /// The public key.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// As it was read: a `TPM2B_PUBLIC`.
    #[must_use]
    pub fn to_sized(&self) -> Vec<u8> {
        sized(&self.bytes)
    }
}

fn symmetric(reader: &mut Reader<'_>) -> Result<Option<Symmetric>, Malformed> {
    const AES: u16 = 0x0006;
    const CFB: u16 = 0x0043;
    let unknown = |what, value: u16| Err(Malformed::Unknown { what, value: value.into() });
    match reader.u16()? {
        NULL => return Ok(None),
        AES => {}
        other => return unknown("symmetric algorithm", other),
    }
    let aes_bits = reader.u16()?;
    if !matches!(aes_bits, 128 | 256) {
        return unknown("size of AES key", aes_bits);
    }
    match reader.u16()? {
        CFB => Ok(Some(Symmetric { aes_bits })),
        other => unknown("symmetric mode", other),
    }
}

fn scheme(reader: &mut Reader<'_>) -> Result<Option<Scheme>, Malformed> {
    let id = reader.u16()?;
    let scheme = match id {
        NULL => return Ok(None),
        0x0014 => Scheme::RsaSsa,
        0x0016 => Scheme::RsaPss,
        0x0018 => Scheme::Ecdsa,
        _ => return Err(Malformed::Unknown { what: "scheme", value: id.into() }),
    };
    Ok(Some(scheme(Hash::from_id("scheme's hash", reader.u16()?)?)))
}

fn rsa(reader: &mut Reader<'_>) -> Result<Key, Malformed> {
    let bits = reader.u16()?;
    if !matches!(bits, 2048 | 3072 | 4096) {
        return Err(Malformed::Unknown { what: "size of RSA key", value: bits.into() });
    }
    let exponent = match reader.u32()? {
        0 => 65537, // Part 2, section 12.2.3.5: zero stands for it.
        exponent if exponent > 65536 && exponent % 2 == 1 => exponent,
        exponent => return Err(Malformed::Unknown { what: "RSA exponent", value: exponent }),
    };
    let modulus = reader.sized("modulus", 512)?;
    let odd = modulus.last().is_some_and(|last| last % 2 == 1);
    if modulus.len() != usize::from(bits / 8) || modulus[0] < 0x80 || !odd {
        return Err(Malformed::Inconsistent("modulus"));
    }
    Ok(Key::Rsa { modulus: modulus.to_vec(), exponent })
}

fn ecc(reader: &mut Reader<'_>) -> Result<Key, Malformed> {
    let curve = match reader.u16()? {
        0x0003 => Curve::P256,
        0x0004 => Curve::P384,
        other => return Err(Malformed::Unknown { what: "curve", value: other.into() }),
    };
    match reader.u16()? {
        NULL => {}
        other => return Err(Malformed::Unknown { what: "kdf", value: other.into() }),
    }
    let mut coordinate = || {
        let bytes = reader.sized("coordinate", curve.coordinate_len())?;
        Ok(padded(bytes, curve.coordinate_len()))
    };
    Ok(Key::Ecc { curve, x: coordinate()?, y: coordinate()? })
}

/// A number with the zeros in front that some TPMs leave out; `bytes` are not more than `length`.
pub(super) fn padded(bytes: &[u8], length: usize) -> Vec<u8> {
    [&vec![0; length - bytes.len()][..], bytes].concat()
}

impl fmt::Debug for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Public({:?} {})", self.key, self.name())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ecc { curve, .. } => write!(f, "{curve:?}"),
            Self::Rsa { modulus, .. } => write!(f, "RSA {}", modulus.len() * 8),
        }
    }
}
