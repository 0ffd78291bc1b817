//! `settings` against the programs that read sysctl files: `systemd-sysctl` and `sysctl --system`.
//!
//! Each tree of files is laid over `/etc`, `/run`, `/usr/lib/sysctl.d` and `/usr/local/lib` in a
//! private mount namespace, with a network namespace of its own, and both programs run on it. What
//! they leave in a value of that namespace must be what `settings` says. The value is
//! `net.core.somaxconn`: every namespace has its own, and it takes what `nf_conntrack_max` takes
//! (an integer from 0 up).

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use ctkeeper_host::settings::{kernel_integer, lines, outcome};
use ctkeeper_snapshot::Reader;
use tempfile::TempDir;

/// What the value is before a reader runs.
const BEFORE: u64 = 77;

/// The value that is followed by most cases: its names below `/proc/sys`, the first is read back.
const SOMAXCONN: &[&str] = &["net/core/somaxconn"];

/// Lays a tree over the host's folders in this process's own namespaces, runs both readers on a
/// fresh value, and prints what each leaves. `$1` is the value, then come the trees.
const SCRIPT: &str = r#"
set -eu
value=$1 before=$2; shift 2
mount --make-rprivate /
run() {
    printf '%s\n' "$before" > "$value"
    "$@" > /dev/null 2>&1 || true
    cat "$value"
}
for tree in "$@"; do
    mount --bind "$tree/usr/local/lib" /usr/local/lib
    mount --bind "$tree/usr/lib/sysctl.d" /usr/lib/sysctl.d
    mount --bind "$tree/etc" /etc
    mount --bind "$tree/run" /run
    echo "$(run /lib/systemd/systemd-sysctl) $(run sysctl --system)"
    umount /run /etc /usr/lib/sysctl.d /usr/local/lib
done
"#;

/// A tree of settings files: paths below the root and what they hold, or where they lead.
#[derive(Clone, Debug)]
struct Files(Vec<(String, Node)>);

#[derive(Clone, Debug)]
enum Node {
    Text(Vec<u8>),
    Link(&'static str),
    Folder,
}

/// What one tree was made of and what came out.
#[derive(Debug)]
struct Verdict {
    name: String,
    systemd: (u64, u64),
    procps: (u64, u64),
}

pub(crate) fn cases_by_hand_agree_with_the_readers() -> anyhow::Result<()> {
    let cases: Vec<_> = cases_by_hand().into_iter().map(|(n, f)| (n.to_owned(), f)).collect();
    ensure!(cases.len() >= 20, "only {} cases", cases.len());
    let verdicts = compare(SOMAXCONN, &cases)?;
    // So that the table itself cannot be hollow: both readers were seen to differ.
    ensure!(verdicts.iter().any(|v| v.systemd.0 != v.procps.0), "the readers never differed");
    report(&verdicts)
}

pub(crate) fn generated_trees_agree_with_the_readers() -> anyhow::Result<()> {
    let mut random = Random(0x5eed_c0de);
    let cases: Vec<_> =
        (0..150).map(|n| (format!("generated {n}"), generated(&mut random))).collect();
    report(&compare(SOMAXCONN, &cases)?)
}

/// The same with a value of conntrack's own folder.
pub(crate) fn a_conntrack_key_agrees_with_the_readers() -> anyhow::Result<()> {
    const CLOSE_WAIT: &[&str] = &["net/netfilter/nf_conntrack_tcp_timeout_close_wait"];
    let line =
        |text: &str| text.replace("KEY", "net.netfilter.nf_conntrack_tcp_timeout_close_wait");
    let cases = [
        ("a line", files(&[("etc/sysctl.d/a.conf", &line("KEY = 500\n"))])),
        (
            "a pattern",
            files(&[("etc/sysctl.d/a.conf", "net.*.nf_conntrack_tcp_*_close_wait=501\n")]),
        ),
        ("sysctl.conf without its link", files(&[("etc/sysctl.conf", &line("KEY=502"))])),
        ("no number", files(&[("run/sysctl.d/a.conf", &line("KEY=five minutes\n"))])),
    ];
    let cases: Vec<_> = cases.into_iter().map(|(n, f)| (n.to_owned(), f)).collect();
    report(&compare(CLOSE_WAIT, &cases)?)
}

/// `nf_conntrack_max` has two names in the host's namespace. Their order is held against the readers
/// on a file with two names in place of `/proc/sys`: only the readers are under test here.
pub(crate) fn two_names_of_one_value_agree_with_the_readers() -> anyhow::Result<()> {
    const NAMES: &[&str] = &["net/netfilter/nf_conntrack_max", "net/nf_conntrack_max"];
    let (long, short) = ("net.netfilter.nf_conntrack_max", "net.nf_conntrack_max");
    let text = |order: &[(&str, u64)]| {
        order.iter().fold(String::new(), |mut text, (key, value)| {
            let _ = writeln!(text, "{key} = {value}");
            text
        })
    };
    let orders: [&[(&str, u64)]; 5] = [
        &[(long, 50), (short, 60)],
        &[(short, 60), (long, 50)],
        &[(long, 50), (short, 60), (long, 50)],
        &[(long, 50), (short, 60), (long, 70)],
        &[("net.*.nf_conntrack_max", 50), ("net.nf_c*", 60), (short, 40)],
    ];
    let scratch = tempfile::tempdir()?;
    let sys = scratch.path().join("sys");
    fs::create_dir_all(sys.join("net/netfilter"))?;
    fs::write(sys.join(NAMES[0]), "")?;
    fs::hard_link(sys.join(NAMES[0]), sys.join(NAMES[1]))?;
    let cases: Vec<_> = orders
        .iter()
        .map(|order| (format!("{order:?}"), files(&[("etc/sysctl.d/a.conf", &text(order))])))
        .collect();
    let setup = format!("mount --bind {} /proc/sys", sys.display());
    report(&compare_after(&setup, NAMES, &cases)?)
}

fn compare(paths: &[&str], cases: &[(String, Files)]) -> anyhow::Result<Vec<Verdict>> {
    compare_after("", paths, cases)
}

/// Runs the readers on every case, after a line of the script's own.
fn compare_after(
    setup: &str,
    paths: &[&str],
    cases: &[(String, Files)],
) -> anyhow::Result<Vec<Verdict>> {
    let trees = cases.iter().map(|(_, files)| files.lay()).collect::<anyhow::Result<Vec<_>>>()?;
    let value = Path::new("/proc/sys").join(paths[0]);
    let script =
        SCRIPT.replacen("mount --make-rprivate /", &format!("mount --make-rprivate /\n{setup}"), 1);
    let output = Command::new("unshare")
        .args(["--mount", "--net", "sh", "-c", &script, "sh"])
        .args([&value, &PathBuf::from(BEFORE.to_string())])
        .args(trees.iter().map(TempDir::path))
        .output()
        .context("running unshare")?;
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "the script failed: {err}");
    let seen: Vec<_> = out.lines().collect();
    ensure!(seen.len() == cases.len(), "{} answers to {} cases: {err}", seen.len(), cases.len());
    let verdicts = cases.iter().zip(&trees).zip(seen).map(|(((name, _), tree), seen)| {
        let (systemd, procps) = seen.split_once(' ').context("two values a line")?;
        let expected = |reader| ours(tree.path(), paths, reader);
        Ok(Verdict {
            name: name.clone(),
            systemd: (systemd.trim().parse()?, expected(Reader::Systemd)),
            procps: (procps.trim().parse()?, expected(Reader::Procps)),
        })
    });
    verdicts.collect()
}

/// What `settings` says that a reader leaves.
fn ours(tree: &Path, paths: &[&str], reader: Reader) -> u64 {
    let (lines, _) = lines(tree, paths);
    let accept = |text: &str| kernel_integer(text, &(0..=0x7fff_ffff)).map(|n| n as u64);
    outcome(lines.written_by(reader), BEFORE, accept)
}

/// Fails with the rows that differ; `--nocapture` shows the whole table.
fn report(verdicts: &[Verdict]) -> anyhow::Result<()> {
    let show = std::env::args().any(|argument| argument == "--nocapture");
    let mut wrong = String::new();
    for Verdict { name, systemd, procps } in verdicts {
        if show {
            let ((s, our_s), (p, our_p)) = (systemd, procps);
            println!(
                "{name:<40} systemd {s:>10} ours {our_s:>10} | procps {p:>10} ours {our_p:>10}"
            );
        }
        if systemd.0 != systemd.1 || procps.0 != procps.1 {
            let _ =
                writeln!(wrong, "{name}: systemd {systemd:?}, procps {procps:?} (theirs, ours)");
        }
    }
    ensure!(wrong.is_empty(), "\n{wrong}");
    Ok(())
}

impl Files {
    fn lay(&self) -> anyhow::Result<TempDir> {
        let tree = tempfile::tempdir()?;
        for folder in ["etc/sysctl.d", "run/sysctl.d", "usr/lib/sysctl.d", "usr/local/lib/sysctl.d"]
        {
            fs::create_dir_all(tree.path().join(folder))?;
        }
        // As on a merged /usr: the two names are one folder.
        symlink("usr/lib", tree.path().join("lib"))?;
        for (path, node) in &self.0 {
            let path = tree.path().join(path);
            match node {
                Node::Text(text) => fs::write(path, text)?,
                Node::Link(target) => symlink(target, path)?,
                Node::Folder => fs::create_dir(path)?,
            }
        }
        Ok(tree)
    }

    fn with(mut self, path: &str, node: Node) -> Self {
        self.0.push((path.to_owned(), node));
        self
    }
}

fn files(texts: &[(&str, &str)]) -> Files {
    let node = |text: &&str| Node::Text(text.as_bytes().to_vec());
    Files(texts.iter().map(|(path, text)| ((*path).to_owned(), node(text))).collect())
}

/// A file `/etc/sysctl.d/a.conf` alone.
fn one(text: &'static str) -> Files {
    files(&[("etc/sysctl.d/a.conf", text)])
}

const CONF: &str = "net.core.somaxconn = 700\n";
const A: &str = "net.core.somaxconn = 500\n";
const B: &str = "net.core.somaxconn = 600\n";

/// Every rule that is known to matter, each with the smallest tree that shows it.
fn cases_by_hand() -> Vec<(&'static str, Files)> {
    let mut cases = folders_by_hand();
    cases.extend(LINES.iter().map(|(name, text)| (*name, one(text))));
    cases.push((
        "bytes that are no UTF-8",
        Files(vec![(
            "etc/sysctl.d/a.conf".to_owned(),
            Node::Text(b"\xff\xfe\nnet.core.somaxconn = 500 \xff\n".to_vec()),
        )]),
    ));
    cases
}

fn folders_by_hand() -> Vec<(&'static str, Files)> {
    let link = |to| Node::Link(to);
    vec![
        ("nothing", files(&[])),
        ("a later name wins", files(&[("etc/sysctl.d/a.conf", A), ("etc/sysctl.d/b.conf", B)])),
        (
            "names sort across folders",
            files(&[("etc/sysctl.d/a.conf", A), ("usr/lib/sysctl.d/b.conf", B)]),
        ),
        ("capitals sort first", files(&[("etc/sysctl.d/B.conf", B), ("run/sysctl.d/a.conf", A)])),
        ("/etc masks /run", files(&[("etc/sysctl.d/a.conf", A), ("run/sysctl.d/a.conf", B)])),
        (
            "/run masks /usr/local",
            files(&[("run/sysctl.d/a.conf", A), ("usr/local/lib/sysctl.d/a.conf", B)]),
        ),
        (
            "/usr/local masks /usr",
            files(&[("usr/local/lib/sysctl.d/a.conf", A), ("usr/lib/sysctl.d/a.conf", B)]),
        ),
        (
            "an empty file masks",
            files(&[("etc/sysctl.d/a.conf", ""), ("usr/lib/sysctl.d/a.conf", B)]),
        ),
        (
            "/dev/null masks",
            files(&[("usr/lib/sysctl.d/a.conf", A)]).with("etc/sysctl.d/a.conf", link("/dev/null")),
        ),
        (
            "a link to nowhere masks",
            files(&[("usr/lib/sysctl.d/a.conf", A)]).with("etc/sysctl.d/a.conf", link("/nowhere")),
        ),
        (
            "a folder masks",
            files(&[("usr/lib/sysctl.d/a.conf", A)]).with("etc/sysctl.d/a.conf", Node::Folder),
        ),
        (
            "a link to itself masks",
            files(&[("usr/lib/sysctl.d/a.conf", A)]).with("etc/sysctl.d/a.conf", link("a.conf")),
        ),
        ("a hidden file", files(&[("etc/sysctl.d/.a.conf", A)])),
        ("a file called .conf", files(&[("etc/sysctl.d/.conf", A)])),
        (
            "other suffixes",
            files(&[
                ("etc/sysctl.d/a.conf~", A),
                ("etc/sysctl.d/a.CONF", A),
                ("etc/sysctl.d/aconf", A),
            ]),
        ),
        ("sysctl.conf alone", files(&[("etc/sysctl.conf", CONF)])),
        (
            "sysctl.conf by its link",
            files(&[("etc/sysctl.conf", CONF)])
                .with("etc/sysctl.d/99-sysctl.conf", link("../sysctl.conf")),
        ),
        (
            "sysctl.conf by an absolute link",
            files(&[("etc/sysctl.conf", CONF)])
                .with("etc/sysctl.d/99-sysctl.conf", link("/etc/sysctl.conf")),
        ),
        (
            "a name after 99-sysctl.conf",
            files(&[("etc/sysctl.conf", CONF), ("etc/sysctl.d/99-z.conf", A)])
                .with("etc/sysctl.d/99-sysctl.conf", link("../sysctl.conf")),
        ),
        (
            "sysctl.conf is a link",
            files(&[("etc/other", CONF)]).with("etc/sysctl.conf", link("other")),
        ),
        (
            "sysctl.conf is a folder",
            files(&[("etc/sysctl.d/a.conf", A)]).with("etc/sysctl.conf", Node::Folder),
        ),
        (
            "99-sysctl.conf masked",
            files(&[("etc/sysctl.conf", CONF), ("usr/lib/sysctl.d/99-sysctl.conf", A)])
                .with("etc/sysctl.d/99-sysctl.conf", link("/dev/null")),
        ),
    ]
}

/// Names of cases and the text of the one file that makes them.
const LINES: &[(&str, &str)] = &[
    ("spaces", "  net.core.somaxconn\t=  500  \n"),
    ("no last line feed", "net.core.somaxconn=500"),
    ("CR LF", "net.core.somaxconn = 500\r\n"),
    ("CR alone", "net.core.somaxconn = 500\rnet.core.somaxconn = 501\r"),
    ("NUL in a line", "net.core.somaxconn = 500\0junk\n"),
    ("NUL before a line", "x\0net.core.somaxconn = 500\n"),
    ("comments", "# net.core.somaxconn = 500\n; net.core.somaxconn = 501\n"),
    ("a comment behind the value", "net.core.somaxconn = 500 # why\n"),
    ("form feed", "net.core.somaxconn = 500\x0c\n"),
    ("vertical tab", "\x0bnet.core.somaxconn = 500\n"),
    ("byte order mark", "\u{feff}net.core.somaxconn = 500\n"),
    ("hexadecimal", "net.core.somaxconn = 0x1F4\n"),
    ("octal", "net.core.somaxconn = 0500\n"),
    ("no octal", "net.core.somaxconn = 09\n"),
    ("a plus", "net.core.somaxconn = +500\n"),
    ("negative", "net.core.somaxconn = -5\n"),
    ("two numbers", "net.core.somaxconn = 500 600\n"),
    ("a number with a unit", "net.core.somaxconn = 500k\n"),
    ("thousands", "net.core.somaxconn = 600,000\n"),
    ("quotes", "net.core.somaxconn = \"500\"\n"),
    ("largest", "net.core.somaxconn = 2147483647\n"),
    ("too large", "net.core.somaxconn = 2147483648\n"),
    ("unsigned", "net.core.somaxconn = 4294967295\n"),
    ("far too large", "net.core.somaxconn = 99999999999999999999999999\n"),
    ("twenty digits", "net.core.somaxconn = 00000000000000000500\n"),
    ("twenty-one digits", "net.core.somaxconn = 000000000000000000500\n"),
    ("no value", "net.core.somaxconn =\n"),
    ("a good line, then a bad one", "net.core.somaxconn = 500\nnet.core.somaxconn = many\n"),
    ("a bad line, then a good one", "net.core.somaxconn = many\nnet.core.somaxconn = 500\n"),
    ("slashes", "net/core/somaxconn = 500\n"),
    ("a leading slash", "/net/core/somaxconn = 500\n"),
    ("a leading dot", ".net.core.somaxconn = 500\n"),
    ("doubled dots", "net..core.somaxconn = 500\n"),
    ("doubled slashes", "net//core/somaxconn = 500\n"),
    ("dot, then slash", "net.core/somaxconn = 500\n"),
    ("slash, then dot", "net/core.somaxconn = 500\n"),
    ("a slash behind", "net/core/somaxconn/ = 500\n"),
    ("a folder up", "net/ipv4/../core/somaxconn = 500\n"),
    ("this folder", "net/./core/somaxconn = 500\n"),
    ("a full path", "/proc/sys/net/core/somaxconn = 500\n"),
    ("capitals", "Net.Core.Somaxconn = 500\n"),
    ("no equals sign", "net.core.somaxconn 500\n"),
    ("two equals signs", "net.core.somaxconn = = 500\n"),
    ("errors ignored", "-net.core.somaxconn = 500\n"),
    ("errors ignored, with a space", "- net.core.somaxconn = 500\n"),
    ("taken back", "net.core.somaxconn = 500\n-net.core.somaxconn\n"),
    ("taken back, then set", "-net.core.somaxconn\nnet.core.somaxconn = 500\n"),
    (
        "set, changed, set again",
        "net.core.somaxconn = 500\nnet.core.somaxconn = 600\nnet.core.somaxconn = 500\n",
    ),
    ("a star", "net.*.somaxconn = 500\n"),
    ("a question mark", "net.core.somaxc?nn = 500\n"),
    ("a set", "net.core.soma[w-y]conn = 500\n"),
    ("a negated set", "net.core.soma[!w-y]conn = 500\n"),
    ("a star over folders", "net.*conn = 500\n"),
    ("a pattern, then the name", "net.*.somaxconn = 500\nnet.core.somaxconn = 600\n"),
    ("the name, then a pattern", "net.core.somaxconn = 600\nnet.*.somaxconn = 500\n"),
    ("a bad value, then a pattern", "net.core.somaxconn = many\nnet.*.somaxconn = 500\n"),
    ("a pattern with an exception", "net.*.somaxconn = 500\n-net.core.somaxconn\n"),
    ("a pattern with excepted patterns", "net.*.somaxconn = 500\n-net.core.soma*\n"),
    ("two patterns", "net.*.somaxconn = 500\nnet.core.somax* = 600\n"),
    (
        "two patterns, the first again",
        "net.*.somaxconn = 500\nnet.core.somax* = 600\nnet.*.somaxconn = 500\n",
    ),
    ("a line goes on", "net.core.somaxconn = \\\n500\n"),
    ("a former name beside it", "net.core.somaxconn = 500\nnet.ipv4.ip_conntrack_max = 9\n"),
];

/// A tree by chance: a few files in any folder, each of a few lines that matter.
fn generated(random: &mut Random) -> Files {
    const FOLDERS: [&str; 4] =
        ["etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d"];
    const NAMES: [&str; 6] =
        ["a.conf", "b.conf", "B.conf", ".h.conf", "50-x.conf", "99-sysctl.conf"];
    let mut tree = files(&[]);
    if random.below(2) == 0 {
        tree = tree.with("etc/sysctl.conf", Node::Text(text(random)));
    }
    let mut taken = Vec::new();
    for _ in 0..=random.below(5) {
        let path = format!("{}/{}", random.pick(&FOLDERS), random.pick(&NAMES));
        if taken.contains(&path) {
            continue;
        }
        let node = match random.below(8) {
            0 => Node::Link("/dev/null"),
            1 => Node::Link("/etc/sysctl.conf"),
            _ => Node::Text(text(random)),
        };
        tree = tree.with(&path, node);
        taken.push(path);
    }
    tree
}

fn text(random: &mut Random) -> Vec<u8> {
    const KEYS: [&str; 9] = [
        "net.core.somaxconn",
        "net/core/somaxconn",
        "-net.core.somaxconn",
        "net.*.somaxconn",
        "net.core.somax*",
        "/net/core/somaxconn",
        "net.core/somaxconn",
        "# net.core.somaxconn",
        "net..core.somaxconn",
    ];
    const VALUES: [&str; 6] = ["500", "600", "0x2bc", "many", "600 # x", ""];
    const ENDS: [&str; 5] = ["\n", "\n", "\r\n", "\r", "\0\n"];
    let mut text = String::new();
    for _ in 0..=random.below(4) {
        match random.below(8) {
            0 => text.push_str("-net.core.somaxconn"),
            1 => text.push_str("-net.*.somaxconn"),
            _ => {
                let _ = write!(text, "{} = {}", random.pick(&KEYS), random.pick(&VALUES));
            }
        }
        text.push_str(random.pick(&ENDS));
    }
    text.into_bytes()
}

/// xorshift64: the same trees every time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).map_or(0, |number| number % bound.max(1))
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}
