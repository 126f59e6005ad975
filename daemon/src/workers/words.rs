//! What a worker says in words, before anybody reads it: a lying worker fills neither log, status nor
//! store, and puts no words of its own where callers expect stable ones.

use mintwarden_worker::wire::{Lacking, Refused, SupportReport, WorkerHello};

/// Bound on one text, bytes.
const MAX_TEXT: usize = 1024;

/// Bound on how many defects, or other facts of a kind, are told.
const MAX_DEFECTS: usize = 64;

/// What a reason is called that is no stable one.
const NO_REASON: &str = "WORKER_BROKEN";

/// A text that is not too long; the end of a longer one is lost.
pub(super) fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Defects, not too many and none too long.
pub(super) fn defects(mut defects: Vec<String>) -> Vec<String> {
    if defects.len() > MAX_DEFECTS {
        let more = defects.len() - MAX_DEFECTS;
        defects.truncate(MAX_DEFECTS);
        defects.push(format!("and {more} more"));
    }
    defects.into_iter().map(cut).collect()
}

/// A refusal whose reason is a word such as `TOKEN_ABSENT`.
pub(super) fn refused(refused: Refused) -> Refused {
    let word = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    let stable = (1..=64).contains(&refused.reason.len()) && refused.reason.bytes().all(word);
    let reason = if stable { refused.reason } else { NO_REASON.into() };
    Refused { reason, detail: cut(refused.detail) }
}

/// A hello. Its build is compared with ours as a whole; what it says of keys is cut where it is kept.
pub(super) fn hello(hello: WorkerHello) -> WorkerHello {
    WorkerHello {
        unusable: hello.unusable.map(refused),
        description: cut(hello.description),
        lacking: few(hello.lacking, |l| Lacking { issuer: cut(l.issuer), missing: cut(l.missing) }),
        unproven: defects(hello.unproven),
        support: few(hello.support, |told| SupportReport {
            generates: cut(told.generates),
            signs: cut(told.signs),
            missing: cut(told.missing),
            ..told
        }),
        ..hello
    }
}

/// The first of many facts, each `cut`.
fn few<T>(facts: Vec<T>, cut: impl Fn(T) -> T) -> Vec<T> {
    facts.into_iter().take(MAX_DEFECTS).map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i9_what_a_worker_says_is_cut() {
        assert_eq!(cut("short".into()), "short");
        let long = cut("ä".repeat(MAX_TEXT));
        assert_eq!(long, format!("{}…", "ä".repeat(MAX_TEXT / 2)));
        let many = defects(vec!["x".repeat(1 << 20); 1000]);
        assert_eq!(many.len(), MAX_DEFECTS + 1);
        assert!(many.iter().all(|defect| defect.len() <= MAX_TEXT + '…'.len_utf8()));
        assert_eq!(many[MAX_DEFECTS], "and 936 more");
    }

    #[test]
    fn a_reason_is_a_stable_word_or_none_of_the_workers() {
        let reason =
            |reason: &str| refused(Refused { reason: reason.into(), detail: String::new() }).reason;
        assert_eq!(reason("TOKEN_ABSENT"), "TOKEN_ABSENT");
        for bad in ["", "token absent", "X\r\nInjected: 1", "Ä", &"X".repeat(65)] {
            assert_eq!(reason(bad), NO_REASON, "{bad:?}");
        }
    }
}
