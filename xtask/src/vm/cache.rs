//! Unpacked packages outside the tree, shared by every checkout of this user. An entry is named
//! after its content (`guest-3f…`: the versions and checksums of its packages), appears only when
//! it is complete, and is never changed; `target/vm` links to those in use.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use rustix::fs::{FlockOperation, flock};

use super::{apt, store};

/// For so long the packages that apt named are the newest: asking it takes seconds.
pub(super) const NEWS_LAST: Duration = Duration::from_secs(24 * 3600);

/// An entry that nobody has asked for so long is removed.
const UNUSED_LAST: Duration = Duration::from_secs(30 * 24 * 3600);

/// The cache, locked: one process at a time fills it.
pub(super) struct Cache {
    folder: PathBuf,
    _lock: File,
}

/// What an entry is made of.
pub(super) struct Request<'a> {
    /// The entry's name, and the link's in `target/vm`.
    pub(super) name: &'a str,
    /// The packages that were asked for.
    pub(super) wanted: &'a [&'a str],
    /// Those that are to be unpacked.
    pub(super) packages: fn(&[&str]) -> anyhow::Result<Vec<String>>,
}

impl Cache {
    /// Waits until no other process fills the cache; removes what a killed one left.
    pub(super) fn open() -> anyhow::Result<Self> {
        let folder = folder_from(|name| std::env::var_os(name).map(PathBuf::from))?;
        let context = || format!("the cache {} (CTKEEPER_VM_CACHE moves it)", folder.display());
        fs::create_dir_all(&folder).with_context(context)?;
        let lock = OpenOptions::new().create(true).append(true).open(folder.join("lock"));
        let lock = lock.with_context(context)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            eprintln!("xtask: waiting for another process that fills {}", folder.display());
            flock(&lock, FlockOperation::LockExclusive).context("waiting for the cache's lock")?;
        }
        let cache = Self { folder, _lock: lock };
        cache.sweep()?;
        Ok(cache)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes `target/vm/NAME` a link to the newest packages, unpacked here. Where apt cannot be
    /// asked, what is there stays in use.
    pub(super) fn provide(&self, request: &Request<'_>) -> anyhow::Result<()> {
        let name = request.name;
        let entry = if let Some(entry) = self.known(request) {
            entry
        } else {
            match self.newest(request) {
                Ok(entry) => {
                    fs::write(self.note(name), note_of(request, &entry))?;
                    entry
                }
                Err(error) => {
                    let old = self.any_of(name)?.with_context(|| format!("{name}: {error:#}"))?;
                    eprintln!("xtask: {name} is used as it is: {error:#}");
                    old
                }
            }
        };
        // Its age is the time since it was last asked for.
        File::open(&entry)?.set_modified(SystemTime::now())?;
        link(&entry.join("root"), &store().join(name))
    }

    /// Where it stands which entry answered a request last.
    fn note(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.newest"))
    }

    /// The entry that apt's answer to the same request has led to, not long ago.
    fn known(&self, request: &Request<'_>) -> Option<PathBuf> {
        let note = self.note(request.name);
        let written = fs::metadata(&note).ok()?.modified().ok()?;
        let entry = self.folder.join(fs::read_to_string(&note).ok()?.lines().next()?);
        let same = fs::read_to_string(note).ok()? == note_of(request, &entry);
        (same && entry.exists() && written.elapsed().ok()? < NEWS_LAST).then_some(entry)
    }

    fn newest(&self, request: &Request<'_>) -> anyhow::Result<PathBuf> {
        apt::update_now_and_then(self)?;
        self.unpacked(request).or_else(|error| {
            // The mirror has dropped a version that old lists name, or there were no lists.
            if apt::update() { self.unpacked(request) } else { Err(error) }
        })
    }

    fn unpacked(&self, request: &Request<'_>) -> anyhow::Result<PathBuf> {
        let packages = (request.packages)(request.wanted)?;
        let manifest = apt::manifest(&packages)?;
        let key = format!("{}-{:016x}", request.name, fingerprint(&manifest));
        let entry = self.folder.join(&key);
        if entry.exists() {
            return Ok(entry);
        }
        println!("+ fetching {} packages into {}", packages.len(), entry.display());
        let part = self.folder.join(format!("{key}.part"));
        apt::unpack(&packages, &part.join("root"))?;
        fs::write(part.join("packages"), manifest)?;
        fs::rename(&part, &entry).with_context(|| entry.display().to_string())?;
        Ok(entry)
    }

    /// The entry of this name that was asked for last.
    fn any_of(&self, name: &str) -> anyhow::Result<Option<PathBuf>> {
        let mut entries = self.entries()?;
        entries.retain(|(path, _)| name_of(path) == Some(name));
        Ok(entries.into_iter().max_by_key(|(_, used)| *used).map(|(path, _)| path))
    }

    /// Complete entries, and when each was asked for last.
    fn entries(&self) -> anyhow::Result<Vec<(PathBuf, SystemTime)>> {
        let mut entries = Vec::new();
        for member in fs::read_dir(&self.folder)? {
            let path = member?.path();
            if path.join("packages").exists() && path.extension().is_none_or(|end| end != "part") {
                let used = fs::metadata(&path)?.modified()?;
                entries.push((path, used));
            }
        }
        Ok(entries)
    }

    fn sweep(&self) -> anyhow::Result<()> {
        for member in fs::read_dir(&self.folder)? {
            let path = member?.path();
            if path.extension().is_some_and(|end| end == "part") {
                fs::remove_dir_all(&path).with_context(|| path.display().to_string())?;
            }
        }
        for (path, used) in self.entries()? {
            if used.elapsed().is_ok_and(|unused| unused > UNUSED_LAST) {
                fs::remove_dir_all(&path).with_context(|| path.display().to_string())?;
            }
        }
        Ok(())
    }
}

fn note_of(request: &Request<'_>, entry: &Path) -> String {
    let key = entry.file_name().unwrap_or_default().to_string_lossy();
    format!("{key}\n{}\n", request.wanted.join(" "))
}

/// `guest` of `…/guest-00112233aabbccdd`.
fn name_of(entry: &Path) -> Option<&str> {
    Some(entry.file_name()?.to_str()?.rsplit_once('-')?.0)
}

fn folder_from(variable: impl Fn(&str) -> Option<PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(folder) = variable("CTKEEPER_VM_CACHE") {
        ensure!(folder.is_absolute(), "CTKEEPER_VM_CACHE is no full path: {}", folder.display());
        return Ok(folder);
    }
    // Relative paths are invalid there (XDG Base Directory Specification 0.8).
    let xdg = variable("XDG_CACHE_HOME").filter(|folder| folder.is_absolute());
    let home = || variable("HOME").filter(|folder| folder.is_absolute());
    let caches = xdg.or_else(|| Some(home()?.join(".cache")));
    let caches = caches.context("no place for a cache: set CTKEEPER_VM_CACHE to a full path")?;
    Ok(caches.join("ctkeeper/vm"))
}

/// FNV-1a, 64 bits: it tells lists of packages apart, nothing more.
fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Puts a link in one step, whatever was there.
fn link(target: &Path, link: &Path) -> anyhow::Result<()> {
    if fs::read_link(link).is_ok_and(|old| old == target) {
        return Ok(());
    }
    fs::create_dir_all(store())?;
    if fs::symlink_metadata(link).is_ok_and(|found| found.is_dir()) {
        // Unpacked here by a version of this program that had no cache.
        fs::remove_dir_all(link).with_context(|| link.display().to_string())?;
    }
    let new = link.with_extension(format!("new-{}", std::process::id()));
    symlink(target, &new).with_context(|| new.display().to_string())?;
    fs::rename(&new, link).with_context(|| link.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(set: &[(&str, &str)]) -> Option<PathBuf> {
        let value = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into());
        folder_from(value).ok()
    }

    #[test]
    fn the_cache_is_where_one_says() {
        let home = ("HOME", "/home/a");
        let xdg = ("XDG_CACHE_HOME", "/var/x");
        assert_eq!(chosen(&[home]), Some("/home/a/.cache/ctkeeper/vm".into()));
        assert_eq!(chosen(&[home, xdg]), Some("/var/x/ctkeeper/vm".into()));
        assert_eq!(chosen(&[home, xdg, ("CTKEEPER_VM_CACHE", "/c")]), Some("/c".into()));
        assert_eq!(
            chosen(&[home, ("XDG_CACHE_HOME", "x")]),
            Some("/home/a/.cache/ctkeeper/vm".into())
        );
        assert_eq!(chosen(&[home, ("CTKEEPER_VM_CACHE", "c")]), None);
        assert_eq!(chosen(&[]), None);
    }

    #[test]
    fn another_version_is_another_entry() {
        assert_eq!(fingerprint(""), 0xcbf2_9ce4_8422_2325);
        // The published test vector of FNV-1a for "a".
        assert_eq!(fingerprint("a"), 0xaf63_dc4c_8601_ec8c);
        assert_ne!(fingerprint("kmod_30"), fingerprint("kmod_31"));
        assert_eq!(name_of(Path::new("/c/linux-6.1-00aa")), Some("linux-6.1"));
    }
}
