//! Everything that the lab makes goes again: on drop, on panic, on signals, and after kill -9 with
//! the next run.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ctkeeper_lab::{
    Bridge, End, Filler, Filling, HaProxy, HostValues, LabError, Link, Namespace, Process,
    catch_signals, clean, pause,
};

/// Set in a copy of this program that makes things in the lab until it is ended.
const VICTIM: &str = "CTKEEPER_LAB_VICTIM";
const SOON: Duration = Duration::from_secs(20);
const ESTABLISHED: Filling = Filling::Established { timeout: 400_000 };
/// The victims raise the limit by so much.
const MORE: u64 = 1000;

/// What a victim holds.
struct Ground {
    sleeper: Process,
    _bridge: Bridge,
    _link: Link,
    one: Namespace,
    other: Namespace,
    // Last: what the namespaces hold may need the values.
    _host: Option<HostValues>,
}

impl Ground {
    fn make(host: Option<HostValues>) -> Result<Self, LabError> {
        let one = Namespace::create_for("one")?;
        let other = Namespace::create_for("other")?;
        let link = Link::create(
            End { namespace: &one, interface: "eth0", addresses: &["10.77.1.1/24", "fd77::1/64"] },
            End { namespace: &other, interface: "eth0", addresses: &["10.77.1.2/24"] },
        )?;
        let bridge = Bridge::create(&other, "br0", &["10.78.0.1/24"])?;
        one.track()?;
        one.route("10.78.0.0/24 via 10.77.1.2")?;
        one.own_addresses("10.77.16.0/22")?;
        one.sysctl("netfilter/nf_conntrack_udp_timeout", "7")?;
        Filler::new(&one, ESTABLISHED, 0).add(2000)?;
        let sleeper = Process::start(&one, "sleep", &["300"])?;
        Ok(Self { sleeper, _bridge: bridge, _link: link, one, other, _host: host })
    }

    fn traces(&self) -> Traces {
        let names = [&self.one, &self.other].map(|namespace| namespace.name().to_owned());
        Traces { names: names.into(), process: self.sleeper.pid(), owner: std::process::id() }
    }
}

/// What can be seen of a [`Ground`] from outside.
struct Traces {
    names: BTreeSet<String>,
    process: u32,
    owner: u32,
}

impl Traces {
    fn are_all_there(&self) -> bool {
        self.names.iter().all(|name| Path::new("/run/netns").join(name).exists())
            && Path::new(&format!("/proc/{}", self.process)).exists()
    }

    fn ensure_gone(&self) -> anyhow::Result<()> {
        for name in &self.names {
            ensure!(!Path::new("/run/netns").join(name).exists(), "{name} is still there");
        }
        ensure!(!is_asleep(self.process), "process {} still runs", self.process);
        Ok(())
    }

    fn ensure_folder_gone(&self) -> anyhow::Result<()> {
        let folder = Path::new("/run/ctkeeper-lab").join(self.owner.to_string());
        ensure!(!folder.exists(), "{} is still there", folder.display());
        Ok(())
    }
}

/// Whether a process is the one that slept: its number may be another's by now.
fn is_asleep(pid: u32) -> bool {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.starts_with("sleep\x00300")
}

pub(crate) fn is_victim() -> bool {
    std::env::var_os(VICTIM).is_some()
}

/// Makes things, says so, and waits for its end.
pub(crate) fn be_a_victim() -> ExitCode {
    match suffer() {
        Err(LabError::Interrupted) => ExitCode::from(77),
        other => {
            eprintln!("{other:?}");
            ExitCode::FAILURE
        }
    }
}

fn suffer() -> Result<(), LabError> {
    catch_signals()?;
    let host = HostValues::lock()?;
    host.raise_limit(host.limit() + MORE)?;
    let ground = Ground::make(Some(host))?;
    let Traces { names, process, owner } = ground.traces();
    println!("{owner} {process} {}", names.into_iter().collect::<Vec<_>>().join(" "));
    pause(Duration::from_secs(120))
}

struct Victim {
    child: Child,
    traces: Traces,
}

impl Victim {
    fn start() -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .env(VICTIM, "1")
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
        let mut words = line.split_whitespace();
        let mut number = || words.next().and_then(|word| word.parse().ok());
        let (owner, process) = (number().context("no owner")?, number().context("no process")?);
        let traces = Traces { owner, process, names: words.map(str::to_owned).collect() };
        ensure!(traces.names.len() == 2 && traces.are_all_there(), "{line}");
        Ok(Self { child, traces })
    }

    fn end(&mut self, signal: &str) -> anyhow::Result<Option<i32>> {
        let pid = self.child.id().to_string();
        ensure!(Command::new("kill").args([signal, &pid]).status()?.success(), "kill {signal}");
        Ok(self.child.wait()?.code())
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = clean();
    }
}

fn limit() -> anyhow::Result<u64> {
    let file = "/proc/sys/net/netfilter/nf_conntrack_max";
    Ok(fs::read_to_string(file).context(file)?.trim().parse()?)
}

pub(crate) fn clean_up_on_drop() -> anyhow::Result<()> {
    let ground = Ground::make(None)?;
    let traces = ground.traces();
    ensure!(traces.are_all_there());
    ensure!(ground.one.count_and_limit()?.0 >= 2000);
    ensure!(ground.other.run("ip", &["link", "show", "br0"]).is_ok());
    drop(ground);
    traces.ensure_gone()
}

pub(crate) fn clean_up_on_panic() -> anyhow::Result<()> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = thread::spawn(move || {
        let ground = Ground::make(None).expect("the ground");
        sender.send(ground.traces()).expect("sent");
        // resume_unwind: the panic that is meant needs no message on the screen.
        std::panic::resume_unwind(Box::new("meant"))
    });
    let traces = receiver.recv()?;
    let ended: thread::Result<()> = thread.join();
    ensure!(ended.is_err(), "it did not panic");
    traces.ensure_gone()
}

pub(crate) fn clean_up_on_signals() -> anyhow::Result<()> {
    for signal in ["-TERM", "-INT", "-HUP"] {
        let mut victim = Victim::start()?;
        let raised = limit()?;
        ensure!(victim.end(signal)? == Some(77), "{signal} did not interrupt it");
        victim.traces.ensure_gone()?;
        victim.traces.ensure_folder_gone()?;
        ensure!(limit()? + MORE == raised, "{signal}: the limit was not put back");
    }
    Ok(())
}

/// Any run of the lab on this host may come first and clean; what is gone is gone either way.
const TRIES: usize = 5;

pub(crate) fn the_next_run_cleans_after_kill_9() -> anyhow::Result<()> {
    for _ in 0..TRIES {
        if kill_and_clean()? {
            return Ok(());
        }
    }
    anyhow::bail!("clean never says what it has removed")
}

/// Whether it was this process that cleaned.
fn kill_and_clean() -> anyhow::Result<bool> {
    let mut victim = Victim::start()?;
    let raised = limit()?;
    ensure!(victim.end("-KILL")?.is_none(), "it has an exit code");
    let end = Instant::now() + SOON;
    while is_asleep(victim.traces.process) {
        ensure!(Instant::now() < end, "its child outlived it");
        thread::sleep(Duration::from_millis(5));
    }
    let cleaned = clean()?;
    victim.traces.ensure_gone()?;
    victim.traces.ensure_folder_gone()?;
    let named = victim.traces.names.iter().all(|name| cleaned.namespaces.contains(name));
    let again = clean()?;
    ensure!(victim.traces.names.iter().all(|name| !again.namespaces.contains(name)), "{again:?}");
    Ok(named && cleaned.host_values.is_some_and(|values| values.limit + MORE == raised))
}

pub(crate) fn the_living_are_left_alone() -> anyhow::Result<()> {
    let victim = Victim::start()?;
    let raised = limit()?;
    clean()?;
    ensure!(victim.traces.are_all_there(), "a living run was cleaned");
    ensure!(limit()? == raised, "a living run's limit was put back");
    ensure!(HostValues::try_lock()?.is_none(), "two hold the host's values");
    Ok(())
}

pub(crate) fn names_alone_prove_nothing() -> anyhow::Result<()> {
    // Nobody has left a note for this number, which no process can have (/proc/sys/kernel/pid_max
    // is 4,194,304 at most): a namespace that happens to be called so is not the lab's to remove.
    let named = Namespace::existing("ctk-9999999-0");
    ensure!(Command::new("ip").args(["netns", "add", named.name()]).status()?.success());
    let cleaned = clean()?;
    ensure!(named.path().exists(), "it was removed");
    ensure!(!cleaned.namespaces.iter().any(|name| name == named.name()), "{cleaned:?}");
    Ok(())
}

pub(crate) fn a_namespace_that_is_there_is_not_taken_over() -> anyhow::Result<()> {
    let first = Namespace::create_for("taken")?;
    let theirs = Namespace::existing(&format!("{}-2", first.name()));
    ensure!(Command::new("ip").args(["netns", "add", theirs.name()]).status()?.success());
    ensure!(Namespace::create_for("taken").is_err(), "two have one name");
    ensure!(theirs.path().exists(), "it was removed");
    Ok(())
}

pub(crate) fn programs_in_the_background_end_too() -> anyhow::Result<()> {
    let namespace = Namespace::create_for("back")?;
    let pid = namespace.run("sh", &["-c", "setsid sleep 300 >/dev/null 2>&1 & echo $!"])?;
    let pid: u32 = pid.trim().parse()?;
    let end = Instant::now() + SOON;
    while !is_asleep(pid) {
        ensure!(Instant::now() < end, "it does not start");
        thread::sleep(Duration::from_millis(5));
    }
    drop(namespace);
    ensure!(!is_asleep(pid), "it outlives its namespace");
    Ok(())
}

pub(crate) fn programs_are_waited_for_only_so_long() -> anyhow::Result<()> {
    let namespace = Namespace::create_for("long")?;
    let sleeper = Process::start(&namespace, "sleep", &["300"])?;
    let pid = sleeper.pid();
    let error = sleeper.finish(Duration::from_millis(200)).unwrap_err();
    ensure!(matches!(error, LabError::Timeout { .. }), "{error}");
    ensure!(!is_asleep(pid), "it still runs");
    let said = Process::start(&namespace, "sh", &["-c", "echo said"])?.finish(SOON)?;
    ensure!(said == "said\n", "{said}");
    let failed = Process::start(&namespace, "sh", &["-c", "echo why >&2; exit 3"])?.finish(SOON);
    ensure!(failed.is_err_and(|error| error.to_string().contains("why")));
    Ok(())
}

pub(crate) fn what_cannot_be_removed_is_said() -> anyhow::Result<()> {
    let mut child = Command::new("true").spawn()?;
    let pid = child.id();
    child.wait()?;
    let name = format!("ctk-{pid}-0");
    let folder = Path::new("/run/ctkeeper-lab").join(pid.to_string());
    // A folder is no namespace: ip cannot take it away.
    let stubborn = Path::new("/run/netns").join(&name);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("started"), "1")?;
    fs::create_dir_all(&stubborn)?;
    let cleaned = clean();
    let is_noted = folder.exists();
    fs::remove_dir(&stubborn)?;
    let cleaned = cleaned?;
    ensure!(cleaned.failed.iter().any(|failed| failed.contains(&name)), "{cleaned:?}");
    ensure!(!cleaned.namespaces.contains(&name), "{cleaned:?}");
    ensure!(is_noted, "nobody knows any more whose it is");
    clean()?;
    ensure!(!folder.exists());
    Ok(())
}

pub(crate) fn a_reused_process_number_is_no_owner() -> anyhow::Result<()> {
    // This process's number, as an earlier process of that number would have left it. Whoever owns
    // the number cleans nothing of its own, so a child takes the part.
    let mut child = Command::new("sleep").arg("300").spawn()?;
    let pid = child.id();
    let left = Namespace::existing(&format!("ctk-{pid}-0"));
    let folder = Path::new("/run/ctkeeper-lab").join(pid.to_string());
    let made = (|| -> anyhow::Result<()> {
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("started"), "1")?;
        ensure!(Command::new("ip").args(["netns", "add", left.name()]).status()?.success());
        let cleaned = clean()?;
        ensure!(cleaned.namespaces.iter().any(|name| name == left.name()), "{cleaned:?}");
        ensure!(!left.path().exists() && !folder.exists());
        ensure!(child.try_wait()?.is_none(), "the process of that number was ended");
        Ok(())
    })();
    child.kill()?;
    child.wait()?;
    made
}

pub(crate) fn places_are_left_free_exactly() -> anyhow::Result<()> {
    let _limit_stands_still = HostValues::lock()?;
    let namespace = Namespace::create_for("fill")?;
    namespace.track()?;
    let (_, limit) = namespace.count_and_limit()?;
    let places = limit - 3210;
    let mut filler = Filler::new(&namespace, ESTABLISHED, 0);
    ensure!(filler.leave_free(places)? == 3210);
    ensure!(namespace.count_and_limit()?.0 == 3210);
    ensure!(filler.leave_free(places)? == 0, "it fills what is filled");
    ensure!(filler.leave_free(places + 1).is_err(), "it says to have freed places");
    Ok(())
}

pub(crate) fn haproxy_takes_over() -> anyhow::Result<()> {
    let namespace = Namespace::create_for("lb")?;
    let config = |port: u16| {
        format!(
            "global\n log stdout format raw local0\n maxconn 100\ndefaults\n mode http\n \
             timeout client 5s\n timeout connect 1s\n timeout server 5s\n\
             frontend f\n bind :{port}\n http-request return status 200\n"
        )
    };
    let mut haproxy = HaProxy::start(&namespace, &config(8001), 2)?;
    let first = haproxy.pids();
    ensure!(first.len() == 2, "{first:?}");
    let listening = |port: &str| namespace.run("ss", &["-Hltn", "sport", "=", port]);
    ensure!(listening(":8001")?.lines().count() == 2, "{}", listening(":8001")?);
    haproxy.reload(&namespace, &config(8002))?;
    ensure!(haproxy.pids() != first && listening(":8002")?.lines().count() == 2);
    let end = Instant::now() + SOON;
    while !listening(":8001")?.is_empty() {
        ensure!(Instant::now() < end, "the old configuration is still served");
        thread::sleep(Duration::from_millis(50));
    }
    let error = haproxy.reload(&namespace, "frontend f\n bind :oops\n").unwrap_err();
    ensure!(error.to_string().contains("oops"), "{error}");
    haproxy.ensure_running()?;
    let pids = haproxy.pids();
    drop(haproxy);
    let runs = |pid: &u32| Path::new(&format!("/proc/{pid}")).exists();
    ensure!(!pids.iter().any(runs), "HAProxy still runs");
    Ok(())
}
