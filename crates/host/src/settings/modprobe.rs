//! `modprobe.d(5)` and the kernel's command line: module options, and what keeps a module from being
//! loaded.

use std::path::{Path, PathBuf};

use ctkeeper_snapshot::Gap;

use super::folders::{self, MODPROBE};
use super::tree::{Content, Tree};

/// The module.
const MODULE: &str = "nf_conntrack";

/// The kernel's command line; modprobe takes `MODULE.OPTION=` from it after all files.
pub const COMMAND_LINE: &str = "/proc/cmdline";

/// What modprobe is told about modules that matter here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Modprobe {
    /// Every `hashsize=`, in the order in which the kernel gets them: the last one wins.
    pub(super) hashsizes: Vec<Hashsize>,
    /// The last `enable_hooks=`.
    pub(super) enable_hooks: Option<bool>,
    /// `blacklist` lines: these modules are not loaded by name from modules-load.d.
    pub(super) blacklisted: Vec<Note>,
    /// `modules_load=` of the command line: what systemd loads beside modules-load.d.
    pub(super) modules_load: Vec<String>,
    /// `install` lines: a command runs in place of loading these modules.
    pub(super) replaced: Vec<Note>,
}

/// A `hashsize=` option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hashsize {
    pub(super) file: PathBuf,
    pub(super) line: u32,
    pub(super) text: String,
    /// Whether it stands on the kernel's command line: that alone reaches a kernel with connection
    /// tracking compiled in.
    pub(super) on_command_line: bool,
}

/// A line about a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) module: String,
    pub(super) file: PathBuf,
    pub(super) line: u32,
}

impl Modprobe {
    pub(super) fn read(tree: &Tree<'_>, command_line: &str, gaps: &mut Vec<Gap>) -> Self {
        let mut modprobe = Self::default();
        for file in folders::files(tree, MODPROBE, gaps) {
            if !file.masked && !file.is_hidden() {
                modprobe.add(&file.content);
            }
        }
        modprobe.add_command_line(command_line);
        modprobe
    }

    pub(super) fn is_blacklisted(&self, module: &str) -> bool {
        self.blacklisted.iter().any(|note| note.module == module)
    }

    pub(super) fn replacement(&self, module: &str) -> Option<&Note> {
        self.replaced.iter().find(|note| note.module == module)
    }

    fn add(&mut self, content: &Content) {
        let text = String::from_utf8_lossy(&content.bytes);
        for (line, number) in logical_lines(&text) {
            self.add_line(&line, &content.file, number);
        }
    }

    fn add_line(&mut self, line: &str, file: &Path, number: u32) {
        let mut words = line.split_ascii_whitespace();
        let (Some(command), Some(module)) = (words.next(), words.next()) else { return };
        let module = canonical(module);
        let note = || Note { module: module.clone(), file: file.to_owned(), line: number };
        match command {
            "options" if module == MODULE => {
                for option in words {
                    self.add_option(option, file, number);
                }
            }
            "blacklist" => self.blacklisted.push(note()),
            "install" => self.replaced.push(note()),
            _ => {}
        }
    }

    fn add_option(&mut self, option: &str, file: &Path, line: u32) {
        match option.split_once('=') {
            Some(("hashsize", text)) => self.hashsizes.push(hashsize(file, line, text, false)),
            Some(("enable_hooks", text)) => self.enable_hooks = boolean(text),
            None if option == "enable_hooks" => self.enable_hooks = Some(true),
            _ => {}
        }
    }

    fn add_command_line(&mut self, command_line: &str) {
        let file = Path::new(COMMAND_LINE);
        for word in command_line.split_ascii_whitespace() {
            let Some((name, text)) = word.split_once('=') else { continue };
            match canonical(name).as_str() {
                "nf_conntrack.hashsize" => {
                    self.hashsizes.push(hashsize(file, 1, text, true));
                }
                "nf_conntrack.enable_hooks" => self.enable_hooks = boolean(text),
                "modules_load" => {
                    self.modules_load.extend(text.split(',').map(canonical));
                }
                "modprobe.blacklist" | "module_blacklist" => {
                    let note =
                        |module| Note { module: canonical(module), file: file.to_owned(), line: 1 };
                    self.blacklisted.extend(text.split(',').map(note));
                }
                _ => {}
            }
        }
    }
}

fn hashsize(file: &Path, line: u32, text: &str, on_command_line: bool) -> Hashsize {
    let text = unquoted(text).to_owned();
    Hashsize { file: file.to_owned(), line, text, on_command_line }
}

fn unquoted(text: &str) -> &str {
    text.trim_matches(['"', '\''])
}

/// A line of a modprobe.d file without any `hashsize=` of the module: what else it sets, or nothing.
/// `None` unless one of them is `value`.
pub fn without_hashsize(line: &str, value: &str) -> Option<String> {
    let mut words = line.split_ascii_whitespace();
    let (command, module) = (words.next()?, words.next()?);
    if command != "options" || canonical(module) != MODULE {
        return None;
    }
    let (sizes, others): (Vec<_>, Vec<_>) = words.partition(|word| word.starts_with("hashsize="));
    let mut given = sizes.iter().filter_map(|word| word.split_once('='));
    given.find(|(_, size)| unquoted(size) == value)?;
    Some(if others.is_empty() {
        String::new()
    } else {
        format!("{command} {module} {}", others.join(" "))
    })
}

/// `param_set_bool` of `kernel/params.c`.
fn boolean(text: &str) -> Option<bool> {
    match text.as_bytes().first()? {
        b'1' | b'y' | b'Y' | b't' | b'T' => Some(true),
        b'0' | b'n' | b'N' | b'f' | b'F' => Some(false),
        _ => None,
    }
}

/// `-` and `_` are the same in module names.
pub(super) fn canonical(module: &str) -> String {
    module.replace('-', "_")
}

/// Lines without comments; one that ends with a backslash goes on in the next. The number is that
/// of the first.
pub(super) fn logical_lines(text: &str) -> Vec<(String, u32)> {
    let mut lines = Vec::new();
    let mut open: Option<(String, u32)> = None;
    for (line, number) in text.lines().zip(1_u32..) {
        let (mut whole, first) = open.take().unwrap_or((String::new(), number));
        let continued = line.strip_suffix('\\');
        whole.push_str(continued.unwrap_or(line));
        if continued.is_some() {
            open = Some((whole, first));
        } else if !whole.trim_start().starts_with('#') {
            lines.push((whole, first));
        }
    }
    lines.extend(open);
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str, command_line: &str) -> Modprobe {
        let mut modprobe = Modprobe::default();
        modprobe.add(&Content { file: PathBuf::from("a"), bytes: text.as_bytes().to_vec() });
        modprobe.add_command_line(command_line);
        modprobe
    }

    #[test]
    fn options_are_found() {
        let text = "# options nf_conntrack hashsize=1\noptions nf-conntrack acct=1 \\\n hashsize=2\n\
            options nf_conntrack_ftp hashsize=3\noptions nf_conntrack hashsize=4 hashsize=5 enable_hooks=Y\n";
        let modprobe = parse(text, "quiet nf_conntrack.hashsize=6 nf-conntrack.hashsize=7");
        let seen: Vec<_> = modprobe
            .hashsizes
            .iter()
            .map(|h| (h.text.as_str(), h.line, h.on_command_line))
            .collect();
        let expected =
            [("2", 2, false), ("4", 5, false), ("5", 5, false), ("6", 1, true), ("7", 1, true)];
        assert_eq!(seen, expected);
        assert_eq!(modprobe.enable_hooks, Some(true));
    }

    #[test]
    fn what_keeps_a_module_away_is_found() {
        let modprobe = parse(
            "blacklist nf-nat\ninstall nf_conntrack /bin/true\n",
            "modprobe.blacklist=a,nf_conntrack_ftp",
        );
        assert!(modprobe.is_blacklisted("nf_nat") && modprobe.is_blacklisted("nf_conntrack_ftp"));
        assert!(!modprobe.is_blacklisted("nf_conntrack"));
        assert_eq!(modprobe.replacement("nf_conntrack").map(|note| note.line), Some(2));
    }

    proptest! {
        #[test]
        fn hostile_files_do_no_harm(text in ".{0,200}", command_line in ".{0,80}") {
            let _ = parse(&text, &command_line);
        }
    }
}
