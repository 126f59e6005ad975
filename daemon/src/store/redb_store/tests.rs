//! What is stored, and what becomes of it.

use std::{fs, path::PathBuf, time::Duration};

use super::*;
use crate::{
    clock::{self, Checkpoint},
    keyset::Phase,
    record::{Event, Numbered},
};

/// With the anchor in the same directory.
fn open(path: &Path) -> Result<Redb, StoreError> {
    Redb::open(path, &path.with_file_name("anchor.json"), &Book::of_digest("d"))
}

fn swap(store: &Redb, expected: Option<u64>, next: &Keyset) -> Result<(), StoreError> {
    store.swap_blocking(&Owned::from(Change::of_keyset(expected, next)))
}

/// Writes past what keeps a store in order.
fn write(store: &Redb, change: impl FnOnce(&WriteTransaction)) {
    let written = store.file.with(|database| {
        let write = database.begin_write().map_err(refused)?;
        change(&write);
        write.commit().map_err(refused)
    });
    written.expect("a transaction");
}

fn newest(store: &Redb, before: Option<u64>, limit: usize) -> Vec<Numbered> {
    let span = Span { before, limit, look_at: 9 };
    let page = store
        .file
        .with(|database| log::newest(&database.begin_read().map_err(refused)?, span, |_| true));
    page.expect("readable").entries
}

fn keyset(version: u64) -> Keyset {
    let issuer = IssuerName::parse("payments-tts").expect("a name");
    let (wait, clock) = (Duration::from_secs(60), Checkpoint::default());
    Keyset { version, ..Keyset::new(issuer, Phase::Initialising, wait, clock) }
}

#[test]
fn i8_a_change_is_one_compare_and_swap() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(&directory.path().join("keysets.redb")).expect("a store");
    let issuer = keyset(1).issuer;
    assert_eq!(store.load_blocking(&issuer), Ok(None));
    swap(&store, None, &keyset(1)).expect("there was none");
    let conflict = swap(&store, None, &keyset(1)).expect_err("there is one");
    assert!(matches!(conflict, StoreError::Conflict { stored: Some(1), expected: None, .. }));
    swap(&store, Some(1), &keyset(2)).expect("the expected revision");
    let conflict = swap(&store, Some(1), &keyset(2)).expect_err("stale");
    assert!(matches!(conflict, StoreError::Conflict { stored: Some(2), expected: Some(1), .. }));
    assert_eq!(store.load_blocking(&issuer), Ok(Some(keyset(2))));
}

#[test]
fn a_second_server_on_the_same_file_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("keysets.redb");
    let _first = open(&path).expect("a store");
    assert!(matches!(open(&path).err(), Some(StoreError::InUse(_))));
}

#[test]
fn a_copy_is_looked_at_and_the_file_stays_as_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("keysets.redb");
    assert!(Redb::copy(&path).expect("nothing to copy").is_none());
    let store = open(&path).expect("a store");
    swap(&store, None, &keyset(1)).expect("there was none");
    // As a power cut leaves it: not closed.
    std::mem::forget(store);
    let before = fs::read(&path).expect("the file");
    let copy = Redb::copy(&path).expect("a copy").expect("of what is there");
    assert_eq!(copy.load_blocking(&keyset(1).issuer), Ok(Some(keyset(1))));
    assert_eq!(fs::read(&path).expect("the file"), before);
    fs::write(&path, b"garbage").expect("a spoilt file");
    assert!(matches!(Redb::copy(&path).err(), Some(StoreError::Failed(_))));
}

#[test]
fn i8_a_damaged_file_is_refused_and_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("keysets.redb");
    drop(open(&path).expect("a store"));
    let good = fs::read(&path).expect("the file");
    let cut = good[..good.len() / 2].to_vec();
    let mut wiped = good.clone();
    wiped[4096..].fill(0xff);
    let mut other = good;
    other[0] ^= 1;
    for bad in [wiped, cut, other, b"no database".to_vec()] {
        fs::write(&path, &bad).expect("the file");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let loaded = open(&path).and_then(|store| runtime.block_on(store.load(&keyset(1).issuer)));
        let error = loaded.expect_err("it is no store");
        assert!(matches!(error, StoreError::Damaged(_) | StoreError::Failed(_)), "{error}");
        assert!(path.exists());
    }
}

#[test]
fn a_keyset_of_another_format_is_refused_and_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(&directory.path().join("keysets.redb")).expect("a store");
    let issuer = keyset(1).issuer;
    for bytes in [&br#"{"format":4,"keyset":{}}"#[..], b"garbage", b""] {
        write(&store, |write| {
            let mut table = write.open_table(KEYSETS).expect("the table");
            table.insert("payments-tts", bytes).expect("insert");
        });
        assert!(matches!(store.load_blocking(&issuer), Err(StoreError::Unreadable { .. })));
        assert!(matches!(swap(&store, None, &keyset(1)), Err(StoreError::Unreadable { .. })));
    }
}

#[test]
fn a_store_of_format_2_opens() {
    let (directory, older) = (tempfile::tempdir().expect("a directory"), published(7));
    let store = open(&directory.path().join("keysets.redb")).expect("a store");
    let left = |n: u8| {
        let handle = mintwarden_worker::device::KeyHandle::new(vec![n; 16]);
        serde_json::json!({"device": "hsm-a", "handle": handle, "reason": "none", "at": 1})
    };
    let mut keyset = serde_json::to_value(&older).expect("JSON");
    keyset["leftovers"] = (1..=7).map(left).collect();
    keyset["leftovers_allowed"] = 8.into();
    keyset["clock"].as_object_mut().expect("an object").remove("peaks");
    let format2 = serde_json::json!({"format": 2, "keyset": keyset}).to_string();
    write(&store, |write| {
        let mut table = write.open_table(KEYSETS).expect("the table");
        table.insert("payments-tts", format2.as_bytes()).expect("insert");
    });
    let keyset = store.load_blocking(&older.issuer).expect("readable").expect("stored");
    assert_eq!((keyset.version, keyset.keys.len()), (7, older.keys.len()));
    let settled: Vec<_> = keyset.leftovers.iter().map(|left| left.settled).collect();
    assert_eq!(settled, [true, true, true, false, false, false, false], "one more is allowed");
}

#[test]
fn a_store_of_format_1_opens() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(&directory.path().join("keysets.redb")).expect("a store");
    let format1 = &include_bytes!("../format/format1.json")[..];
    write(&store, |write| {
        let mut table = write.open_table(KEYSETS).expect("the table");
        table.insert("payments-tts", format1).expect("insert");
    });
    let keyset = store.load_blocking(&keyset(1).issuer).expect("readable").expect("stored");
    assert_eq!((keyset.version, keyset.phase), (9, Phase::Published));
    assert_eq!(keyset.published().count(), 2);
    let (active, _) = keyset.active("hsm-a").expect("it had an active key");
    let signatures = active.signatures.expect("it signed");
    assert_eq!(signatures.max_lifetime, Duration::from_secs(24 * 3600), "L is not known");
    assert!(active.mature && keyset.keys.iter().any(|key| key.is_standby() && !key.mature));
    // It is written in the present format.
    swap(&store, Some(9), &keyset.at(Checkpoint::default())).expect("written");
    assert_eq!(store.load_blocking(&keyset.issuer).expect("readable").expect("there").version, 10);
}

#[test]
fn i8_a_store_that_was_put_back_from_a_copy_is_marked() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("keysets.redb");
    let stored = Keyset { phase: Phase::Published, ..keyset(1) };
    let store = open(&path).expect("a store");
    swap(&store, None, &stored).expect("there was none");
    drop(store);
    // Opened again where it is: nothing happened.
    let store = open(&path).expect("a store");
    assert_eq!(store.load_blocking(&stored.issuer), Ok(Some(stored.clone())));
    drop(store);
    let copy = directory.path().join("backup.redb");
    fs::copy(&path, &copy).expect("a copy");
    fs::rename(&copy, &path).expect("put back");
    for _ in 0..2 {
        let store = open(&path).expect("a store");
        let restored = store.load_blocking(&stored.issuer).expect("readable").expect("there");
        assert_eq!(restored.phase, Phase::Restored, "and it stays so");
    }
}

fn published(version: u64) -> Keyset {
    Keyset { phase: Phase::Published, ..keyset(version) }
}

/// A closed store with one keyset, in a directory with its anchor.
fn stored() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("keysets.redb");
    let store = open(&path).expect("a store");
    swap(&store, None, &published(1)).expect("there was none");
    (directory, path)
}

fn phase(path: &Path) -> Phase {
    let store = open(path).expect("a store");
    store.load_blocking(&keyset(1).issuer).expect("readable").expect("there").phase
}

#[test]
fn i8_a_store_that_was_overwritten_in_place_by_a_copy_is_marked() {
    for running in [false, true] {
        let (_directory, path) = stored();
        let store = running.then(|| open(&path).expect("a store"));
        let copy = fs::read(&path).expect("a copy");
        let store = store.unwrap_or_else(|| open(&path).expect("a store"));
        swap(&store, Some(1), &published(2)).expect("a change");
        drop(store);
        fs::write(&path, copy).expect("put back");
        for _ in 0..2 {
            assert_eq!(phase(&path), Phase::Restored, "and it stays so");
        }
        let store = open(&path).expect("a store");
        let [Numbered { entry, .. }] = &newest(&store, None, 9)[..] else {
            panic!("it is recorded once")
        };
        assert_eq!((&entry.issuer, &entry.event), (&Some(keyset(1).issuer), &Event::Restored));
    }
}

#[test]
fn i8_a_store_is_marked_whose_anchor_is_gone_or_was_put_back_with_it() {
    let (_directory, path) = stored();
    let anchor = path.with_file_name("anchor.json");
    let copies = [&path, &anchor].map(|path| fs::read(path).expect("a copy"));
    swap(&open(&path).expect("a store"), Some(1), &published(2)).expect("a change");
    for (path, copy) in [&path, &anchor].into_iter().zip(copies) {
        fs::write(path, copy).expect("put back");
    }
    assert_eq!(phase(&path), Phase::Restored);
    let (_directory, path) = stored();
    fs::remove_file(path.with_file_name("anchor.json")).expect("it was there");
    assert_eq!(phase(&path), Phase::Restored);
}

#[test]
fn i8_a_crash_between_a_commit_and_its_note_is_no_copy_and_one_commit_less_is() {
    let (_directory, path) = stored();
    let anchor = path.with_file_name("anchor.json");
    let before =
        (fs::read(&path).expect("a copy"), fs::hard_link(&anchor, path.with_file_name("old")));
    before.1.expect("the file is kept");
    swap(&open(&path).expect("a store"), Some(1), &published(2)).expect("a change");
    // As if the server had died before it wrote the second file: the first one is still there.
    fs::rename(path.with_file_name("old"), &anchor).expect("the file of before");
    assert_eq!(phase(&path), Phase::Published);
    fs::write(&path, before.0).expect("put back");
    assert_eq!(phase(&path), Phase::Restored, "the anchor was brought up to date");
}

#[test]
fn i8_commits_stand_while_the_anchor_cannot_be_written() {
    let (_directory, path) = stored();
    // Nothing can be made under this name.
    let blocked = path.with_file_name("anchor.new");
    fs::create_dir(&blocked).expect("a directory");
    let store = open(&path).expect("a store");
    for version in 1..4 {
        swap(&store, Some(version), &published(version + 1)).expect("committed");
    }
    drop(store);
    assert_eq!(phase(&path), Phase::Published, "several ahead of the anchor");
    fs::remove_dir(&blocked).expect("it was there");
    let copy = fs::read(&path).expect("a copy");
    swap(&open(&path).expect("a store"), Some(4), &published(5)).expect("a change");
    fs::write(&path, copy).expect("put back");
    assert_eq!(phase(&path), Phase::Restored);
}

#[test]
fn a_store_of_an_earlier_build_is_taken_over_once() {
    let (_directory, path) = stored();
    let anchor = path.with_file_name("anchor.json");
    let store = open(&path).expect("a store");
    let table: TableDefinition<'_, (), &[u8]> = TableDefinition::new("commit");
    write(&store, |write| assert!(write.delete_table(table).expect("it goes"), "it was there"));
    drop(store);
    fs::remove_file(&anchor).expect("it was there");
    let earlier = fs::read(&path).expect("a copy");
    assert_eq!(phase(&path), Phase::Published);
    assert!(anchor.exists());
    assert_eq!(phase(&path), Phase::Published);
    fs::write(&path, earlier).expect("put back");
    assert_eq!(phase(&path), Phase::Restored);
}

fn proposals(version: u64) -> Proposals {
    Proposals { version, ..Proposals::none(keyset(1).issuer) }
}

fn entry(reason: &str) -> Entry {
    let (issuer, now) = (keyset(1).issuer, clock::reading());
    let step = Event::Stepped { step: "rotate".into(), keys: vec![], reason: reason.into() };
    Book::of_digest("d").entry(now, Some(&issuer), step)
}

fn reasons(store: &Redb, before: Option<u64>, limit: usize) -> Vec<(u64, String)> {
    let reason = |numbered: Numbered| match numbered.entry.event {
        Event::Stepped { reason, .. } => (numbered.sequence, reason),
        other => panic!("{other:?}"),
    };
    newest(store, before, limit).into_iter().map(reason).collect()
}

#[test]
fn i8_documents_and_entries_are_written_together_or_not_at_all() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(&directory.path().join("keysets.redb")).expect("a store");
    let issuer = &keyset(1).issuer;
    let change = |keyset: Option<(Option<u64>, Keyset)>, proposals, why: &str| Owned {
        issuer: issuer.clone(),
        keyset,
        proposals,
        entries: vec![entry(why)],
    };
    store.swap_blocking(&change(None, Some((0, proposals(1))), "proposed")).expect("no keyset yet");
    let both = |expected| change(Some((None, keyset(1))), Some((expected, proposals(2))), "acted");
    let stale = store.swap_blocking(&both(0)).expect_err("the proposals are at 1");
    assert!(matches!(stale, StoreError::Conflict { expected: Some(0), stored: Some(1), .. }));
    assert_eq!(store.load_blocking(issuer), Ok(None), "nor is the keyset written");
    assert_eq!(reasons(&store, None, 9).len(), 1, "nor the entry");
    store.swap_blocking(&both(1)).expect("both are as expected");
    let again = change(Some((None, keyset(1))), Some((2, proposals(3))), "again");
    store.swap_blocking(&again).expect_err("there is a keyset");
    assert_eq!(store.proposals_blocking(issuer).expect("readable").version, 2);
    assert_eq!(store.load_blocking(issuer), Ok(Some(keyset(1))));
    let expected = [(2, "acted".to_owned()), (1, "proposed".to_owned())];
    assert_eq!(reasons(&store, None, 9), expected);
}

#[test]
fn the_record_is_numbered_without_a_gap_and_read_from_its_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("keysets.redb");
    for round in 0..3 {
        let store = open(&path).expect("a store");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let entries = vec![entry(&format!("{round}a")), entry(&format!("{round}b"))];
        runtime.block_on(store.append(entries)).expect("written");
    }
    let store = open(&path).expect("a store");
    let numbers = |before, limit| -> Vec<u64> {
        reasons(&store, before, limit).into_iter().map(|(sequence, _)| sequence).collect()
    };
    assert_eq!(numbers(None, 9), [6, 5, 4, 3, 2, 1]);
    assert_eq!(numbers(Some(4), 2), [3, 2]);
    assert!(numbers(Some(1), 9).is_empty());
    assert_eq!(reasons(&store, Some(6), 1), [(5, "2a".to_owned())]);
}

#[test]
fn i9_of_the_record_no_more_is_decoded_than_is_shown() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(&directory.path().join("keysets.redb")).expect("a store");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    write(&store, |write| {
        let table: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("record");
        write.open_table(table).expect("the table").insert(1, &b"garbage"[..]).expect("insert");
    });
    let entries = ["2", "3", "4"].map(entry).to_vec();
    runtime.block_on(store.append(entries)).expect("written");
    let page = |limit, look_at, shown: fn(&Entry) -> bool| {
        runtime.block_on(store.entries(Span { before: None, limit, look_at }, shown))
    };
    let three =
        |entry: &Entry| matches!(&entry.event, Event::Stepped { reason, .. } if reason == "3");
    let numbers = |page: Result<Page, StoreError>| {
        let Page { entries, next_before } = page.expect("what is needed can be read");
        let numbers = entries.iter().map(|numbered| numbered.sequence).collect::<Vec<_>>();
        (numbers, next_before)
    };
    assert_eq!(numbers(page(1, 9, |_| true)), (vec![4], 4));
    assert_eq!(numbers(page(3, 9, |_| true)), (vec![4, 3, 2], 2));
    assert_eq!(numbers(page(1, 9, three)), (vec![3], 3));
    assert_eq!(numbers(page(2, 3, three)), (vec![3], 2), "the bound on what is looked at");
    assert!(matches!(page(4, 9, |_| true), Err(StoreError::Failed(_))));
}

#[test]
fn a_store_from_before_proposals_and_record_opens() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("keysets.redb");
    let store = open(&path).expect("a store");
    swap(&store, None, &keyset(1)).expect("there was none");
    write(&store, |write| {
        for name in ["proposals", "record"] {
            let table: TableDefinition<'_, &str, &[u8]> = TableDefinition::new(name);
            let was_there = write.delete_table(table).expect("no such table");
            assert!(!was_there, "{name} is made when needed");
        }
    });
    let issuer = keyset(1).issuer;
    assert_eq!(store.proposals_blocking(&issuer), Ok(proposals(0)));
    assert!(reasons(&store, None, 9).is_empty());
    let first = Owned {
        issuer: issuer.clone(),
        keyset: Some((Some(1), keyset(2))),
        proposals: Some((0, proposals(1))),
        entries: vec![entry("first")],
    };
    store.swap_blocking(&first).expect("and is written to");
    assert_eq!(store.proposals_blocking(&issuer), Ok(proposals(1)));
    assert_eq!(reasons(&store, None, 9), [(1, "first".to_owned())]);
}

#[test]
fn proposals_of_another_format_or_issuer_are_refused_and_kept() {
    let issuer = keyset(1).issuer;
    let stored = format::encode_proposals(&proposals(1)).expect("JSON");
    assert_eq!(format::decode_proposals(&issuer, &stored), Ok(proposals(1)));
    let other = IssuerName::parse("other").expect("a name");
    for (issuer, bytes) in
        [(&other, &stored[..]), (&issuer, br#"{"format":2,"proposals":{}}"#), (&issuer, b"")]
    {
        let refused = format::decode_proposals(issuer, bytes);
        assert!(matches!(refused, Err(StoreError::Unreadable { .. })), "{refused:?}");
    }
}
