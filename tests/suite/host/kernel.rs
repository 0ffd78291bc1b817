//! `sysctl`, `namespaces`, `memory`, `tracking` and `kernel_log` on the real kernel.

use std::fs;
use std::net::UdpSocket;
use std::ops::ControlFlow;
use std::process::{Child, Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use ctkeeper_host::sysctl::{self, LimitsAccess, SysctlError};
use ctkeeper_host::{kernel_log, memory, namespaces, tracking};
use ctkeeper_netlink::{Conntrack, netns};
use ctkeeper_tests::{Filling, Namespace, ensure_harmless, fill, filled};

/// Set in a copy of this program that only tells what it sees where it was started.
const PROBE: &str = "CTKEEPER_HOST_PROBE";

pub(crate) fn is_probe() -> bool {
    std::env::var_os(PROBE).is_some()
}

pub(crate) fn answer_probe() -> ExitCode {
    println!("{:?} {:?}", sysctl::limits_access(), sysctl::in_initial_namespace());
    ExitCode::SUCCESS
}

pub(crate) fn timeouts_are_each_namespaces_own() -> anyhow::Result<()> {
    const NAME: &str = "nf_conntrack_tcp_timeout_close_wait";
    let (here, there) = (Namespace::create()?, Namespace::create()?);
    let before = inside(&there, sysctl::timeouts)??;
    inside(&here, || sysctl::write(NAME, 77))??;
    let (changed, other) = (inside(&here, sysctl::timeouts)??, inside(&there, sysctl::timeouts)??);
    ensure!(changed.get("tcp_timeout_close_wait") == Some(77), "{changed:?}");
    ensure!(other == before, "{other:?} was {before:?}");
    ensure!(changed.established().is_some(), "no timeout of established connections");
    let files = fs::read_dir(sysctl::FOLDER)?.flatten();
    let expected = files.filter(|f| f.file_name().to_string_lossy().contains("timeout")).count();
    ensure!(changed.0.len() == expected, "{} of {expected}", changed.0.len());
    Ok(())
}

pub(crate) fn refusals_say_what_to_do() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    let failed = |name: &'static str, value| -> anyhow::Result<SysctlError> {
        inside(&namespace, move || sysctl::write(name, value))?.err().context("it was taken")
    };
    let out_of_range = failed("nf_conntrack_tcp_timeout_close_wait", 1 << 40)?;
    ensure!(matches!(out_of_range, SysctlError::Refused { .. }), "{out_of_range}");
    // Not the initial namespace: the limit itself cannot be touched by this.
    let child = failed(sysctl::LIMIT, 1 << 40)?;
    ensure!(matches!(child, SysctlError::Denied { .. }), "{child}");
    ensure!(child.to_string().contains("initial network namespace"), "{child}");
    let absent = failed("nf_conntrack_no_such_value", 1)?;
    ensure!(matches!(absent, SysctlError::Absent { .. }), "{absent}");
    ensure!(inside(&namespace, sysctl::limits)?? == sysctl::limits()?, "limits are not global");
    Ok(())
}

pub(crate) fn what_bars_a_change_is_told_by_looking() -> anyhow::Result<()> {
    let program = std::env::current_exe()?;
    let told = |script: &str| -> anyhow::Result<String> {
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-ec", script, "sh"])
            .arg(&program)
            .env(PROBE, "1")
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let cases = [
        ("exec \"$1\"", LimitsAccess::Writable, true),
        ("exec unshare --net \"$1\"", LimitsAccess::OtherNamespace, false),
        (
            "mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys; exec \"$1\"",
            LimitsAccess::ReadOnlyMount,
            true,
        ),
    ];
    for (script, access, initial) in cases {
        let told = told(script)?;
        ensure!(told == format!("{access:?} {:?}", Some(initial)), "{script}: {told}");
    }
    ensure!(
        told("mount -t tmpfs none /proc/sys; exec \"$1\"")?
            == format!("{:?} None", LimitsAccess::Absent)
    );
    Ok(())
}

pub(crate) fn namespaces_are_named() -> anyhow::Result<()> {
    let (inhabited, empty) = (Namespace::create()?, Namespace::create()?);
    let sleeper = Sleeper::start(&inhabited)?;
    let enumeration = netns::enumerate();
    let describe = |namespace: &Namespace| -> anyhow::Result<_> {
        let found = enumeration.find(namespace.inode()?).context("not listed")?;
        Ok(namespaces::describe(found, 5))
    };
    let (inhabited_by, empty_one) = (describe(&inhabited)?, describe(&empty)?);
    ensure!(
        inhabited_by.names.first().is_some_and(|name| name == inhabited.name()),
        "{inhabited_by:?}"
    );
    let process = inhabited_by.processes.first().context("no process")?;
    ensure!((process.pid, process.command.as_str()) == (sleeper.0.id(), "sleep"), "{process:?}");
    ensure!(process.cgroup.as_deref().is_some_and(|path| path.starts_with('/')), "{process:?}");
    ensure!(empty_one.names == [empty.name()] && empty_one.processes.is_empty(), "{empty_one:?}");
    ensure!(sysctl::in_initial_namespace() != inside(&empty, sysctl::in_initial_namespace)?);
    Ok(())
}

pub(crate) fn entries_show_in_the_slab() -> anyhow::Result<()> {
    const ENTRIES: u64 = 20_000;
    let namespace = Namespace::create()?;
    wait_for_room(ENTRIES)?;
    fill(&namespace, 0, ENTRIES, Filling::Established { timeout: 600 })?;
    let (memory, _) = memory::read();
    let seen = memory.slab_entries.context("slabinfo tells no entries")?;
    ensure!(seen >= ENTRIES, "{seen} of {ENTRIES} entries");
    ensure!(memory.entry.measured && memory.entry.object >= 200, "{:?}", memory.entry);
    Ok(())
}

/// Rules, whether the kernel tracks a packet with them, and whether anything acts on it.
const RULESETS: &[(&str, bool, Option<bool>)] = &[
    ("", false, Some(false)),
    ("table ip t { chain c { type nat hook postrouting priority 100; }\n}", false, Some(false)),
    (
        "table ip t { chain c { type filter hook output priority -300; notrack\n}\n}",
        false,
        Some(false),
    ),
    (
        "table ip t { chain c { type filter hook input priority 0; counter drop\n}\n}",
        false,
        Some(false),
    ),
    (
        "table ip t { chain c { type filter hook input priority 0; ct state new counter\n}\n}",
        true,
        Some(false),
    ),
    (
        "table ip t { chain c { type filter hook input priority 0; ct state established accept\n}\n}",
        true,
        Some(false),
    ),
    (
        "table ip t { flags dormant; chain c { type filter hook input priority 0; ct state new counter\n}\n}",
        true,
        Some(false),
    ),
    ("table ip t { chain c { ct state new counter\n}\n}", true, Some(false)),
    (
        "table ip t { chain early { type filter hook prerouting priority -300; ip daddr 192.0.2.1 drop\n}\n\
         chain c { type filter hook input priority 0; ct state new counter\n}\n}",
        true,
        Some(false),
    ),
    (
        "table inet t { chain c { type filter hook input priority 0; policy drop; \
         ct state new,established accept\n}\n}",
        true,
        Some(true),
    ),
    (
        "table ip t { chain c { type filter hook input priority 0; ct state invalid drop\n}\n}",
        true,
        Some(true),
    ),
    (
        "table ip t { chain c { type filter hook input priority 0; ct state vmap { invalid : drop }\n}\n}",
        true,
        Some(true),
    ),
    (
        "table ip t { chain c { type filter hook input priority 0; ct state invalid reject\n}\n}",
        true,
        Some(true),
    ),
    (
        "table ip t { chain c { type route hook output priority 0; ct state new meta mark set 1\n}\n}",
        true,
        Some(true),
    ),
    (
        "table ip t { chain c { type filter hook output priority 0; ct state new ip dscp set cs1\n}\n}",
        true,
        Some(true),
    ),
    (
        "table ip t { chain c { type filter hook input priority 0; ct state new log\n}\n}",
        true,
        Some(true),
    ),
    (
        "table ip t { chain c { type filter hook prerouting priority -150; \
         ct state new udp dport 9 tproxy to :9\n}\n}",
        true,
        Some(true),
    ),
    (
        "table ip t { set s { type ipv4_addr; flags dynamic; timeout 1m; }\n\
         chain c { type filter hook input priority 0; ct state new add @s { ip saddr }\n}\n}",
        true,
        Some(true),
    ),
    (
        "table ip t { chain c { type filter hook input priority 0; ct state established accept\n\
         meta mark set 1\n}\n}",
        true,
        None,
    ),
    (
        "table ip t { chain c { type filter hook input priority 0; \
         meta mark 1 udp dport 9 ip dscp cs0 ct state { new, established } counter accept\n}\n}",
        true,
        Some(false),
    ),
    (
        "table ip t { chain c { type filter hook input priority 0; ct mark set 1\n}\n}",
        true,
        Some(true),
    ),
    (
        "table ip t { chain c { type nat hook postrouting priority 100; ip daddr 192.0.2.1 masquerade\n}\n}",
        true,
        Some(true),
    ),
    (
        "table ip t { chain c { type nat hook prerouting priority -100; tcp dport 1 dnat to 192.0.2.1\n}\n}",
        true,
        Some(true),
    ),
    (
        "table ip t { chain c { type nat hook prerouting priority -100; tcp dport 1 redirect to :2\n}\n}",
        true,
        Some(true),
    ),
];

/// The kernel itself is the judge of what turns tracking on.
pub(crate) fn what_turns_tracking_on_is_found() -> anyhow::Result<()> {
    for (rules, tracks, needed) in RULESETS {
        let namespace = Namespace::create()?;
        namespace.nft(rules)?;
        let (found, gaps) = inside(&namespace, tracking::find)?;
        ensure!(gaps.is_empty(), "{rules}\n{gaps:?}");
        let count = inside(&namespace, || -> anyhow::Result<u64> {
            UdpSocket::bind("127.0.0.1:0")?.send_to(b"x", "127.0.0.1:9")?;
            Ok(sysctl::read("nf_conntrack_count")?)
        })??;
        ensure!((count > 0) == *tracks, "the kernel has {count} entries with\n{rules}");
        ensure!(found.trackers.is_empty() != *tracks, "{found:?} for\n{rules}");
        ensure!(found.needed() == *needed, "{found:?} for\n{rules}");
        for tracker in &found.trackers {
            ensure!(tracker.place.starts_with("nftables "), "{tracker:?}");
        }
    }
    Ok(())
}

/// A refused entry leaves a line that names the namespace (on kernels that name it). Lines are
/// limited for the whole host, so it may take a few tries. The kernel gives a new namespace the inode
/// of one that has gone, so there may be older lines about that one.
pub(crate) fn a_full_table_shows_in_the_log() -> anyhow::Result<()> {
    let Some(limit) = sysctl::limits()?.limit.entries() else { bail!("the limit is off here") };
    let namespace = Namespace::create()?;
    let inode = namespace.inode()?;
    let lines = || -> anyhow::Result<(u64, u64)> {
        let (log, gap) = kernel_log::read();
        ensure!(gap.is_none(), "{gap:?}");
        let of = |wanted| log.full.iter().filter(move |r| r.namespace == wanted).map(|r| r.lines);
        Ok((of(Some(inode)).sum(), of(None).sum()))
    };
    wait_for_room(limit)?;
    fill(&namespace, 0, limit, Filling::Established { timeout: 600 })?;
    let (named, unnamed) = lines()?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        inside(&namespace, || refuse(limit))??;
        let (named_now, unnamed_now) = lines()?;
        if named_now > named || unnamed_now > unnamed {
            return Ok(());
        }
        thread::sleep(Duration::from_secs(1));
    }
    bail!("no line about namespace {inode} in 30 s")
}

/// Asks for entries beyond the limit.
fn refuse(limit: u64) -> anyhow::Result<()> {
    let more = (limit..limit + 3).map(|number| filled(number, Filling::HalfOpen));
    let batch = Conntrack::open()?.create_batch(more, |_, _| ControlFlow::Continue(()))?;
    ensure!(batch.failed > 0, "entries beyond the limit were taken");
    Ok(())
}

/// Other tests fill tables too; theirs go away.
fn wait_for_room(entries: u64) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(120);
    while Instant::now() < deadline && ensure_harmless(entries).is_err() {
        thread::sleep(Duration::from_secs(1));
    }
    Ok(ensure_harmless(entries)?)
}

/// Calls `f` in a namespace.
fn inside<T: Send>(namespace: &Namespace, f: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
    let handle = netns::Namespace::open(&netns::NamespaceSelector::Path(namespace.path()))?;
    Ok(netns::enter(&handle, |_| f())?)
}

/// A process in a namespace, ended with its guard.
struct Sleeper(Child);

impl Sleeper {
    fn start(namespace: &Namespace) -> anyhow::Result<Self> {
        let sleeper = Self(namespace.command("sleep").arg("600").spawn()?);
        let comm = format!("/proc/{}/comm", sleeper.0.id());
        let deadline = Instant::now() + Duration::from_secs(10);
        // `ip netns exec` becomes the program once it has entered the namespace.
        while fs::read_to_string(&comm)?.trim() != "sleep" {
            ensure!(Instant::now() < deadline, "sleep did not start");
            thread::sleep(Duration::from_millis(5));
        }
        Ok(sleeper)
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        // A guard must not panic; the process may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
