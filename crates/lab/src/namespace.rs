//! Network namespaces with names of their own, removed when their guard goes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ctkeeper_netlink::{Conntrack, netns};

use crate::owner::Claim;
use crate::program::{called, ip_batch, require, run};
use crate::{LabError, clean};

pub(crate) const FOLDER: &str = "/run/netns";
const PREFIX: &str = "ctk";
const LONGEST_ROLE: usize = 24;
/// A table of so many entries is emptied before its namespace goes: the kernel takes a namespace
/// down later, at its leisure, and whoever comes next reckons with what stands.
const WORTH_EMPTYING: u32 = 10_000;

static NEXT: AtomicU32 = AtomicU32::new(0);
static ROLES: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// A named network namespace (`/run/netns/ctk-PID-N` or `ctk-PID-ROLE`); its loopback is up.
///
/// When it goes, its entries and its links go with it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    claim: Option<Arc<Claim>>,
}

impl Namespace {
    /// Makes one.
    pub fn create() -> Result<Self, LabError> {
        let namespace = Self::claimed(numbered())?;
        namespace.make()?;
        Ok(namespace)
    }

    /// Makes one that plays a role: `lb` gives `ctk-PID-lb`, or `ctk-PID-lb-2` if this process has
    /// one already. A role is lower-case letters, digits and dashes, and begins with a letter.
    pub fn create_for(role: &str) -> Result<Self, LabError> {
        let namespace = Self::claimed(reserve(role)?)?;
        namespace.make()?;
        Ok(namespace)
    }

    /// Makes `count` of them in one go; their loopbacks stay down.
    pub fn create_many(count: u32) -> Result<Vec<Self>, LabError> {
        require_root()?;
        // The guards come first, so that a failure half-way leaves nothing behind.
        let made = (0..count).map(|_| Self::claimed(numbered())).collect::<Result<Vec<_>, _>>()?;
        let lines: Vec<_> = made.iter().map(|one| format!("netns add {}", one.name)).collect();
        ip_batch(None, &lines)?;
        Ok(made)
    }

    /// One that is there already; it too is removed with the guard.
    pub fn existing(name: &str) -> Self {
        Self { name: name.to_owned(), claim: None }
    }

    /// The same namespace for another thread; it stays when this value goes.
    pub(crate) fn borrowed(namespace: &Self) -> std::mem::ManuallyDrop<Self> {
        std::mem::ManuallyDrop::new(Self { name: namespace.name.clone(), claim: None })
    }

    fn claimed(name: String) -> Result<Self, LabError> {
        require_root()?;
        let claim = Claim::take()?;
        if Path::new(FOLDER).join(&name).exists() {
            // Somebody else's: a guard for it would remove it.
            let source = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
            return Err(LabError::system("make namespace", name)(source));
        }
        Ok(Self { name, claim: Some(claim) })
    }

    fn make(&self) -> Result<(), LabError> {
        ip_batch(None, &[format!("netns add {}", self.name)])?;
        self.ip(&["link set lo up".to_owned()])
    }

    /// Its name under `/run/netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its path.
    pub fn path(&self) -> PathBuf {
        Path::new(FOLDER).join(&self.name)
    }

    /// Its inode, as the kernel's log names it.
    pub fn inode(&self) -> Result<u64, LabError> {
        use std::os::unix::fs::MetadataExt;
        let looked = fs::metadata(self.path());
        Ok(looked.map_err(LabError::system("look at namespace", &self.name))?.ino())
    }

    /// It, held open for netlink.
    pub fn open(&self) -> Result<netns::Namespace, LabError> {
        let selector = netns::NamespaceSelector::Path(self.path());
        netns::Namespace::open(&selector).map_err(|error| self.netlink(error))
    }

    /// Its table.
    pub fn conntrack(&self) -> Result<Conntrack, LabError> {
        Conntrack::open_in(&self.open()?).map_err(|error| self.netlink(error))
    }

    /// Its entries now, and the limit; 0 is none.
    pub fn count_and_limit(&self) -> Result<(u64, u64), LabError> {
        let seen = self.conntrack()?.count_and_limit().map_err(|error| self.netlink(error))?;
        Ok((u64::from(seen.entries), seen.limit.map_or(0, u64::from)))
    }

    pub(crate) fn netlink(&self, source: ctkeeper_netlink::Error) -> LabError {
        LabError::Netlink { namespace: self.name.clone(), source }
    }

    /// A command that will run inside.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(called("ip"));
        command.args(["netns", "exec", &self.name]).arg(called(program)).stdin(Stdio::null());
        command
    }

    /// Runs a program inside and fails unless it succeeds; its standard output comes back.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String, LabError> {
        require(program)?;
        run(self.command(program).args(arguments), "")
    }

    /// Loads nftables rules inside.
    pub fn nft(&self, rules: &str) -> Result<(), LabError> {
        require("nft")?;
        run(self.command("nft").args(["-f", "-"]), rules).map(drop)
    }

    /// Turns tracking on inside: a rule that looks at the state of every packet.
    pub fn track(&self) -> Result<(), LabError> {
        self.nft(
            "table inet track {\n\
             chain in { type filter hook input priority 0; ct state invalid counter; }\n\
             chain out { type filter hook output priority 0; ct state invalid counter; }\n\
             chain through { type filter hook forward priority 0; ct state invalid counter; }\n}\n",
        )
    }

    /// Runs lines of `ip -batch` inside.
    pub(crate) fn ip(&self, lines: &[String]) -> Result<(), LabError> {
        ip_batch(Some(&self.name), lines)
    }

    /// Calls `f` inside, on a helper thread; whatever it opens stays there.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        netns::enter(&self.open()?, |_| f()).map_err(|error| self.netlink(error))
    }

    /// Sets a value under `/proc/sys/net` inside, named with dots or slashes from there on:
    /// `netfilter/nf_conntrack_udp_timeout`, `ipv4.ip_forward`.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<(), LabError> {
        let file = Path::new("/proc/sys/net").join(relative_sysctl(name)?);
        let written = self.enter(|| fs::write(&file, value))?.map_err(named_like_settings);
        written.map_err(LabError::system("set", format!("{name} = {value} in {}", self.name)))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if self.claim.is_some() {
            // A program that was sent into the background outlives the one that was started.
            clean::end_inside(&self.name);
        }
        // A guard must not panic, and the next run removes what is left.
        let _ = remove(&self.name);
        ROLES.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

/// What would leave the folder, and with it the namespace, is no setting of the namespace.
fn relative_sysctl(name: &str) -> Result<String, LabError> {
    let name = name.strip_prefix("net.").or_else(|| name.strip_prefix("net/")).unwrap_or(name);
    let path = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
    let inside = |part: &str| !part.is_empty() && part != "..";
    if path.split('/').all(inside) {
        return Ok(path);
    }
    let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, "not below /proc/sys/net");
    Err(LabError::system("set", name)(source))
}

/// A missing file is a name that the kernel does not know.
fn named_like_settings(error: std::io::Error) -> std::io::Error {
    if error.kind() != std::io::ErrorKind::NotFound {
        return error;
    }
    let text = "there is no such setting below /proc/sys/net; names are as in ipv4/ip_forward";
    std::io::Error::new(error.kind(), text)
}

fn numbered() -> String {
    format!("{PREFIX}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn reserve(role: &str) -> Result<String, LabError> {
    if !is_role(role) {
        let text = "roles are up to 24 lower-case letters, digits and dashes, a letter first";
        let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, text);
        return Err(LabError::system("name a namespace", role)(source));
    }
    let first = format!("{PREFIX}-{}-{role}", std::process::id());
    let mut taken = ROLES.lock().unwrap_or_else(PoisonError::into_inner);
    let mut name = first.clone();
    let mut number = 1;
    while taken.contains(&name) {
        number += 1;
        name = format!("{first}-{number}");
    }
    taken.insert(name.clone());
    Ok(name)
}

pub(crate) fn is_role(role: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    role.len() <= LONGEST_ROLE
        && role.starts_with(|c: char| c.is_ascii_lowercase())
        && role.chars().all(allowed)
}

fn require_root() -> Result<(), LabError> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(LabError::NotRoot { operation: "make a network namespace".to_owned() })
}

/// The process that made the namespace of this name, if the lab did.
pub(crate) fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.strip_prefix('-')?.split('-').next()?.parse().ok()
}

/// The names of all there are, the lab's or not.
pub(crate) fn names() -> impl Iterator<Item = String> {
    let entries = fs::read_dir(FOLDER).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// Removes a namespace; its entries are gone when this returns. One that is gone already is none
/// that cannot be removed.
pub(crate) fn remove(name: &str) -> Result<(), LabError> {
    let exists = || Path::new(FOLDER).join(name).exists();
    if exists() {
        empty(name);
        let removed = run(Command::new(called("ip")).args(["netns", "del", name]), "");
        if exists() {
            return removed.map(drop);
        }
    }
    Ok(())
}

fn empty(name: &str) {
    let selector = netns::NamespaceSelector::Path(Path::new(FOLDER).join(name));
    let Ok(handle) = netns::Namespace::open(&selector) else { return };
    let Ok(mut table) = Conntrack::open_in(&handle) else { return };
    if table.count_and_limit().is_ok_and(|seen| seen.entries > WORTH_EMPTYING) {
        let _ = table.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_their_owner() {
        assert_eq!(owner("ctk-77-0"), Some(77));
        assert_eq!(owner("ctk-77-lb-2"), Some(77));
        assert_eq!(owner("ctkeeper"), None);
        assert_eq!(owner("ctk-lb"), None);
    }

    #[test]
    fn roles_are_plain_words() {
        assert!(is_role("lb") && is_role("back-end-2"));
        for bad in ["", "2", "-x", "../x", "Lb", "a b", "a_very_long_role_of_no_use_at_all"] {
            assert!(!is_role(bad), "{bad}");
        }
    }

    #[test]
    fn settings_stay_below_their_folder() {
        assert_eq!(relative_sysctl("net.ipv4.ip_forward").unwrap(), "ipv4/ip_forward");
        assert_eq!(
            relative_sysctl("ipv4/conf/eth0.1/rp_filter").unwrap(),
            "ipv4/conf/eth0.1/rp_filter"
        );
        for bad in ["", "../kernel/panic", "ipv4//x", "/ipv4/x", "..", "a/../../b"] {
            assert!(relative_sysctl(bad).is_err(), "{bad}");
        }
    }
}
