//! Listeners side by side: each sees the same load.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ctkeeper_lab::Namespace;
use rustix::process::{Pid, Signal, kill_process};

use super::case::Case;
use super::program::{Program, Running, Said};
use super::stage::Stage;

const LONGEST: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(1);
/// What a listener has read is written soon.
const QUIET: Duration = Duration::from_millis(25);

impl Stage {
    /// Each program listens while the load is made; then each is interrupted.
    pub(super) fn listen(
        &mut self,
        programs: &[&Program],
        case: &Case,
    ) -> anyhow::Result<Vec<Said>> {
        self.lay_files(case)?;
        let calls = case.calls()?;
        let mut running = Vec::new();
        for program in programs {
            running.push(program.start(&calls[0], case, &self.place())?);
            self.wait_for(&mut running)?;
        }
        self.perform(&case.load)?;
        let begin = Instant::now();
        while listeners(self.place().namespace)?.iter().any(|waiting| *waiting > 0) {
            if begin.elapsed() > LONGEST {
                bail!("a listener does not read");
            }
            std::thread::sleep(PAUSE);
        }
        std::thread::sleep(QUIET);
        running.into_iter().map(Running::interrupt).collect()
    }

    /// Until as many listen as have been started, or one has ended.
    fn wait_for(&self, running: &mut [Running]) -> anyhow::Result<()> {
        let begin = Instant::now();
        while listeners(self.place().namespace)?.len() < running.len() {
            if running.iter_mut().any(Running::has_ended) {
                return Ok(());
            }
            if begin.elapsed() > LONGEST {
                bail!("{running:?} does not listen");
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

impl Running {
    fn interrupt(self) -> anyhow::Result<Said> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).context("no pid")?;
        // It may have ended on its own: its exit code tells.
        let _ = kill_process(pid, Signal::INT);
        self.finish()
    }
}

/// The sockets of this namespace that are subscribed to netfilter's groups: bytes that wait in each.
fn listeners(namespace: &Namespace) -> anyhow::Result<Vec<u64>> {
    /// `NETLINK_NETFILTER` (`include/uapi/linux/netlink.h`, Linux 6.12).
    const NETFILTER: &str = "12";
    let table = namespace.enter(|| fs::read_to_string("/proc/thread-self/net/netlink"))??;
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    Ok(rows
        .filter(|row| row.len() > 4 && row[1] == NETFILTER && row[3] != "00000000")
        .filter_map(|row| row[4].parse().ok())
        .collect())
}
