//! A plan written down for hosts that are managed elsewhere.

use std::fmt::Write;

use crate::plan::{
    MODPROBE_FILE, MODULE, MODULES_LOAD_FILE, Plan, SYSCTL_FILE, module_option_text, sysctl_text,
};
use ctkeeper_flow::hostile::masked;

/// For whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The sysctl.d file; the other two files stand in it as comments.
    Sysctl,
    /// A `#cloud-config` part.
    CloudInit,
    /// An Ansible playbook.
    Ansible,
    /// A fragment of kube-proxy's configuration.
    KubeProxy,
}

/// The plan's limits in a format. The text is complete: it does not depend on what the host that
/// it was made on has in its files.
pub fn emit(plan: &Plan, format: Format) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = match format {
        Format::Sysctl => sysctl(&mut text, plan),
        Format::CloudInit => cloud_init(&mut text, plan),
        Format::Ansible => ansible(&mut text, plan),
        Format::KubeProxy => kube_proxy(&mut text, plan),
    };
    text
}

fn header(out: &mut String, plan: &Plan) -> std::fmt::Result {
    writeln!(out, "# Made by ctkeeper {}.", env!("CARGO_PKG_VERSION"))?;
    if let Some(part) = &plan.partial_view {
        writeln!(out, "# WARNING: the size was chosen from a partial view: {}.", masked(part))?;
        writeln!(out, "# Make this anew as root on the host, or name a limit (--target N).")?;
    }
    for reason in plan.why.iter().filter(|reason| reason.about != crate::plan::About::Files) {
        writeln!(out, "# {}: {}", reason.about, masked(&reason.text))?;
    }
    Ok(())
}

/// What the files cannot see to by themselves.
const ELSEWHERE: &str = "# A line for these in /etc/sysctl.conf would win under `sysctl --system`: \
                         remove it there.";

/// The three files and their lines.
fn files(plan: &Plan) -> [(&'static str, Vec<String>); 3] {
    [
        (MODULES_LOAD_FILE, vec![MODULE.to_owned()]),
        (MODPROBE_FILE, vec![module_option_text(plan.after)]),
        (SYSCTL_FILE, sysctl_text(plan.after).into()),
    ]
}

/// What makes the files true without a reboot. Buckets come before the limit.
fn commands() -> [String; 2] {
    [format!("modprobe -q {MODULE} || true"), format!("sysctl -p {SYSCTL_FILE}")]
}

fn sysctl(out: &mut String, plan: &Plan) -> std::fmt::Result {
    header(out, plan)?;
    writeln!(out, "{ELSEWHERE}")?;
    writeln!(out, "# This is {SYSCTL_FILE}. It is lost at boot unless the module comes first:")?;
    for (path, lines) in files(plan).iter().filter(|(path, _)| *path != SYSCTL_FILE) {
        lines.iter().try_for_each(|line| writeln!(out, "#   {path}: {line}"))?;
    }
    sysctl_text(plan.after).iter().try_for_each(|line| writeln!(out, "{line}"))
}

fn cloud_init(out: &mut String, plan: &Plan) -> std::fmt::Result {
    writeln!(out, "#cloud-config")?;
    header(out, plan)?;
    writeln!(out, "{ELSEWHERE}\nwrite_files:")?;
    for (path, lines) in files(plan) {
        writeln!(out, "  - path: {path}\n    permissions: '0644'\n    content: |")?;
        lines.iter().try_for_each(|line| writeln!(out, "      {line}"))?;
    }
    writeln!(out, "runcmd:")?;
    commands().iter().try_for_each(|command| writeln!(out, "  - {command}"))
}

fn ansible(out: &mut String, plan: &Plan) -> std::fmt::Result {
    header(out, plan)?;
    writeln!(out, "{ELSEWHERE}")?;
    writeln!(out, "- name: Size connection tracking\n  hosts: all\n  become: true\n  tasks:")?;
    for (path, lines) in files(plan) {
        writeln!(
            out,
            "    - name: Write {path}\n      ansible.builtin.copy:\n        dest: {path}"
        )?;
        writeln!(out, "        owner: root\n        group: root\n        mode: '0644'")?;
        writeln!(out, "        content: |")?;
        lines.iter().try_for_each(|line| writeln!(out, "          {line}"))?;
        writeln!(out, "      notify: Apply connection tracking limits")?;
    }
    writeln!(out, "  handlers:\n    - name: Apply connection tracking limits")?;
    let [load, apply] = commands();
    writeln!(out, "      ansible.builtin.shell: {load}; {apply}")
}

/// kube-proxy's rules are those of `pkg/proxy/conntrack/sysctls.go`, Kubernetes 1.36: with
/// `maxPerCore` above 0 it sets the limit to `maxPerCore` times CPUs, or to `min` if that is more;
/// a product above 1,048,576 is cut to that, also below `min`. With 0 it leaves the limit alone and
/// ignores `min`. It raises buckets to a quarter of the limit, no further.
fn kube_proxy(out: &mut String, plan: &Plan) -> std::fmt::Result {
    header(out, plan)?;
    let limit = plan.after.limit.0;
    writeln!(
        out,
        "# kube-proxy writes nf_conntrack_max whenever it starts, and lowers it as well.\n\
         # maxPerCore 1 with this min gives {limit} on every node with fewer CPUs than that.\n\
         # (maxPerCore times CPUs above 1048576 would be cut to 1048576, whatever min says.)\n\
         # kube-proxy makes only a quarter as many buckets: give the nodes {} with\n\
         # `ctkeeper fix --emit sysctl`, cloud-init or ansible.\n\
         # Or let the nodes' files rule alone: maxPerCore: 0, which leaves the limit as it is\n\
         # and ignores min.",
        plan.after.buckets
    )?;
    writeln!(out, "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration")?;
    writeln!(out, "conntrack:\n  maxPerCore: 1\n  min: {limit}")
}
