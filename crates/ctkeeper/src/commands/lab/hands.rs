//! What the lab asks of the rest of ctkeeper: doctor's verdict, and the real fix.

use std::fs;

use anyhow::{Context, ensure};
use ctkeeper_diagnosis::{Scope, Severity, Thresholds, Verdict, diagnose};
use ctkeeper_flow::units::count;
use ctkeeper_lab::scenario::{CallerError, Finding, FixSpec, JudgeSpec, Judgement};
use ctkeeper_lab::{Namespace, bound_command, require};
use ctkeeper_netlink::netns::NamespaceSelector;
use ctkeeper_observe::{Observer, Options, Selection};

const LIMIT: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
const BUCKETS: &str = "/proc/sys/net/netfilter/nf_conntrack_buckets";

/// Looks as `ctkeeper doctor --netns NAME --window TIME --no-note` does (without `--netns` where the
/// whole host is asked for), and judges. What concerns other namespaces is left out.
pub(super) fn judge(namespace: &Namespace, spec: &JudgeSpec) -> Result<Judgement, CallerError> {
    let name = NamespaceSelector::Name(namespace.name().to_owned());
    let options = Options {
        namespaces: if spec.whole_host { Selection::All } else { Selection::One(name) },
        window: Some(spec.window),
        note: None,
        ..Options::default()
    };
    let report = diagnose(&Observer::new(options).snapshot()?, &Thresholds::default());
    let inode = namespace.inode()?;
    let concerns = |finding: &ctkeeper_diagnosis::Finding| match finding.scope {
        Scope::Host => true,
        Scope::Namespace { inode: other, .. } => other == inode,
    };
    let kept: Vec<_> = report.findings.into_iter().filter(concerns).collect();
    let exit_code = if spec.whole_host { exit_code(&kept) } else { report.exit_code };
    let found = |finding: ctkeeper_diagnosis::Finding| Finding {
        id: finding.id.to_owned(),
        severity: finding.severity.to_string().to_lowercase(),
        summary: finding.summary,
    };
    let findings = kept.into_iter().map(found).collect();
    Ok(Judgement { exit_code, findings, ..Judgement::default() })
}

/// What doctor's exit code would be if it had found nothing else.
fn exit_code(findings: &[ctkeeper_diagnosis::Finding]) -> u8 {
    let verdict = match findings.iter().map(|finding| finding.severity).max() {
        Some(Severity::Critical) => Verdict::Critical,
        Some(Severity::Unknown) => Verdict::Unknown,
        Some(Severity::Warning) => Verdict::Warning,
        Some(Severity::Note) | None => Verdict::Ok,
    };
    verdict.exit_code()
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
    let mut command = bound_command("unshare");
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
