use std::{
    fs, panic,
    path::PathBuf,
    process::abort,
    sync::{LazyLock, Once},
};

use mintwarden::{
    record::Book,
    store::{Redb, Store as _, StoreError},
};
use mintwarden_worker::IssuerName;
use redb::{Database, TableDefinition};
use tempfile::TempDir;

const KEYSETS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keysets");

/// In memory where the system has that: every input is a file.
static DIRECTORY: LazyLock<TempDir> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
    tempfile::tempdir_in(parent).expect("a directory")
});

fn issuer() -> IssuerName {
    IssuerName::parse("payments-tts").expect("a name")
}

/// A store with this as its keyset, and then nothing but the file's bytes.
fn stored(keyset: &[u8]) -> Vec<u8> {
    let path = DIRECTORY.path().join("made.redb");
    let database = Database::create(&path).expect("a database");
    let write = database.begin_write().expect("a transaction");
    write.open_table(KEYSETS).expect("a table").insert("payments-tts", keyset).expect("room");
    write.commit().expect("a commit");
    drop(database);
    let bytes = fs::read(&path).expect("its file");
    fs::remove_file(&path).expect("its file");
    bytes
}

fn load(file: &[u8]) -> Result<Option<mintwarden::keyset::Keyset>, StoreError> {
    let [path, anchor] = ["keysets.redb", "anchor.json"].map(|name| DIRECTORY.path().join(name));
    fs::write(&path, file).expect("a file");
    let loaded = Redb::open(&path, &anchor, &Book::of_digest("")).and_then(|store| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(store.load(&issuer()))
    });
    fs::remove_file(&path).expect("the file");
    let _anchor_of_this_file = fs::remove_file(&anchor);
    loaded
}

/// A stored keyset is the issuer's own and can be stored again, or it is refused: it is never taken for
/// none.
///
/// # Panics
/// Where that does not hold.
pub fn keyset(document: &[u8]) {
    match load(&stored(document)) {
        Ok(Some(keyset)) => assert_eq!(keyset.issuer, issuer()),
        Ok(None) => panic!("a keyset that is there was taken for none"),
        Err(StoreError::Unreadable { .. }) => {}
        Err(other) => panic!("{other}"),
    }
}

/// A damaged file is refused, or read as it was before: never a panic. Each five bytes of `damage` are a
/// place and the byte that is put there.
///
/// # Panics
/// Where that does not hold.
pub fn store(damage: &[u8]) {
    static HOOK: Once = Once::new();
    HOOK.call_once(expect_panics_of_redb);
    static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| stored(include_bytes!("keyset.json")));
    let mut file = GOOD.clone();
    for patch in damage.chunks_exact(5) {
        let (place, byte) = patch.split_at(4);
        let place = u32::from_be_bytes(place.try_into().expect("four bytes")) as usize;
        let place = place % file.len();
        file[place] = byte[0];
    }
    if let Ok(Some(keyset)) = load(&file) {
        assert_eq!(keyset.issuer, issuer());
    }
}

/// redb panics at some damage, which the store makes an error of. libFuzzer's hook would end the process
/// before that; any other panic still does.
fn expect_panics_of_redb() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if panic.location().is_some_and(|place| place.file().contains("/redb-")) {
            return;
        }
        before(panic);
        if cfg!(feature = "libfuzzer") {
            abort();
        }
    }));
}
