//! Memory that kubelet keeps away from pods: `systemReserved`, `kubeReserved`, `evictionHard`.
//!
//! The first two are for everything that is no pod, the kernel's tables included. Kubelet keeps them
//! by bounding the group of all pods to the rest of memory: where that bound stands, what pods may
//! still claim is counted there, and counting what is left to the system as well would count the host
//! twice. Where it does not stand, the two are counted in full, as nobody says how much of them is in
//! use already. `evictionHard` is counted always: below it kubelet ends pods.

use std::fs;
use std::path::{Path, PathBuf};

use ctkeeper_snapshot::{Gap, GapKind, Reservation};

use crate::read;

/// Where kubeadm and others put the file when no running kubelet names one.
const USUAL_FILE: &str = "var/lib/kubelet/config.yaml";

/// Kubelet's folder: where it is not, no kubelet has ever run and none is looked for.
const HOME: &str = "var/lib/kubelet";

/// Processes looked at in search of a running kubelet.
const SCAN_LIMIT: usize = 32_768;

/// The amount that counts beside the bound of all pods as well.
const EVICTION: &str = "evictionHard";

/// The three amounts and what their names are in the file and on the command line.
const AMOUNTS: [(&str, &str, &str); 3] = [
    ("systemReserved", "memory", "--system-reserved"),
    ("kubeReserved", "memory", "--kube-reserved"),
    (EVICTION, "memory.available", "--eviction-hard"),
];

/// What kubelet keeps, from its file and from the flags of a running one (flags win).
/// `pods_are_bounded` tells whether the bound of all pods is counted already.
pub(super) fn reservations(
    root: &Path,
    total: u64,
    pods_are_bounded: bool,
    gaps: &mut Vec<Gap>,
) -> Vec<Reservation> {
    if !root.join(HOME).exists() {
        return Vec::new();
    }
    let flags = running_flags(root).unwrap_or_default();
    let file =
        flag(&flags, "--config").map_or_else(|| Path::new("/").join(USUAL_FILE), PathBuf::from);
    let config = read_config(root, &file, gaps);
    let mut found = Vec::new();
    for (name, resource, option) in AMOUNTS {
        let by_flag = flag(&flags, option).and_then(|list| listed(list, resource));
        let text = by_flag.map(str::to_owned).or_else(|| in_yaml(&config, name, resource));
        let Some(text) = text else { continue };
        match amount(&text, total) {
            Some(_) if pods_are_bounded && name != EVICTION => {}
            Some(bytes) if bytes > 0 => found.push(Reservation {
                owner: format!("kubelet {name}"),
                bytes,
                file: if by_flag.is_some() {
                    option.to_owned()
                } else {
                    file.display().to_string()
                },
            }),
            Some(_) => {}
            None => gaps.push(unclear(name, &text, &file)),
        }
    }
    found
}

fn unclear(name: &str, text: &str, file: &Path) -> Gap {
    Gap {
        kind: GapKind::BrokenFile,
        what: format!("the memory that kubelet keeps as {name}"),
        cause: format!("reading {}: {text:?} is no amount of memory", file.display()),
        remedy: "correct it to a quantity such as 1Gi or 5%".to_owned(),
    }
}

fn read_config(root: &Path, file: &Path, gaps: &mut Vec<Gap>) -> String {
    let path = root.join(file.strip_prefix("/").unwrap_or(file));
    match read::text(&path) {
        Ok(text) => text,
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                gaps.push(read::gap("the memory that kubelet keeps", &path, &error));
            }
            String::new()
        }
    }
}

/// Arguments of the first process called `kubelet`.
fn running_flags(root: &Path) -> Option<Vec<String>> {
    let entries = fs::read_dir(root.join("proc")).ok()?.flatten();
    let mut processes = entries.filter(|entry| {
        entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit)
    });
    let kubelet = processes.by_ref().take(SCAN_LIMIT).find(|process| {
        read::value(process.path().join("comm")).is_ok_and(|command| command == "kubelet")
    })?;
    let arguments = read::text(&kubelet.path().join("cmdline")).ok()?;
    Some(arguments.split('\0').map(str::to_owned).collect())
}

/// The value of `--name=value` or `--name value`; the last one given wins.
fn flag<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let value_at = |(index, argument): (usize, &'a String)| {
        let rest = argument.strip_prefix(name)?;
        match rest.strip_prefix('=') {
            Some(value) => Some(value),
            None if rest.is_empty() => arguments.get(index + 1).map(String::as_str),
            None => None,
        }
    };
    arguments.iter().enumerate().filter_map(value_at).next_back()
}

/// The amount of a resource in a flag's list: `cpu=100m,memory=1Gi`, `memory.available<100Mi`.
fn listed<'a>(list: &'a str, resource: &str) -> Option<&'a str> {
    list.split(',').find_map(|item| {
        item.trim().strip_prefix(resource)?.strip_prefix(['=', '<']).map(str::trim)
    })
}

/// The scalar at `section:` → `key:` of a YAML file, block or flow style. Kubelet's file is flat
/// enough that no more of YAML is needed; what is written otherwise is not found.
fn in_yaml(text: &str, section: &str, key: &str) -> Option<String> {
    let mut lines = text.lines().map(without_comment);
    let rest = lines.by_ref().find_map(|line| line.strip_prefix(section)?.strip_prefix(':'))?;
    let flow = rest.trim();
    if let Some(inside) = flow.strip_prefix('{') {
        return inside.trim_end_matches('}').split(',').find_map(|item| pair(item, key));
    }
    lines
        .filter(|line| !line.trim().is_empty())
        .take_while(|line| line.starts_with([' ', '\t']))
        .find_map(|line| pair(line, key))
}

fn pair(item: &str, key: &str) -> Option<String> {
    let (name, value) = item.split_once(':')?;
    let unquoted = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
    (unquoted(name) == key).then(|| unquoted(value))
}

fn without_comment(line: &str) -> &str {
    match line.find(" #") {
        Some(at) => line.get(..at).unwrap_or(line),
        None if line.starts_with('#') => "",
        None => line,
    }
}

/// Bytes of a Kubernetes quantity (`1Gi`, `500M`, `1e9`, `128974848`) or of a share of all memory
/// (`5%`).
fn amount(text: &str, total: u64) -> Option<u64> {
    if let Some(percent) = text.strip_suffix('%') {
        let share: f64 = percent.parse().ok()?;
        return (0.0..=100.0).contains(&share).then_some((total as f64 * share / 100.0) as u64);
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let (number, unit) = text.split_at(digits.len());
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let (number, factor) = match factor {
        Some(factor) => (number, factor),
        None => (text, 1.0),
    };
    let bytes = number.parse::<f64>().ok()? * factor;
    (bytes.is_finite() && bytes >= 0.0).then_some(bytes as u64)
}

const UNITS: [(&str, f64); 12] = [
    ("", 1.0),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GIB: u64 = 1 << 30;

    fn read(config: &str, kubelet: Option<&str>) -> (Vec<(String, u64)>, usize) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("var/lib/kubelet")).unwrap();
        fs::write(root.path().join(USUAL_FILE), config).unwrap();
        if let Some(arguments) = kubelet {
            fs::create_dir_all(root.path().join("proc/812")).unwrap();
            fs::write(root.path().join("proc/812/comm"), "kubelet\n").unwrap();
            fs::write(root.path().join("proc/812/cmdline"), arguments).unwrap();
        }
        let mut gaps = Vec::new();
        let found = reservations(root.path(), 16 * GIB, false, &mut gaps);
        (found.into_iter().map(|r| (r.owner, r.bytes)).collect(), gaps.len())
    }

    #[test]
    fn the_file_is_read() {
        let config = "kind: KubeletConfiguration\nevictionHard:\n  nodefs.available: 10%\n  \
            memory.available: \"5%\"  # a twentieth\nkubeReserved: {cpu: 100m, memory: 500Mi}\n\
            systemReserved:\n  cpu: 1\n  memory: 1Gi\nother:\n  memory: 9Gi\n";
        let (found, gaps) = read(config, None);
        let expected = [
            ("kubelet systemReserved", GIB),
            ("kubelet kubeReserved", 500 << 20),
            ("kubelet evictionHard", 16 * GIB / 20),
        ];
        assert_eq!(found, expected.map(|(owner, bytes)| (owner.to_owned(), bytes)));
        assert_eq!(gaps, 0);
    }

    #[test]
    fn flags_win_over_the_file() {
        let arguments = "/usr/bin/kubelet\0--system-reserved=cpu=1,memory=2Gi\0\
            --eviction-hard\0memory.available<100Mi,nodefs.available<10%\0";
        let (found, _) = read("systemReserved:\n  memory: 1Gi\n", Some(arguments));
        let expected = [("kubelet systemReserved", 2 * GIB), ("kubelet evictionHard", 100 << 20)];
        assert_eq!(found, expected.map(|(owner, bytes)| (owner.to_owned(), bytes)));
    }

    #[test]
    fn nonsense_is_named_and_a_host_without_kubelet_has_none() {
        assert_eq!(read("systemReserved:\n  memory: lots\n", None), (vec![], 1));
        assert_eq!(read("", None), (vec![], 0));
    }

    proptest! {
        #[test]
        fn hostile_files_do_no_harm(text in ".{0,300}", section in ".{0,9}", key in ".{0,9}") {
            let _ = in_yaml(&text, &section, &key);
            let _ = amount(&text, u64::MAX);
            let _ = listed(&text, &key);
        }
    }
}
