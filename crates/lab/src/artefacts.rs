//! What is kept of a run that failed: statistics, counts, rules, logs.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::{HaProxy, LabError, Namespace};

/// A record of `/dev/kmsg` is at most so long (`PRINTK_MESSAGE_MAX`, `kernel/printk/internal.h`,
/// Linux 6.12: 2048).
const RECORD: usize = 8192;

/// A place in the kernel's log: later lines belong to the run.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelLogMark(u64);

impl KernelLogMark {
    /// The log's end as it is now.
    pub fn now() -> Self {
        Self(records(0).last().map_or(0, |(sequence, _)| sequence + 1))
    }

    /// The lines since then, without their prefixes; none where the log may not be read.
    pub fn lines(self) -> Vec<String> {
        records(self.0).into_iter().map(|(_, text)| text).collect()
    }
}

/// Writes what is known of namespaces and proxies into a folder, one file each:
/// `NAMESPACE.statistics`, `.count`, `.rules`, `haproxy-N.log`, `kernel.log`. What cannot be had
/// says so in its file.
pub fn keep<'a>(
    folder: &Path,
    namespaces: impl IntoIterator<Item = &'a Namespace>,
    proxies: impl IntoIterator<Item = &'a HaProxy>,
    since: KernelLogMark,
) -> Result<(), LabError> {
    make_folder(folder).map_err(LabError::system("make", folder.display().to_string()))?;
    for namespace in namespaces {
        keep_namespace(folder, namespace)?;
    }
    for (number, proxy) in proxies.into_iter().enumerate() {
        let text = proxy.warnings() + &proxy.log();
        write(&folder.join(format!("haproxy-{number}.log")), &text)?;
    }
    write(&folder.join("kernel.log"), &(since.lines().join("\n") + "\n"))
}

/// A folder for a run's artefacts below `parent`: `SCENARIO-SECONDS` since 1970.
pub fn folder(parent: &Path, scenario: &str) -> PathBuf {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    parent.join(format!("{scenario}-{now}"))
}

/// Where artefacts go unless told: `target/lab` of the workspace that is worked in, else a folder of
/// the system for temporary files.
pub fn parent_folder() -> PathBuf {
    let target = Path::new("target");
    if Path::new("Cargo.toml").is_file() && target.is_dir() {
        return target.join("lab");
    }
    std::env::temp_dir().join("ctkeeper-lab")
}

/// Makes the folder, for this user's eyes. Where everybody may write (/tmp) another user could have
/// made it first, full of links to files that root may overwrite: there it must be this user's.
fn make_folder(folder: &Path) -> std::io::Result<()> {
    for part in [folder.parent(), Some(folder)].into_iter().flatten() {
        if part.as_os_str().is_empty() {
            continue;
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(part)?;
        let found = fs::symlink_metadata(part)?;
        let is_own = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw();
        if !is_own && part.parent().is_some_and(is_everybodys) {
            let text = format!("{} belongs to another user", part.display());
            return Err(std::io::Error::new(ErrorKind::PermissionDenied, text));
        }
    }
    Ok(())
}

fn is_everybodys(folder: &Path) -> bool {
    fs::metadata(folder).is_ok_and(|found| found.mode() & 0o002 != 0)
}

fn keep_namespace(folder: &Path, namespace: &Namespace) -> Result<(), LabError> {
    let file = |kind: &str| folder.join(format!("{}.{kind}", namespace.name()));
    let count = namespace.count_and_limit().map(|(count, limit)| format!("{count} of {limit}\n"));
    write(&file("count"), &count.unwrap_or_else(said))?;
    let statistics = statistics(namespace).unwrap_or_else(said);
    write(&file("statistics"), &statistics)?;
    let rules = namespace.run("nft", &["list", "ruleset"]).unwrap_or_else(said);
    write(&file("rules"), &rules)
}

fn statistics(namespace: &Namespace) -> Result<String, LabError> {
    let read = namespace.conntrack()?.statistics();
    let per_cpu = read.map_err(|error| namespace.netlink(error))?;
    let lines: Vec<_> = per_cpu.iter().map(|one| format!("{one:?}")).collect();
    Ok(lines.join("\n") + "\n")
}

#[expect(clippy::needless_pass_by_value, reason = "what unwrap_or_else hands over")]
fn said(error: LabError) -> String {
    format!("{error}\n")
}

fn write(file: &Path, text: &str) -> Result<(), LabError> {
    fs::write(file, text).map_err(LabError::system("write", file.display().to_string()))
}

/// Records of the kernel's log from a sequence number on: `level,sequence,time,flags;text`
/// (`Documentation/ABI/testing/dev-kmsg`).
fn records(from: u64) -> Vec<(u64, String)> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let Ok(mut log) = File::options().read(true).custom_flags(flags).open("/dev/kmsg") else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut record = [0; RECORD];
    loop {
        match log.read(&mut record) {
            Ok(0) => return found,
            Ok(length) => {
                let text = String::from_utf8_lossy(record.get(..length).unwrap_or_default());
                found.extend(parsed(&text).filter(|(sequence, _)| *sequence >= from));
            }
            // Lines that were overwritten before they were read.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(_) => return found,
        }
    }
}

fn parsed(record: &str) -> Option<(u64, String)> {
    let (head, text) = record.split_once(';')?;
    let sequence = head.split(',').nth(1)?.parse().ok()?;
    Some((sequence, text.lines().next().unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_another_user_is_not_written_to() {
        let parent = std::env::temp_dir().join(format!("ctkeeper-kept-{}", std::process::id()));
        make_folder(&parent.join("run")).unwrap();
        let mode = fs::metadata(parent.join("run")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700);
        if rustix::process::geteuid().is_root() && is_everybodys(&std::env::temp_dir()) {
            std::os::unix::fs::chown(&parent, Some(65_534), None).unwrap();
            let error = make_folder(&parent.join("run")).unwrap_err();
            assert!(error.to_string().contains("another user"), "{error}");
        }
        fs::remove_dir_all(&parent).unwrap();
    }

    #[test]
    fn records_are_taken_apart() {
        let record = "4,812,5566,-;nf_conntrack: table full in netns 1; dropping\n SUBSYSTEM=net\n";
        let text = "nf_conntrack: table full in netns 1; dropping".to_owned();
        assert_eq!(parsed(record), Some((812, text)));
        assert_eq!(parsed("no record"), None);
    }
}
