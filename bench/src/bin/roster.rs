//! Who is in hundreds of namespaces: the roster cold, and once more when nothing has changed.
//!
//! `cargo run --release -p ctkeeper-bench --bin roster [CONTAINERS]`
//!
//! Makes so many namespaces (300) behind one bridge, as Docker wires them, each with a process in a
//! control group of its own, and reads the roster of them and of everything else on the machine.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ctkeeper_host::roster::{Reader, Reading};
use ctkeeper_host::runtimes::Names;
use ctkeeper_netlink::netns;
use ctkeeper_snapshot::Holder;
use ctkeeper_tests::Namespace;
use rustix::time::{ClockId, clock_gettime};

const RUNS: usize = 15;

/// A namespace's process and its control group, which end with it.
struct Container(Child, PathBuf);

impl Drop for Container {
    fn drop(&mut self) {
        // A guard must not panic.
        let _ = self.0.kill();
        let _ = self.0.wait();
        let _ = fs::remove_dir(&self.1);
    }
}

fn main() -> anyhow::Result<()> {
    let count = std::env::args().nth(1).map_or(Ok(300), |text| text.parse::<u32>())?;
    let made = Namespace::create_many(count + 1)?;
    let (host, guests) = made.split_first().context("at least one namespace")?;
    wire(host, guests)?;
    let containers = guests
        .iter()
        .enumerate()
        .map(|(n, guest)| start(guest, n))
        .collect::<Result<Vec<_>, _>>()?;
    settle(guests, &containers)?;
    let inode = host.inode()?;
    let names = Names::default();
    let cold = || Ok(Reader::default().read(&netns::enumerate(), &names, &[]));
    check(&cold()?, inode, count)?;
    println!("{count} containers; medians of {RUNS} runs, milliseconds");
    report("processes and namespaces found", || {
        netns::enumerate();
        Ok(())
    })?;
    report("roster, cold", || cold().map(drop))?;
    let mut reader = Reader::default();
    reader.read(&netns::enumerate(), &names, &[]);
    report("roster, warm", || {
        reader.read(&netns::enumerate(), &names, &[]);
        Ok(())
    })?;
    check(&reader.read(&netns::enumerate(), &names, &[]), inode, count)
}

fn wire(host: &Namespace, guests: &[Namespace]) -> anyhow::Result<()> {
    host.sysctl("ipv4.ip_forward", "1")?;
    let mut lines = String::from(
        "link add br0 type bridge\naddress add 10.9.0.1/16 dev br0\nlink set br0 up\n",
    );
    for (number, guest) in guests.iter().enumerate() {
        lines.push_str(&format!(
            "link add v{number} type veth peer name eth0 netns {}\n\
             link set v{number} master br0 up\n",
            guest.name()
        ));
    }
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), lines)?;
    host.run("ip", &["-batch", &file.path().display().to_string()])?;
    for (number, guest) in guests.iter().enumerate() {
        let address = format!("10.9.{}.{}/16", 1 + number / 250, 1 + number % 250);
        guest.run("ip", &["address", "add", &address, "dev", "eth0"])?;
        guest.run("ip", &["link", "set", "eth0", "up"])?;
    }
    Ok(())
}

fn start(guest: &Namespace, number: usize) -> anyhow::Result<Container> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let mount = mount.and_then(|line| line.split(' ').nth(1)).context("no cgroup2 mount")?;
    let id = format!("{:064x}", u64::from(std::process::id()) << 16 | number as u64);
    let group = Path::new(mount).join("docker").join(id);
    fs::create_dir_all(&group)?;
    let child = guest.command("sleep").arg("900").stdout(Stdio::null()).spawn()?;
    let container = Container(child, group);
    fs::write(container.1.join("cgroup.procs"), container.0.id().to_string())?;
    Ok(container)
}

/// `ip netns exec` becomes the process in a moment.
fn settle(guests: &[Namespace], containers: &[Container]) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    for (guest, container) in guests.iter().zip(containers) {
        let link = format!("/proc/{}/ns/net", container.0.id());
        while fs::metadata(&link)?.ino() != guest.inode()? {
            ensure!(Instant::now() < deadline, "{} has no process", guest.name());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    Ok(())
}

/// Each container is who has its address.
fn check(reading: &Reading, host: u64, count: u32) -> anyhow::Result<()> {
    let view = reading.roster.views.get(&host).context("no view")?;
    let tenants = view.tenants.values().flatten();
    let is_container = |index: u32| {
        matches!(reading.roster.holders.get(index as usize), Some(Holder::Container(_)))
    };
    let found = tenants.filter(|tenant| is_container(tenant.holder.0)).count();
    ensure!(found == count as usize, "{found} of {count} addresses lead to a container");
    Ok(())
}

/// CPU time of this process so far: namespaces are visited by a thread of their own.
fn process_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

fn report(name: &str, mut run: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let (wall, cpu) = (Instant::now(), process_cpu());
        run()?;
        runs.push((wall.elapsed(), process_cpu().saturating_sub(cpu)));
    }
    let median = |of: fn(&(Duration, Duration)) -> Duration| {
        let mut times: Vec<_> = runs.iter().map(of).collect();
        times.sort_unstable();
        times[RUNS / 2].as_secs_f64() * 1000.0
    };
    println!("{name:32} wall {:7.1}  cpu {:7.1}", median(|run| run.0), median(|run| run.1));
    Ok(())
}
