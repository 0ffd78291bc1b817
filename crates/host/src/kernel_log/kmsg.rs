//! `/dev/kmsg`: the records of this boot that the kernel still has
//! (`Documentation/ABI/testing/dev-kmsg`).

use std::os::fd::OwnedFd;
use std::path::Path;

use ctkeeper_snapshot::{Gap, GapKind, KernelLog};
use rustix::fs::{FileType, Mode, OFlags, Stat, major, minor};
use rustix::io::Errno;

use super::{Message, Tally, find};

const DEVICE: &str = "/dev/kmsg";

/// Longest record that the kernel hands out (`PRINTK_MESSAGE_MAX`, 2048 bytes since Linux 6.4;
/// before, `CONSOLE_EXT_LOG_MAX`, 8192).
const RECORD: usize = 8192;

/// Records read at most: a log of 16 MiB holds fewer.
const RECORDS: usize = 500_000;

/// Reads the kernel log from its oldest record to its end, without waiting. A log that cannot be
/// read is a gap.
pub fn read() -> (KernelLog, Option<Gap>) {
    read_from(Path::new(DEVICE))
}

fn read_from(device: &Path) -> (KernelLog, Option<Gap>) {
    // Looked at before it is opened: opening a device may do something.
    let found = rustix::fs::stat(device).map(|found| is_log(&found));
    match found.and_then(|is_log| if is_log { open_and_tally(device).map(Some) } else { Ok(None) })
    {
        Ok(Some(tally)) => (tally.finish(), None),
        Ok(None) => (KernelLog::default(), Some(something_else(device))),
        Err(error) => (KernelLog::default(), Some(gap(device, error))),
    }
}

/// `Documentation/admin-guide/devices.txt`: character device 1:11.
fn is_log(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
        && (major(found.st_rdev), minor(found.st_rdev)) == (1, 11)
}

fn open_and_tally(device: &Path) -> rustix::io::Result<Tally> {
    tally(&open(device)?)
}

fn open(device: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    rustix::fs::open(device, flags, Mode::empty())
}

/// Each read brings one record. `EPIPE` says that records were overwritten meanwhile; the next read
/// goes on with the oldest that is left.
fn tally(device: &OwnedFd) -> rustix::io::Result<Tally> {
    let mut tally = Tally::default();
    let mut buffer = [0_u8; RECORD];
    for _ in 0..RECORDS {
        match rustix::io::read(device, &mut buffer) {
            Ok(0) | Err(Errno::AGAIN) => break,
            Ok(length) => add(&mut tally, buffer.get(..length).unwrap_or_default()),
            Err(Errno::PIPE | Errno::INTR | Errno::INVAL) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(tally)
}

fn add(tally: &mut Tally, record: &[u8]) {
    if let Some((message, at_ms)) = parse_record(record) {
        tally.add(&message, Some(at_ms));
    }
}

/// Message and milliseconds of a record `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,…];TEXT`. Only the
/// kernel's own count: what programs write has a facility (priority of 8 and more).
fn parse_record(record: &[u8]) -> Option<(Message, u64)> {
    let end = record.iter().position(|byte| *byte == b'\n').unwrap_or(record.len());
    let text = String::from_utf8_lossy(record.get(..end)?);
    let (prefix, text) = text.split_once(';')?;
    let mut fields = prefix.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    let microseconds: u64 = fields.nth(1)?.parse().ok()?;
    let (message, _) = find(text).filter(|_| priority < 8)?;
    Some((message, microseconds / 1000))
}

/// `/dev/null` over it, or a link to the console, as containers have it.
fn something_else(device: &Path) -> Gap {
    Gap {
        kind: GapKind::Unavailable,
        what: "the kernel log".to_owned(),
        cause: format!("{} is not the kernel's log here but something else", device.display()),
        remedy: ELSEWHERE.to_owned(),
    }
}

const ELSEWHERE: &str = "run on the host, where /dev/kmsg is";

fn gap(device: &Path, error: Errno) -> Gap {
    let (kind, remedy) = match error {
        Errno::PERM | Errno::ACCESS => {
            (GapKind::Privilege, "run as root, or with CAP_SYSLOG (kernel.dmesg_restrict is on)")
        }
        _ => (GapKind::Unavailable, ELSEWHERE),
    };
    Gap {
        kind,
        what: "the kernel log".to_owned(),
        cause: format!("reading {}: {error}", device.display()),
        remedy: remedy.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records_are_taken_apart() {
        let record = b"4,1042,86400123456,-;nf_conntrack: nf_conntrack: table full in netns \
            4026532465, dropping packet\n SUBSYSTEM=net\n";
        let expected = Message::Full { namespace: Some(4_026_532_465) };
        assert_eq!(parse_record(record), Some((expected, 86_400_123)));
        let with_caller = b"4,1,2000,-,caller=C1;net_ratelimit: 59 callbacks suppressed";
        assert_eq!(parse_record(with_caller), Some((Message::Suppressed(59), 2)));
    }

    #[test]
    fn what_programs_write_does_not_count() {
        let record = b"12,1042,86400123456,-;nf_conntrack: table full, dropping packet\n";
        assert_eq!(parse_record(record), None);
    }

    #[test]
    fn this_log_is_read_or_a_gap_says_why() {
        let (log, gap) = read();
        assert_eq!(log.readable, gap.is_none());
    }

    #[test]
    fn what_is_no_log_is_a_gap() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for other in [Path::new("/dev/null"), Path::new("/dev"), file.path()] {
            let (log, gap) = read_from(other);
            let gap = gap.unwrap();
            assert!(!log.readable && gap.cause.contains("something else"), "{gap:?}");
        }
        let (log, gap) = read_from(Path::new("/dev/nothing"));
        assert!(!log.readable && gap.unwrap().cause.contains("/dev/nothing"));
    }

    proptest! {
        #[test]
        fn no_record_does_harm(record in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_record(&record);
        }
    }
}
