//! Key derivation (Part 1, section 11.4.10).

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use super::Hash;

/// KDFa: SP 800-108 in counter mode with HMAC. `bits` is a multiple of 8.
pub(super) fn kdfa(
    hash: Hash,
    key: &[u8],
    label: &str,
    context_u: &[u8],
    context_v: &[u8],
    bits: u32,
) -> Zeroizing<Vec<u8>> {
    let key = hmac::Key::new(hash.hmac(), key);
    blocks(bits, |counter| {
        let mut context = hmac::Context::with_key(&key);
        context.update(&counter.to_be_bytes());
        context.update(label.as_bytes());
        context.update(&[0]);
        context.update(context_u);
        context.update(context_v);
        context.update(&bits.to_be_bytes());
        context.sign().as_ref().to_vec()
    })
}

/// KDFe: SP 800-56A's concatenation with a hash, for what comes out of ECDH. `bits` is a multiple of 8.
pub(super) fn kdfe(
    hash: Hash,
    z: &[u8],
    label: &str,
    party_u: &[u8],
    party_v: &[u8],
    bits: u32,
) -> Zeroizing<Vec<u8>> {
    blocks(bits, |counter| {
        let hashed = Zeroizing::new(
            [&counter.to_be_bytes()[..], z, label.as_bytes(), &[0], party_u, party_v].concat(),
        );
        hash.digest(&hashed)
    })
}

fn blocks(bits: u32, block: impl Fn(u32) -> Vec<u8>) -> Zeroizing<Vec<u8>> {
    let wanted = (bits / 8) as usize;
    // So large from the start that no copy of it is left behind by growing.
    let mut out = Zeroizing::new(Vec::with_capacity(wanted + 64));
    for counter in 1.. {
        out.extend_from_slice(&Zeroizing::new(block(counter)));
        if out.len() >= wanted {
            break;
        }
    }
    out.truncate(wanted);
    out
}
