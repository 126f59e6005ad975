//! What the machine gives: time and room.

use std::{path::Path, time::Duration};

use mintwarden_worker::{
    claims::Profile,
    finding::{Check, Finding},
};
use rustix::fs::statvfs;

use crate::clock::{self, UnixTime};

/// Before this, nobody had this program: 2025-01-01.
const PAST: UnixTime = UnixTime(1_735_689_600);
/// After this, nobody has: 2100-01-01.
const FUTURE: UnixTime = UnixTime(4_102_444_800);

/// 9999-12-31T23:59:59Z.
const LAST_SECOND: i64 = 253_402_300_799;

/// Less room than this, bytes, and a change of a keyset may fail.
const NO_ROOM: u64 = 16 << 20;
/// Less than this is worth a word.
const LITTLE_ROOM: u64 = 256 << 20;
const FEW_INODES: u64 = 64;

/// systemd-timesyncd(8) makes it once the clock is synchronised.
const SYNCHRONIZED: &str = "/run/systemd/timesync/synchronized";

/// What there is to say about the machine.
pub(super) fn examine(state_dir: &Path) -> Vec<Finding> {
    vec![wall(clock::wall()), synchronised(Path::new(SYNCHRONIZED)), space(state_dir)]
}

fn wall(now: UnixTime) -> Finding {
    let shown = date(now);
    if (PAST..FUTURE).contains(&now) {
        return Finding::ok(Check::SystemClock, "", format!("it is {shown}"));
    }
    Finding::fault(
        Check::SystemClock,
        "",
        format!("the wall clock says {shown}, which cannot be: no token and no certificate holds"),
        "set the clock, and keep it right with an NTP client",
    )
}

fn synchronised(marker: &Path) -> Finding {
    if marker.exists() {
        return Finding::ok(Check::SystemClockSync, "", "systemd-timesyncd keeps the clock");
    }
    Finding::skipped(
        Check::SystemClockSync,
        "",
        "systemd-timesyncd does not keep the clock; of others nothing is known here",
        "see for yourself: `timedatectl`, or `chronyc tracking`; iat and exp depend on it",
    )
}

fn space(state_dir: &Path) -> Finding {
    let there = state_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let subject = state_dir.display();
    match statvfs(there) {
        Ok(found) => room(subject, found.f_bavail.saturating_mul(found.f_frsize), inodes(&found)),
        Err(error) => {
            let remedy = "mount it, or name another state_dir";
            Finding::fault(
                Check::SystemSpace,
                subject,
                format!("cannot be looked at: {error}"),
                remedy,
            )
        }
    }
}

/// Free inodes; `None` where the file system has no fixed number.
fn inodes(found: &rustix::fs::StatVfs) -> Option<u64> {
    (found.f_files > 0).then_some(found.f_favail)
}

fn room(subject: impl std::fmt::Display, bytes: u64, inodes: Option<u64>) -> Finding {
    let found = match inodes {
        Some(inodes) => format!("{} MiB and {inodes} inodes are free", bytes >> 20),
        None => format!("{} MiB are free", bytes >> 20),
    };
    let remedy = "make room: a keyset that cannot be written cannot be rotated";
    let few = inodes.is_some_and(|inodes| inodes < FEW_INODES);
    match bytes {
        ..NO_ROOM => Finding::fault(Check::SystemSpace, subject, found, remedy),
        _ if few => Finding::fault(Check::SystemSpace, subject, found, remedy),
        NO_ROOM..LITTLE_ROOM => Finding::warning(Check::SystemSpace, subject, found, remedy),
        _ => Finding::ok(Check::SystemSpace, subject, found),
    }
}

/// How much longer the wall clock went than the monotonic one, seconds, before a running server's
/// timing is in doubt: S of DESIGN.md.
pub(super) fn drift(wall: Duration, monotonic: Duration, backwards: bool) -> Finding {
    let shown = |duration: Duration| {
        humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
    };
    let apart = if backwards { wall + monotonic } else { wall.abs_diff(monotonic) };
    let subject = "since the server started";
    if apart <= Profile::DEFAULT_SKEW {
        let found = format!("started {} ago by wall and monotonic clock alike", shown(monotonic));
        return Finding::ok(Check::SystemClock, subject, found);
    }
    Finding::fault(
        Check::SystemClock,
        subject,
        format!(
            "the wall clock was set: it went {}{} while {} passed",
            if backwards { "back " } else { "" },
            shown(wall),
            shown(monotonic)
        ),
        "keep the clock right with an NTP client that slews; restart the appliance if this is right now",
    )
}

/// A time as people read it.
pub(super) fn date(time: UnixTime) -> String {
    // RFC 3339 has years of four digits.
    if !(0..=LAST_SECOND).contains(&time.0) {
        return format!("{} s since 1970", time.0);
    }
    let since = Duration::from_secs(time.0.unsigned_abs());
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string()
}

#[cfg(test)]
mod tests {
    use mintwarden_worker::finding::Verdict;

    use super::*;

    #[test]
    fn a_clock_that_cannot_be_right_is_a_fault() {
        for (at, verdict) in [
            (0, Verdict::Fault),
            (PAST.0 - 1, Verdict::Fault),
            (PAST.0, Verdict::Ok),
            (FUTURE.0 - 1, Verdict::Ok),
            (FUTURE.0, Verdict::Fault),
            (i64::MAX, Verdict::Fault),
        ] {
            assert_eq!(wall(UnixTime(at)).verdict, verdict, "{at}");
        }
    }

    #[test]
    fn every_time_can_be_shown() {
        assert_eq!(date(UnixTime(LAST_SECOND)), "9999-12-31T23:59:59Z");
        for beyond in [i64::MIN, -1, LAST_SECOND + 1, i64::MAX] {
            assert_eq!(date(UnixTime(beyond)), format!("{beyond} s since 1970"));
        }
    }

    #[test]
    fn a_clock_that_was_set_is_a_fault() {
        let seconds = Duration::from_secs;
        for (wall, monotonic, backwards, verdict) in [
            (seconds(100), seconds(100), false, Verdict::Ok),
            (seconds(130), seconds(100), false, Verdict::Ok),
            (seconds(131), seconds(100), false, Verdict::Fault),
            (seconds(10), seconds(100), false, Verdict::Fault),
            (seconds(10), seconds(30), true, Verdict::Fault),
            (seconds(1), seconds(1), true, Verdict::Ok),
        ] {
            let found = drift(wall, monotonic, backwards);
            assert_eq!(found.verdict, verdict, "{found:?}");
        }
    }

    #[test]
    fn little_room_is_told_and_no_room_is_a_fault() {
        for (bytes, inodes, verdict) in [
            (LITTLE_ROOM, None, Verdict::Ok),
            (LITTLE_ROOM, Some(FEW_INODES), Verdict::Ok),
            (LITTLE_ROOM, Some(FEW_INODES - 1), Verdict::Fault),
            (LITTLE_ROOM - 1, None, Verdict::Warning),
            (NO_ROOM - 1, None, Verdict::Fault),
        ] {
            assert_eq!(room("state", bytes, inodes).verdict, verdict, "{bytes} {inodes:?}");
        }
    }

    #[test]
    fn nothing_is_said_of_clients_that_are_not_known() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(synchronised(directory.path()).verdict, Verdict::Ok);
        assert_eq!(synchronised(&directory.path().join("absent")).verdict, Verdict::Skipped);
    }
}
