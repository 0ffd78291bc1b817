//! What `who` does where it may see little, and with names that mean harm.

use std::fs;
use std::process::Command;

use anyhow::{Context, ensure};
use ctkeeper_snapshot::{GapKind, Holder, Value, Who};
use ctkeeper_tests::{
    Filling, NamedGroup, Namespace, PodConfig, ctkeeper, ctkeeper_path, fill, run,
};

use crate::actor::Actor;
use crate::answer::{answer_of, who};
use crate::pods::Site;

/// Without privileges nothing is claimed, and what is missing is said.
pub(crate) fn without_privileges() -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir()?;
    let copy = folder.path().join("ctkeeper");
    fs::copy(ctkeeper_path(), &copy)?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    for form in [&["--json"][..], &["--csv"], &[]] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        let output = run(command.arg(&copy).arg("who").args(form))?;
        // Whether that is an answer with gaps or none at all, it says what is missing.
        let said = [output.stdout.as_str(), &output.stderr].concat().to_lowercase();
        ensure!(said.contains("root") || said.contains("privilege"), "{output:?}");
        ensure!(matches!(output.code, Some(0..=3)), "{output:?}");
        ensure!(!said.contains("panicked"), "{output:?}");
        if form == ["--json"] && output.code == Some(0) {
            let answer: Who = serde_json::from_str(&output.stdout)?;
            ensure!(answer.gaps.iter().any(|g| g.kind == GapKind::Privilege), "{answer:?}");
            ensure!(answer.rows.is_empty(), "rows of what could not be read: {answer:?}");
        }
    }
    Ok(())
}

/// An empty table, and a namespace that is not there.
pub(crate) fn without_tracking() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    let answer = who(&["--netns", namespace.name()])?;
    ensure!(answer.0.rows.is_empty() && answer.0.other.is_none(), "{answer}");
    let text = run(&mut ctkeeper(&["who", "--netns", namespace.name()]))?;
    ensure!(text.code == Some(0) && !text.stdout.is_empty(), "{text:?}");
    // Looking has not begun to track anything.
    namespace.run("sh", &["-c", "nft list ruleset | grep -q . && exit 1 || exit 0"])?;
    let nowhere = run(&mut ctkeeper(&["who", "--netns", "no-such-namespace"]))?;
    ensure!(nowhere.code == Some(1) && nowhere.stdout.is_empty(), "{nowhere:?}");
    ensure!(nowhere.stderr.contains("no-such-namespace"), "{nowhere:?}");
    // Healthy neighbour: entries that nobody here has.
    fill(&namespace, 0, 100, Filling::Established { timeout: 400_000 })?;
    let answer = who(&["--netns", namespace.name(), "--by", "state"])?;
    answer.ensure_whole(namespace.inode()?)?;
    ensure!(answer.0.rows.len() == 1, "{answer}");
    Ok(())
}

const RED: &str = "\u{1b}[31m\u{1b}]0;owned\u{7}";
const TURNED: &str = "\u{202e}gpj.\u{2066}\u{200f}";

/// A pod, a unit and a process with names that would take over a terminal, end a line or a field, or
/// fill a screen: drawn they do nothing, as values they are what they are.
pub(crate) fn hostile_names() -> anyhow::Result<()> {
    let mut site = Site::build(("10.88.1.9", "10.88.1.40"))?;
    let name = format!("{RED}{TURNED}\n=1+1,\"quoted\",{}", "long ".repeat(100));
    let ports = [(18_090, 80)];
    let pod = site.node.sandbox(PodConfig {
        namespace: "a\r\nb",
        name: &name,
        uid: "0d1c7a52-6f43-4c0e-9a15-7e41c6c1a009",
        ports: &ports,
        ..PodConfig::default()
    })?;
    site.serve(&pod, "app", 18_090, 3)?;
    let group = NamedGroup::create(&format!("system.slice/{RED}{TURNED}.service"))?;
    let mut unit = Actor::start(site.node.host())?;
    group.add(unit.pid())?;
    let server = site.outside(9100)?;
    unit.ask(&format!("connect one {server}"))?;

    let runtime = site.runtime();
    let answer = who(&[&runtime])?;
    let is_pod = |holder: &Holder| {
        matches!(holder, Holder::Pod(pod)
            if pod.name.as_deref().is_some_and(|own| name.starts_with(own) && own.len() > 20)
                && pod.namespace.as_deref() == Some("a\r\nb"))
    };
    crate::answer::ensure_entries(answer.holder("the pod", is_pod)?, site.host, 3)?;
    for key in ["holder", "pod", "container", "process"] {
        let text = run(&mut ctkeeper(&["who", &runtime, "--by", key]))?;
        harmless(&text.stdout)?;
        harmless(&text.stderr)?;
        let csv = run(&mut ctkeeper(&["who", &runtime, "--by", key, "--csv", "--exact"]))?;
        ensure!(csv.code == Some(0), "{csv:?}");
        let records = records(&csv.stdout)?;
        let widths: std::collections::BTreeSet<_> = records.iter().map(Vec::len).collect();
        ensure!(widths.len() == 1 && records.len() > 1, "{widths:?}: {csv:?}");
    }
    Ok(())
}

/// Nothing that a terminal obeys, or that turns text around.
fn harmless(text: &str) -> anyhow::Result<()> {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let bad = text.chars().find(|&c| c.is_control() && c != '\n' || turns(c));
    ensure!(bad.is_none(), "{bad:?} in {text:?}");
    let longest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    ensure!(longest < 400, "a line of {longest}: {text}");
    Ok(())
}

/// `--csv` read as RFC 4180 has it.
fn records(text: &str) -> anyhow::Result<Vec<Vec<String>>> {
    let (mut records, mut record, mut field, mut quoted) =
        (Vec::new(), Vec::new(), String::new(), false);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => field.push(rest.next().unwrap_or('"')),
            '"' => quoted = !quoted,
            ',' if !quoted => record.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                record.push(std::mem::take(&mut field));
                records.push(std::mem::take(&mut record));
            }
            '\r' if !quoted => {}
            c => field.push(c),
        }
    }
    ensure!(!quoted && field.is_empty() && record.is_empty(), "not whole: {text:?}");
    Ok(records)
}

/// The same numbers in every form.
pub(crate) fn forms_agree() -> anyhow::Result<()> {
    let namespace = Namespace::create()?;
    fill(&namespace, 0, 3000, Filling::Established { timeout: 400_000 })?;
    fill(&namespace, 3000, 4000, Filling::HalfOpen)?;
    let netns = ["--netns", namespace.name(), "--by", "state"];
    let answer = who(&netns)?;
    let csv = run(ctkeeper(&["who", "--csv", "--exact"]).args(netns))?;
    let records = records(&csv.stdout)?;
    let heads = records.first().context("no heads")?;
    let at = |head: &str| {
        let found = heads.iter().position(|own| own == head);
        found.with_context(|| format!("no column {head}: {heads:?}"))
    };
    let (state, entries) = (at("state")?, at("entries")?);
    for row in &answer.0.rows {
        let Some(Value::State(name)) = row.values.first() else { anyhow::bail!("{row:?}") };
        let own = records.iter().find(|record| record[state] == *name).context("no record")?;
        let same = own[entries].parse::<u64>()? == row.entries.value as u64;
        ensure!(same, "{own:?} and {row:?}");
    }
    ensure!(answer.0.rows.len() == 2, "{answer}");
    let again = answer_of(ctkeeper(&["who", "--json"]).args(netns))?;
    ensure!(
        again.0.rows.len() == 2,
        "a small table is counted exactly without being told: {again}"
    );
    again.ensure_whole(namespace.inode()?)
}

/// Whoever reads has stopped reading: no word, no panic, success.
pub(crate) fn closed_pipe() -> anyhow::Result<()> {
    for form in ["", "--json", "--csv"] {
        let script = format!("(sleep 0.1; \"$0\" who {form} 2>&1) | true; exit ${{PIPESTATUS[0]}}");
        let output = run(Command::new("bash").args(["-c", &script]).arg(ctkeeper_path()))?;
        ensure!(output.code == Some(0), "{form}: {output:?}");
    }
    let wrong = run(&mut ctkeeper(&["who", "--by", "nonsense"]))?;
    ensure!(wrong.code == Some(64) && wrong.stderr.contains("nonsense"), "{wrong:?}");
    Ok(())
}
