//! What is kept of a run that failed: statistics, counts, rules, logs.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
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
    fs::create_dir_all(folder).map_err(LabError::system("make", folder.display().to_string()))?;
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
    fn records_are_taken_apart() {
        let record = "4,812,5566,-;nf_conntrack: table full in netns 1; dropping\n SUBSYSTEM=net\n";
        let text = "nf_conntrack: table full in netns 1; dropping".to_owned();
        assert_eq!(parsed(record), Some((812, text)));
        assert_eq!(parsed("no record"), None);
    }
}
