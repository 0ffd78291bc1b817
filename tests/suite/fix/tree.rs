//! A host's files in a folder, and what they were.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use ctkeeper_tests::{Output, ctkeeper, ctkeeper_path, run};

/// Files of a host that did what the seed says, below a temporary folder.
pub(crate) struct Tree {
    folder: tempfile::TempDir,
}

/// Everything below `etc` that a change could touch: kind and content, permissions, owner, time.
pub(crate) type Picture = BTreeMap<PathBuf, (String, u32, u32, u32, (i64, i64))>;

/// The line of the seed's own fix.
pub(crate) const SEED: &str = "# Maximum number of allowed connection tracking entries\n\
                               net.netfilter.nf_conntrack_max = 600000";

impl Tree {
    /// `/etc/sysctl.conf` as the seed leaves it, and systemd's link to it.
    pub(crate) fn new() -> anyhow::Result<Self> {
        Self::within(&std::env::temp_dir())
    }

    /// The same where waiting for the disk costs nothing, for tests that make hundreds. What a
    /// killed process leaves does not depend on the disk.
    pub(crate) fn in_memory() -> anyhow::Result<Self> {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { Self::within(memory) } else { Self::new() }
    }

    fn within(folder: &Path) -> anyhow::Result<Self> {
        let tree = Self { folder: tempfile::tempdir_in(folder)? };
        tree.write("etc/sysctl.conf", SEED)?;
        fs::set_permissions(tree.path("etc/sysctl.conf"), fs::Permissions::from_mode(0o640))?;
        fs::create_dir_all(tree.path("etc/sysctl.d"))?;
        symlink("../sysctl.conf", tree.path("etc/sysctl.d/99-sysctl.conf"))?;
        tree.write("etc/sysctl.d/10-network.conf", "net.ipv4.ip_forward = 1\n")?;
        Ok(tree)
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root().join(below)
    }

    pub(crate) fn write(&self, below: &str, content: impl AsRef<[u8]>) -> anyhow::Result<()> {
        let path = self.path(below);
        fs::create_dir_all(path.parent().context("a file has a folder")?)?;
        fs::write(&path, content).with_context(|| path.display().to_string())
    }

    pub(crate) fn read(&self, below: &str) -> anyhow::Result<String> {
        let path = self.path(below);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    pub(crate) fn picture(&self) -> anyhow::Result<Picture> {
        let mut picture = Picture::new();
        add(&self.path("etc"), &mut picture)?;
        Ok(picture)
    }

    /// `ctkeeper fix --root THIS …`.
    pub(crate) fn fix(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        run(&mut self.command(arguments))
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = ctkeeper(&["fix", "--root"]);
        command.arg(self.root()).args(arguments);
        command
    }

    /// The same under strace, which does to one system call what `inject` says; see
    /// [`Tree::was_injected`].
    pub(crate) fn fix_injected(&self, arguments: &[&str], inject: &str) -> anyhow::Result<Output> {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o"]).arg(self.path("trace"));
        command
            .args(["-e", &format!("inject={inject}")])
            .arg(ctkeeper_path())
            .args(["fix", "--root"]);
        command.arg(self.root()).args(arguments);
        run(&mut command)
    }

    /// Whether the last [`Tree::fix_injected`] made a call fail.
    pub(crate) fn was_injected(&self) -> anyhow::Result<bool> {
        Ok(self.read("trace")?.contains("(INJECTED)"))
    }

    /// `(id, state)` of every change in the journal, oldest first.
    pub(crate) fn changes(&self) -> anyhow::Result<Vec<(String, String)>> {
        let mut changes = Vec::new();
        for entry in fs::read_dir(self.path("var/lib/ctkeeper/journal")).into_iter().flatten() {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let json: serde_json::Value = serde_json::from_slice(&fs::read(&path)?)?;
                let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
                changes.push((text("id"), text("state")));
            }
        }
        changes.sort();
        Ok(changes)
    }
}

/// Runs and fails unless it ends with `code`.
pub(crate) fn ensure_code(output: Output, code: i32) -> anyhow::Result<Output> {
    ensure!(output.code == Some(code), "expected exit {code}: {output:#?}");
    Ok(output)
}

fn add(path: &Path, picture: &mut Picture) -> anyhow::Result<()> {
    let status = fs::symlink_metadata(path)?;
    let (what, modified) = if status.is_dir() {
        for entry in fs::read_dir(path)? {
            add(&entry?.path(), picture)?;
        }
        // The time of a folder tells of every file that ever was in it.
        ("folder".to_owned(), (0, 0))
    } else if status.is_symlink() {
        (format!("link to {}", fs::read_link(path)?.display()), (0, 0))
    } else {
        let content = fs::read(path)?;
        (content.escape_ascii().to_string(), (status.mtime(), status.mtime_nsec()))
    };
    let entry = (what, status.mode(), status.uid(), status.gid(), modified);
    picture.insert(path.to_owned(), entry);
    Ok(())
}
