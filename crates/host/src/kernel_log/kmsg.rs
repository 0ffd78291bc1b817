//! `/dev/kmsg`: the records of this boot that the kernel still has
//! (`Documentation/ABI/testing/dev-kmsg`).

use std::borrow::Cow;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::Path;

use ctkeeper_snapshot::{Gap, GapKind, KernelLog, LogExcerpt, LogLine};
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
    let mut tally = Tally::default();
    each_record(&open(device)?, |record| {
        if let Some((message, at_ms)) = message(&record) {
            tally.add(&message, Some(at_ms));
        }
    })?;
    Ok(tally)
}

/// The kernel's own records that have to do with connection tracking, at most `most` of them, the
/// youngest. None where the log cannot be read: [`read`] says why.
pub fn excerpt(most: usize) -> LogExcerpt {
    excerpt_of(Path::new(DEVICE), most).unwrap_or_default()
}

fn excerpt_of(device: &Path, most: usize) -> rustix::io::Result<LogExcerpt> {
    if !is_log(&rustix::fs::stat(device)?) {
        return Ok(LogExcerpt::default());
    }
    let mut lines = VecDeque::new();
    let mut left_out = 0;
    each_record(&open(device)?, |record| {
        if !concerns_tracking(&record.text) {
            return;
        }
        lines.push_back(LogLine { at_ms: record.at_ms, text: record.text.into_owned() });
        if lines.len() > most {
            lines.pop_front();
            left_out += 1;
        }
    })?;
    Ok(LogExcerpt { lines: lines.into(), left_out })
}

/// What the modules say of themselves, what a rule logs under such a prefix, and how much the
/// kernel's rate limit held back.
fn concerns_tracking(text: &str) -> bool {
    const NAMES: [&str; 7] =
        ["conntrack", "nf_ct_", "nf_nat", "xt_CT", "xt_connlimit", "nft_ct", "synproxy"];
    NAMES.iter().any(|name| text.contains(name)) || find(text).is_some()
}

fn open(device: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    rustix::fs::open(device, flags, Mode::empty())
}

/// Hands on the kernel's own records. Each read brings one; `EPIPE` says that some were overwritten
/// meanwhile, and the next read goes on with the oldest that is left.
fn each_record(device: &OwnedFd, mut f: impl FnMut(Record<'_>)) -> rustix::io::Result<()> {
    let mut buffer = [0_u8; RECORD];
    for _ in 0..RECORDS {
        match rustix::io::read(device, &mut buffer) {
            Ok(0) | Err(Errno::AGAIN) => break,
            Ok(length) => {
                if let Some(record) = Record::parse(buffer.get(..length).unwrap_or_default()) {
                    f(record);
                }
            }
            Err(Errno::PIPE | Errno::INTR | Errno::INVAL) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A record of the kernel's own.
#[derive(Debug)]
struct Record<'a> {
    at_ms: u64,
    text: Cow<'a, str>,
}

impl<'a> Record<'a> {
    /// Takes `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,…];TEXT` apart. Only the kernel's own count:
    /// what programs write has a facility (priority of 8 and more).
    fn parse(record: &'a [u8]) -> Option<Self> {
        let end = record.iter().position(|byte| *byte == b'\n').unwrap_or(record.len());
        let record = record.get(..end)?;
        let semicolon = record.iter().position(|byte| *byte == b';')?;
        let prefix = std::str::from_utf8(record.get(..semicolon)?).ok()?;
        let mut fields = prefix.split(',');
        let priority: u32 = fields.next()?.parse().ok()?;
        let microseconds: u64 = fields.nth(1)?.parse().ok()?;
        let text = String::from_utf8_lossy(record.get(semicolon + 1..)?);
        (priority < 8).then_some(Self { at_ms: microseconds / 1000, text })
    }
}

/// What a record says about the table, and when.
fn message(record: &Record<'_>) -> Option<(Message, u64)> {
    find(&record.text).map(|(message, _)| (message, record.at_ms))
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

    fn parse_record(record: &[u8]) -> Option<(Message, u64)> {
        message(&Record::parse(record)?)
    }

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
    fn an_excerpt_is_of_tracking_and_bounded() {
        assert!(concerns_tracking("nf_conntrack: nf_conntrack: table full, dropping packet"));
        assert!(concerns_tracking("nf_ct_ftp: dropping packet: partial match SRC=10.0.0.1"));
        assert!(concerns_tracking("net_ratelimit: 59 callbacks suppressed"));
        assert!(!concerns_tracking("eth0: link becomes ready"));
        let (all, log) = (excerpt(usize::MAX), excerpt(1));
        assert!(all.left_out == 0 && log.lines.len() <= 1);
        // Others may log between the two looks, and the log may lose its oldest lines.
        assert!(all.lines.len() < 2 || log.left_out > 0);
        assert_eq!(excerpt_of(Path::new("/dev/null"), 9), Ok(LogExcerpt::default()));
        assert!(excerpt_of(Path::new("/dev/nothing"), 9).is_err());
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
