//! HAProxy, from the system's package, inside a namespace.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::interruption::wait_for;
use crate::owner::Claim;
use crate::process::Process;
use crate::program::require;
use crate::{LabError, Namespace};

const PROGRAM: &str = "haproxy";
const READY: Duration = Duration::from_secs(10);
/// `st` of a listening socket in `/proc/net/tcp` (`TCP_LISTEN` in `include/net/tcp_states.h`).
const LISTENING: &str = "0A";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// One or more HAProxy processes with the same configuration, sharing their ports (SO_REUSEPORT,
/// HAProxy's default on Linux). They log where the configuration says; with
/// `log stdout format raw local0` that is [`HaProxy::log`].
#[derive(Debug)]
pub struct HaProxy {
    namespace: String,
    config: PathBuf,
    running: Vec<Process>,
    /// Processes of an earlier configuration, which serve what they hold to its end.
    leaving: Vec<Process>,
    _claim: Arc<Claim>,
}

impl HaProxy {
    /// Checks the configuration, starts `processes` of them, and waits until each one listens.
    pub fn start(namespace: &Namespace, config: &str, processes: u32) -> Result<Self, LabError> {
        require(PROGRAM)?;
        let claim = Claim::take()?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let file = claim.folder().join(format!("haproxy-{number}.cfg"));
        let mut haproxy = Self {
            namespace: namespace.name().to_owned(),
            config: file,
            running: Vec::new(),
            leaving: Vec::new(),
            _claim: claim,
        };
        haproxy.check(namespace, config)?;
        for _ in 0..processes {
            haproxy.running.push(haproxy.launch(namespace, &[])?);
        }
        haproxy.wait_until_ready()?;
        Ok(haproxy)
    }

    /// Goes over to another configuration as `haproxy -sf` does: new processes take the ports over,
    /// the old ones serve their connections until those end.
    pub fn reload(&mut self, namespace: &Namespace, config: &str) -> Result<(), LabError> {
        self.check(namespace, config)?;
        let old: Vec<_> = self.running.iter().map(|process| process.pid().to_string()).collect();
        let mut new = Vec::new();
        for number in 0..self.running.len() {
            // The last one tells the old ones to go: until then nobody is refused.
            let told: &[String] = if number + 1 == old.len() { &old } else { &[] };
            new.push(self.launch(namespace, told)?);
        }
        self.leaving.retain_mut(|process| !process.has_ended());
        self.leaving.extend(std::mem::replace(&mut self.running, new));
        self.wait_until_ready()
    }

    fn check(&self, namespace: &Namespace, config: &str) -> Result<(), LabError> {
        let path = self.config.display().to_string();
        fs::write(&self.config, config).map_err(LabError::system("write", path.clone()))?;
        namespace.run(PROGRAM, &["-c", "-f", &path]).map(drop)
    }

    fn launch(&self, namespace: &Namespace, replaced: &[String]) -> Result<Process, LabError> {
        let config = self.config.display().to_string();
        // -db: in the foreground, so that the process is the one that was started.
        let mut arguments = vec!["-db", "-f", &config];
        if !replaced.is_empty() {
            arguments.push("-sf");
            arguments.extend(replaced.iter().map(String::as_str));
        }
        Process::start(namespace, PROGRAM, &arguments)
    }

    fn wait_until_ready(&mut self) -> Result<(), LabError> {
        let what = format!("HAProxy to listen in {}", self.namespace);
        let running = &mut self.running;
        wait_for(&what, READY, || {
            running.iter_mut().try_for_each(Process::ensure_running)?;
            Ok(running.iter().all(|process| listens(process.pid())))
        })
    }

    /// The namespace that it runs in.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Numbers of the processes that take new connections.
    pub fn pids(&self) -> Vec<u32> {
        self.running.iter().map(Process::pid).collect()
    }

    /// What its processes have logged to standard output, those of earlier configurations first.
    pub fn log(&self) -> String {
        self.leaving.iter().chain(&self.running).map(Process::stdout).collect()
    }

    /// What its processes have warned about on standard error.
    pub fn warnings(&self) -> String {
        self.leaving.iter().chain(&self.running).map(Process::stderr).collect()
    }

    /// Fails if one of them has ended by itself.
    pub fn ensure_running(&mut self) -> Result<(), LabError> {
        self.running.iter_mut().try_for_each(Process::ensure_running)
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.config);
    }
}

/// Whether a process has a TCP socket that listens.
fn listens(pid: u32) -> bool {
    let sockets: BTreeSet<String> =
        ["tcp", "tcp6"].iter().flat_map(|kind| listening(pid, kind)).collect();
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.into_iter().any(|target| sockets.contains(&*target.to_string_lossy()))
}

/// Listening sockets of a process's namespace, as its descriptors name them.
fn listening(pid: u32, kind: &str) -> Vec<String> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/{kind}")).unwrap_or_default();
    let socket = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (state, inode) = (fields.get(3)?, fields.get(9)?);
        (*state == LISTENING).then(|| format!("socket:[{inode}]"))
    };
    table.lines().filter_map(socket).collect()
}
