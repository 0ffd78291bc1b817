//! What the lab asks of the rest of ctkeeper: doctor's verdict, and the real fix.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use ctkeeper_diagnosis::{Thresholds, diagnose};
use ctkeeper_flow::units::count;
use ctkeeper_lab::scenario::{CallerError, Finding, FixSpec, Judgement};
use ctkeeper_lab::{Namespace, require};
use ctkeeper_netlink::netns::NamespaceSelector;
use ctkeeper_observe::{Observer, Options, Selection};

const LIMIT: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
const BUCKETS: &str = "/proc/sys/net/netfilter/nf_conntrack_buckets";

/// Looks as `ctkeeper doctor --netns NAME --window TIME --no-note` does, and judges.
pub(super) fn judge(namespace: &Namespace, window: Duration) -> Result<Judgement, CallerError> {
    let name = NamespaceSelector::Name(namespace.name().to_owned());
    let options = Options {
        namespaces: Selection::One(name),
        window: Some(window),
        note: None,
        ..Options::default()
    };
    let report = diagnose(&Observer::new(options).snapshot()?, &Thresholds::default());
    let found = |finding: ctkeeper_diagnosis::Finding| Finding {
        id: finding.id.to_owned(),
        severity: finding.severity.to_string().to_lowercase(),
        summary: finding.summary,
    };
    Ok(Judgement {
        exit_code: report.exit_code,
        findings: report.findings.into_iter().map(found).collect(),
        ..Judgement::default()
    })
}

/// Raises the host's limit by the real `ctkeeper fix --yes --no-persist`, in a mount namespace with
/// an empty /var/lib: the host's own journal of changes knows nothing of the lab, which puts the
/// values back from its own note.
pub(super) fn fix(spec: FixSpec) -> Result<String, CallerError> {
    super::boxed(raise(spec))
}

fn raise(spec: FixSpec) -> anyhow::Result<String> {
    require("unshare")?;
    let before = values()?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c"]);
    command.arg("mount -t tmpfs ctkeeper-lab /var/lib && exec \"$0\" \"$@\"");
    command.arg(std::env::current_exe().context("finding this program")?);
    command.args(["fix", "--yes", "--no-persist"]);
    if let Some(target) = spec.target {
        command.args(["--target", &target.to_string()]);
    }
    let output = command.output().context("running ctkeeper fix")?;
    let said = [output.stderr, output.stdout].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(output.status.success(), "ctkeeper fix: {}: {}", output.status, said.trim());
    let after = values()?;
    Ok(format!(
        "ctkeeper fix --yes --no-persist: limit {} → {}, buckets {} → {}",
        count(before.0),
        count(after.0),
        count(before.1),
        count(after.1)
    ))
}

fn values() -> anyhow::Result<(u64, u64)> {
    let number = |file: &str| -> anyhow::Result<u64> {
        Ok(fs::read_to_string(file).context(file.to_owned())?.trim().parse()?)
    };
    Ok((number(LIMIT)?, number(BUCKETS)?))
}
