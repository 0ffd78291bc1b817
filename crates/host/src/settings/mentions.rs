//! Every line of the settings files that has to do with connection tracking, as it stands.

use std::path::Path;

use ctkeeper_snapshot::{SettingKey, SettingsFile, SettingsLine};

use super::folders::{self, Folders, MODPROBE, MODULES_LOAD, SYSCTL, UDEV};
use super::modprobe::{COMMAND_LINE, logical_lines};
use super::tree::{Content, Tree};
use super::{shortened_to, sysctl_files};

/// Kinds of drop-in files and the folders that they stand in.
const FOLDERS: [(SettingsFile, Folders); 4] = [
    (SettingsFile::Sysctl, SYSCTL),
    (SettingsFile::Modprobe, MODPROBE),
    (SettingsFile::ModulesLoad, MODULES_LOAD),
    (SettingsFile::Udev, UDEV),
];

/// Files of sysctl lines that stand alone: procps' and ufw's.
const SYSCTL_FILES: [&str; 2] = ["/etc/sysctl.conf", "/etc/ufw/sysctl.conf"];

/// Longest line that is kept whole, characters.
const LONGEST: usize = 400;

/// Lines kept at most: nobody writes that many by hand.
const LINES: usize = 1000;

/// The lines below `root` that have to do with connection tracking: not only those for limit and
/// buckets, but timeouts, options of its modules, what loads them and what keeps them away. Comments
/// are left out. Files that cannot be read are passed over; [`super::read`] names them.
pub fn mentions(root: &Path) -> Vec<SettingsLine> {
    let tree = Tree::new(root);
    let mut found = Vec::new();
    for (kind, folders) in FOLDERS {
        // They stand among the snapshot's gaps already.
        let mut gaps = Vec::new();
        for file in folders::files(&tree, folders, &mut gaps) {
            add(&mut found, kind, &file.content, file.masked);
        }
    }
    for content in SYSCTL_FILES.iter().filter_map(|file| tree.read(Path::new(file)).ok()) {
        add(&mut found, SettingsFile::Sysctl, &content, false);
    }
    found.extend(tree.read(Path::new(COMMAND_LINE)).ok().and_then(|line| command_line(&line)));
    found.truncate(LINES);
    found
}

/// A file that is reached twice, as `/etc/sysctl.conf` is through a link, is told of once.
fn add(found: &mut Vec<SettingsLine>, kind: SettingsFile, content: &Content, masked: bool) {
    if found.iter().any(|line| line.file == content.file && line.kind == kind) {
        return;
    }
    let text = String::from_utf8_lossy(&content.bytes);
    let concerned = lines(kind, &text).into_iter().filter(|(line, _)| concerns(kind, line));
    found.extend(concerned.map(|(line, number)| SettingsLine {
        file: content.file.clone(),
        line: number,
        kind,
        text: shortened_to(line.trim(), LONGEST),
        masked,
    }));
}

/// Lines with their numbers; only some files have lines that go on in the next.
fn lines(kind: SettingsFile, text: &str) -> Vec<(String, u32)> {
    match kind {
        SettingsFile::Modprobe | SettingsFile::Udev => logical_lines(text),
        _ => text.lines().map(str::to_owned).zip(1..).collect(),
    }
}

fn concerns(kind: SettingsFile, line: &str) -> bool {
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', ';']) {
        return false;
    }
    // A sysctl key may be a pattern that does not name what it matches.
    let keys = [SettingKey::Limit, SettingKey::Buckets];
    names_tracking(line)
        || kind == SettingsFile::Sysctl
            && keys.into_iter().any(|key| sysctl_files::concerns(line.as_bytes(), key))
}

fn names_tracking(text: &str) -> bool {
    const NAMES: [&str; 4] = ["conntrack", "nf-conntrack", "nf_nat", "nf-nat"];
    NAMES.iter().any(|name| text.contains(name))
}

fn command_line(content: &Content) -> Option<SettingsLine> {
    let text = String::from_utf8_lossy(&content.bytes);
    let words: Vec<_> = text.split_ascii_whitespace().filter(|word| names_tracking(word)).collect();
    (!words.is_empty()).then(|| SettingsLine {
        file: content.file.clone(),
        line: 1,
        kind: SettingsFile::CommandLine,
        text: shortened_to(&words.join(" "), LONGEST),
        masked: false,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let folder = root.path().join("etc/sysctl.d");
        fs::create_dir_all(&folder).unwrap();
        symlink("../sysctl.conf", folder.join("99-sysctl.conf")).unwrap();
        let show = |line: &SettingsLine| {
            let masked = if line.masked { " (masked)" } else { "" };
            format!("{}:{} {}{masked}", line.file.display(), line.line, line.text)
        };
        mentions(root.path()).iter().map(show).collect()
    }

    #[test]
    fn every_kind_of_file_is_looked_at() {
        let lines = found(&[
            (
                "etc/sysctl.d/10-a.conf",
                "# net.nf_conntrack_max = 1 \\\n net.netfilter.nf_conntrack_tcp_loose = 0 \n\
                 kernel.panic = 1\nnet.netfilter.* = 5\n",
            ),
            ("usr/lib/sysctl.d/10-a.conf", "net.nf_conntrack_max = 9\n"),
            ("etc/sysctl.conf", "\nnet.nf_conntrack_max = 7\n"),
            ("etc/modprobe.d/c.conf", "options nf_conntrack \\\n  hashsize=5\nblacklist floppy\n"),
            ("etc/modules-load.d/m.conf", "nf_conntrack\nloop\n"),
            ("etc/udev/rules.d/5.rules", "KERNEL==\"nf_conntrack\", RUN+=\"/sbin/sysctl -p\"\n"),
            ("proc/cmdline", "root=/dev/sda nf_conntrack.hashsize=9 quiet\n"),
        ]);
        let expected = [
            "/etc/sysctl.d/10-a.conf:2 net.netfilter.nf_conntrack_tcp_loose = 0",
            "/etc/sysctl.d/10-a.conf:4 net.netfilter.* = 5",
            "/usr/lib/sysctl.d/10-a.conf:1 net.nf_conntrack_max = 9 (masked)",
            "/etc/sysctl.conf:2 net.nf_conntrack_max = 7",
            "/etc/modprobe.d/c.conf:1 options nf_conntrack   hashsize=5",
            "/etc/modules-load.d/m.conf:1 nf_conntrack",
            "/etc/udev/rules.d/5.rules:1 KERNEL==\"nf_conntrack\", RUN+=\"/sbin/sysctl -p\"",
            "/proc/cmdline:1 nf_conntrack.hashsize=9",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn long_lines_are_shortened() {
        let line = format!("options nf_conntrack {}\n", "x".repeat(10_000));
        assert!(found(&[("etc/modprobe.d/c.conf", &line)])[0].chars().count() < LONGEST + 40);
    }

    proptest! {
        #[test]
        fn hostile_files_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let content = Content { file: "x".into(), bytes };
            let mut lines = Vec::new();
            for (kind, _) in FOLDERS {
                add(&mut lines, kind, &content, false);
            }
            let _ = command_line(&content);
        }
    }
}
