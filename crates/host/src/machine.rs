//! Which machine and which boot this is.

use std::fs;
use std::path::Path;

use ctkeeper_snapshot::{System, Taken};
use rustix::time::{ClockId, clock_gettime};

use crate::read;

/// When and where: clocks, boot id, host name, kernel, CPUs. Fields that cannot be read are empty;
/// `ctkeeper` and `in_initial_namespace` are the caller's to fill in.
pub fn taken() -> Taken {
    let uname = rustix::system::uname();
    Taken {
        unix_ms: milliseconds(ClockId::Realtime),
        boottime_ms: boottime_ms(),
        boot_id: boot_id().unwrap_or_default(),
        hostname: uname.nodename().to_string_lossy().into_owned(),
        kernel: kernel_release(),
        cpus: cpus(),
        ctkeeper: String::new(),
        in_initial_namespace: false,
    }
}

/// Distribution, build of the kernel and architecture; the distribution is that of the files below
/// `root`.
pub fn system(root: &Path) -> System {
    let uname = rustix::system::uname();
    let files = ["etc/os-release", "usr/lib/os-release"];
    let mut texts = files.iter().filter_map(|file| read::text(&root.join(file)).ok());
    System {
        distribution: texts.find_map(|text| distribution(&text)),
        kernel_build: uname.version().to_string_lossy().into_owned(),
        architecture: uname.machine().to_string_lossy().into_owned(),
    }
}

/// os-release(5): assignments as a shell has them.
fn distribution(text: &str) -> Option<String> {
    let quoted = text.lines().find_map(|line| line.trim().strip_prefix("PRETTY_NAME="))?;
    let name = quoted.trim().trim_matches(['"', '\'']);
    (!name.is_empty()).then(|| name.to_owned())
}

/// `CLOCK_BOOTTIME`, milliseconds.
pub fn boottime_ms() -> u64 {
    milliseconds(ClockId::Boottime)
}

/// The id of this boot, if `/proc` shows it.
pub fn boot_id() -> Option<String> {
    read::value("/proc/sys/kernel/random/boot_id").ok()
}

/// `uname -r`.
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// CPUs online, at least 1.
pub fn cpus() -> u32 {
    let online = fs::read_to_string("/sys/devices/system/cpu/online");
    online.ok().and_then(|list| count_cpus(&list)).unwrap_or_else(schedulable_cpus)
}

fn milliseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    (time.tv_sec as u64).saturating_mul(1000).saturating_add(time.tv_nsec as u64 / 1_000_000)
}

/// Counts a CPU list such as `0-3,8`.
fn count_cpus(list: &str) -> Option<u32> {
    list.trim().split(',').map(count_range).sum::<Option<u32>>().filter(|count| *count > 0)
}

fn count_range(range: &str) -> Option<u32> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
    last.checked_sub(first)?.checked_add(1)
}

fn schedulable_cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| count.get() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_counted() {
        assert_eq!(count_cpus("0-3,8\n"), Some(5));
        assert_eq!(count_cpus("0"), Some(1));
        assert_eq!(count_cpus("3-1"), None);
        assert_eq!(count_cpus("0-4294967295"), None);
        assert_eq!(count_cpus(""), None);
    }

    #[test]
    fn distributions_are_named() {
        let text = "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        assert_eq!(distribution(text).as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(distribution("PRETTY_NAME=Alpine\n").as_deref(), Some("Alpine"));
        assert_eq!(distribution("PRETTY_NAME=\n"), None);
        assert!(!system(Path::new("/")).architecture.is_empty());
    }

    #[test]
    fn this_machine_is_known() {
        let taken = taken();
        assert!(taken.cpus >= 1 && taken.boottime_ms > 0 && !taken.kernel.is_empty());
        assert_eq!(taken.boot_id.len(), 36);
    }
}
