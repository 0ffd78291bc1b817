//! Tables with something of everything, and what they look like.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use ctkeeper_flow::{
    Flow, Helper, Labels, Mark, Protocol, ProtocolState, Status, TcpFlags, TcpState, TcpTracking,
    Tuple,
};
use ctkeeper_tests::{Namespace, Output, ctkeeper, run};

/// Entries of every protocol, family and oddity that `conntrack` can make: commands of its
/// `--load-file`.
pub(crate) const EVERYTHING: &str = "\
-I -t 4000 -p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 4000 --dport 80 --state ESTABLISHED -u ASSURED,SEEN_REPLY
-I -t 4000 -p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 4001 --dport 80 --state SYN_SENT
-I -t 4000 -p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 4002 --dport 80 --state SYN_RECV -u SEEN_REPLY
-I -t 4000 -p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 4003 --dport 443 --state TIME_WAIT -u ASSURED,SEEN_REPLY -m 18
-I -t 4000 -p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 4004 --dport 443 --state CLOSE_WAIT -u SEEN_REPLY -m 4294967295
-I -t 4000 -p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 4005 --dport 443 --state LAST_ACK -u SEEN_REPLY
-I -t 4000 -p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 4006 --dport 443 --state CLOSE -u SEEN_REPLY,FIXED_TIMEOUT
-I -t 4000 -p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 4007 --dport 443 --state FIN_WAIT -u SEEN_REPLY
-I -t 4000 -p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 4008 --dport 443 --state SYN_SENT2
-I -t 4000 -p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 4009 --dport 443 --state NONE
-I -t 432000 -p tcp -s fd77:1::2 -d fd77:2::2 --sport 4000 --dport 80 --state ESTABLISHED -u ASSURED,SEEN_REPLY
-I -t 4000 -p udp -s 10.0.0.1 -d 10.0.0.53 --sport 5000 --dport 53
-I -t 4000 -p udp -s 10.0.0.3 -d 10.0.0.53 --sport 5000 --dport 53 -u SEEN_REPLY,ASSURED
-I -t 4000 -p udp -s 10.0.0.4 -d 10.0.0.53 --sport 1 --dport 65535 -u SEEN_REPLY,ASSURED -w 5
-I -t 4000 -p udp -s 10.0.0.4 -d 10.0.0.53 --sport 2 --dport 65535 --orig-zone 7
-I -t 4000 -p udp -s 10.0.0.4 -d 10.0.0.53 --sport 3 --dport 65535 --reply-zone 65535
-I -t 4000 -p udp -s 2001:db8:0:0:1:0:0:1 -d fe80::1:0:0:5 --sport 1 --dport 2 -m 16
-I -t 4000 -p udplite -s 10.0.0.1 -d 10.0.0.2 --sport 61 --dport 62
-I -t 4000 -p sctp -s 10.0.0.1 -d 10.0.0.2 --sport 4 --dport 5 --state ESTABLISHED --orig-vtag 1 --reply-vtag 2 -u ASSURED,SEEN_REPLY
-I -t 4000 -p sctp -s 10.0.0.1 -d 10.0.0.2 --sport 6 --dport 5 --state COOKIE_WAIT --orig-vtag 1 --reply-vtag 2
-I -t 4000 -p dccp -s 10.0.0.1 -d 10.0.0.2 --sport 6 --dport 5 --state OPEN --role client
-I -t 4000 -p icmp -s 10.0.0.1 -d 10.0.0.2 --icmp-type 8 --icmp-code 0 --icmp-id 77
-I -t 4000 -p icmp -s 10.0.0.1 -d 10.0.0.2 --icmp-type 13 --icmp-code 0 --icmp-id 65535 -u SEEN_REPLY
-I -t 4000 -p icmpv6 -s fd77:1::2 -d fd77:2::2 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 322
-I -t 4000 -p gre -s 10.0.0.1 -d 10.0.0.2 --srckey 0x4 --dstkey 0xabcd
-I -t 4000 -p 200 -s 10.0.0.1 -d 10.0.0.2
-I -t 4000 -p 50 -s fd77:1::2 -d fd77:2::2 -u SEEN_REPLY
-I -t 4000 -p tcp -s 10.0.0.9 -d 10.0.0.2 --sport 9 --dport 80 --state ESTABLISHED -g 192.0.2.7:8080 -u SEEN_REPLY
-I -t 4000 -p tcp -s 10.0.0.9 -d 10.0.0.2 --sport 10 --dport 80 --state ESTABLISHED -n 192.0.2.8 -u SEEN_REPLY
-I -t 4000 -p tcp -s 10.0.0.9 -d 10.0.0.2 --sport 11 --dport 80 --state ESTABLISHED -n 192.0.2.8:61000 -g 192.0.2.7:8081 -u SEEN_REPLY -m 3
-I -t 4000 -p udp -s 10.0.0.9 -d 10.0.0.2 --sport 12 --dport 53 -g 192.0.2.7 -w 9
-I -t 4000 -p udp -s fd00::9 -d fd00::2 --sport 13 --dport 53 -g [fd00::7]:5353 -n [fd00::8]:60000
-I -t 4000 -p icmp -s 10.0.0.9 -d 10.0.0.2 --icmp-type 8 --icmp-code 0 --icmp-id 14 -n 192.0.2.8
";

/// A rule that makes labels stick.
pub(crate) const LABELLING: &str = "table inet labelling {\nchain out {\n\
                                    type filter hook output priority 0;\nct label set 3\n}\n}\n";

/// A namespace with an entry of each kind, and those that only netlink can make.
pub(crate) fn table_of_everything() -> anyhow::Result<Namespace> {
    let namespace = Namespace::create()?;
    namespace.nft(LABELLING)?;
    load(&namespace, EVERYTHING)?;
    let mut table = namespace.conntrack()?;
    let others = special();
    for flow in &others {
        table.create(flow)?;
    }
    let made = table.count_and_limit()?.entries as usize;
    ensure!(made == EVERYTHING.lines().count() + others.len(), "{made} entries were made");
    Ok(namespace)
}

/// TCP with window scales, labels, a helper with a child.
fn special() -> [Flow; 3] {
    let end = |last, port| ([10, 1, 0, last].into(), port);
    let tcp = |source, destination, window_scale| {
        let original = Tuple::with_ports(Protocol::TCP, source, destination);
        let flags = |flags| TcpFlags { flags, mask: 0 };
        let tracking = TcpTracking {
            state: TcpState::Established,
            window_scale: Some(window_scale),
            flags: Some((flags(35), flags(3))),
        };
        Flow {
            original,
            reply: original.inverted().unwrap_or(original),
            status: Status::CONFIRMED | Status::SEEN_REPLY | Status::ASSURED,
            state: ProtocolState::Tcp(tracking),
            timeout: Some(5000),
            mark: Some(Mark(77)),
            ..Flow::default()
        }
    };
    let scaled = Flow {
        labels: Some(Labels::from_bits([0, 7, 127])),
        ..tcp(end(1, 1000), end(2, 80), (7, 9))
    };
    let helper = Some(Box::new(Helper { name: "ftp".into(), info: Box::default() }));
    let master = Flow { helper, ..tcp(end(1, 1001), end(2, 21), (2, 3)) };
    let child = Flow {
        master: Some(Box::new(master.original)),
        ..tcp(end(1, 1002), end(2, 50_000), (0, 14))
    };
    [scaled, master, child]
}

/// Runs commands of `conntrack --load-file`.
pub(crate) fn load(namespace: &Namespace, commands: &str) -> anyhow::Result<()> {
    let mut command = namespace.command("conntrack");
    command.args(["-R", "-"]);
    let Output { code, stderr, .. } = fed(&mut command, commands)?;
    ensure!(code == Some(0), "conntrack refused: {stderr}");
    Ok(())
}

/// Runs a command with some input.
pub(crate) fn fed(command: &mut Command, input: &str) -> anyhow::Result<Output> {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output()?;
    // Whoever refuses a line need not read the rest.
    let _ = writer.join();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    Ok(Output { code: output.status.code(), stdout, stderr })
}

/// `ctkeeper ARGUMENTS --netns NAMESPACE`.
pub(crate) fn in_namespace(namespace: &Namespace, arguments: &[&str]) -> Command {
    let mut command = ctkeeper(arguments);
    command.args(["--netns", namespace.name()]);
    command
}

/// What ctkeeper says and how it ends, in a namespace.
pub(crate) fn tell(namespace: &Namespace, arguments: &[&str]) -> anyhow::Result<Output> {
    run(&mut in_namespace(namespace, arguments))
}

/// The standard output of a ctkeeper that ends well.
pub(crate) fn output(namespace: &Namespace, arguments: &[&str]) -> anyhow::Result<String> {
    let Output { code, stdout, stderr } = tell(namespace, arguments)?;
    ensure!(code == Some(0), "{arguments:?}: {code:?}: {stdout}{stderr}");
    Ok(stdout)
}

/// An object that ctkeeper prints, whatever its exit code.
pub(crate) fn object(
    namespace: &Namespace,
    arguments: &[&str],
) -> anyhow::Result<(Option<i32>, serde_json::Value)> {
    let Output { code, stdout, stderr } = tell(namespace, arguments)?;
    let value = serde_json::from_str(&stdout)
        .with_context(|| format!("{arguments:?}: {stdout}{stderr}"))?;
    Ok((code, value))
}

/// The table, sorted, without what differs from one time to the next.
pub(crate) fn picture(namespace: &Namespace) -> anyhow::Result<Vec<String>> {
    let mut entries = Vec::new();
    for line in output(namespace, &["list", "-o", "json"])?.lines() {
        let mut entry: serde_json::Value = serde_json::from_str(line)?;
        let object = entry.as_object_mut().context("an object")?;
        for key in ["timeout", "id", "use"] {
            object.remove(key);
        }
        entries.push(entry.to_string());
    }
    entries.sort();
    Ok(entries)
}

/// Compares two pictures, naming what differs.
pub(crate) fn ensure_same(before: &[String], after: &[String]) -> anyhow::Result<()> {
    let lost: Vec<_> = before.iter().filter(|entry| !after.contains(entry)).collect();
    let new: Vec<_> = after.iter().filter(|entry| !before.contains(entry)).collect();
    ensure!(before == after, "lost: {lost:#?}\nnew: {new:#?}");
    Ok(())
}

/// How many entries a namespace has, or a filter means.
pub(crate) fn count(namespace: &Namespace, filter: &str) -> anyhow::Result<usize> {
    Ok(output(namespace, &["count", "--exact", filter])?.trim().parse()?)
}
