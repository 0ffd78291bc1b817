//! Tables with something of everything in them.

use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use ctkeeper_netlink::netns;
use ctkeeper_tests::{Namespace, Output, ctkeeper, run};

/// Entries of every protocol, family and oddity that `conntrack` can make: commands of its
/// `--load-file`.
const EVERYTHING: &str = "\
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
-I -t 4000 -p udp -s 10.0.0.3 -d 10.0.0.53 --sport 5000 --dport 53 -u SEEN_REPLY
-I -t 4000 -p udp -s 10.0.0.4 -d 10.0.0.53 --sport 1 --dport 65535 -u SEEN_REPLY,ASSURED -w 5
-I -t 4000 -p udp -s 10.0.0.4 -d 10.0.0.53 --sport 2 --dport 65535 --orig-zone 7
-I -t 4000 -p udp -s 10.0.0.4 -d 10.0.0.53 --sport 3 --dport 65535 --reply-zone 65535
-I -t 4000 -p udp -s ::1.2.3.4 -d ::ffff:1.2.3.4 --sport 1 --dport 2
-I -t 4000 -p udp -s ::1 -d :: --sport 1 --dport 2
-I -t 4000 -p udp -s 2001:db8:0:0:1:0:0:1 -d fe80::1:0:0:5 --sport 1 --dport 2 -m 16
-I -t 4000 -p udp -s 1:0:2:0:3:0:4:0 -d 0:0:0:1:: --sport 1 --dport 2
-I -t 4000 -p udplite -s 10.0.0.1 -d 10.0.0.2 --sport 61 --dport 62
-I -t 4000 -p sctp -s 10.0.0.1 -d 10.0.0.2 --sport 4 --dport 5 --state ESTABLISHED --orig-vtag 1 --reply-vtag 2 -u ASSURED,SEEN_REPLY
-I -t 4000 -p sctp -s 10.0.0.1 -d 10.0.0.2 --sport 5 --dport 5 --state SHUTDOWN_ACK_SENT --orig-vtag 1 --reply-vtag 2
-I -t 4000 -p sctp -s 10.0.0.1 -d 10.0.0.2 --sport 6 --dport 5 --state COOKIE_WAIT --orig-vtag 1 --reply-vtag 2
-I -t 4000 -p dccp -s 10.0.0.1 -d 10.0.0.2 --sport 6 --dport 5 --state OPEN --role client
-I -t 4000 -p icmp -s 10.0.0.1 -d 10.0.0.2 --icmp-type 8 --icmp-code 0 --icmp-id 77
-I -t 4000 -p icmp -s 10.0.0.1 -d 10.0.0.2 --icmp-type 13 --icmp-code 0 --icmp-id 65535 -u SEEN_REPLY
-I -t 4000 -p icmpv6 -s fd77:1::2 -d fd77:2::2 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 322
-I -t 4000 -p gre -s 10.0.0.1 -d 10.0.0.2 --srckey 0x4 --dstkey 0xabcd
-I -t 4000 -p 200 -s 10.0.0.1 -d 10.0.0.2
-I -t 4000 -p 50 -s fd77:1::2 -d fd77:2::2 -u SEEN_REPLY
-I -t 4000 -p 2 -s 10.0.0.1 -d 224.0.0.22
-I -t 4000 -p tcp -s 10.0.0.9 -d 10.0.0.2 --sport 9 --dport 80 --state ESTABLISHED -g 192.0.2.7:8080 -u SEEN_REPLY
-I -t 4000 -p tcp -s 10.0.0.9 -d 10.0.0.2 --sport 10 --dport 80 --state ESTABLISHED -n 192.0.2.8 -u SEEN_REPLY
";

/// A namespace with an entry of each kind; `counted` and `stamped` turn counters and times on.
pub(crate) fn table_of_everything(counted: bool, stamped: bool) -> anyhow::Result<Namespace> {
    let namespace = Namespace::create()?;
    for (name, on) in [("acct", counted), ("timestamp", stamped)] {
        let setting = format!("net.netfilter.nf_conntrack_{name}={}", u8::from(on));
        namespace.run("sysctl", &["-qw", &setting])?;
    }
    load(&namespace, EVERYTHING)?;
    let made = namespace.run("conntrack", &["-C"])?;
    ensure!(made.trim() == EVERYTHING.lines().count().to_string(), "{made} entries were made");
    Ok(namespace)
}

/// Runs commands of `conntrack --load-file`.
pub(crate) fn load(namespace: &Namespace, commands: &str) -> anyhow::Result<()> {
    let mut command = namespace.command("conntrack");
    let mut child = command.args(["-R", "-"]).stdin(Stdio::piped()).spawn()?;
    child.stdin.take().context("no standard input")?.write_all(commands.as_bytes())?;
    ensure!(child.wait()?.success(), "conntrack refused these commands:\n{commands}");
    Ok(())
}

/// Connections that are open, and their sockets.
pub(crate) type Sockets = (Vec<TcpStream>, Vec<TcpListener>, Vec<UdpSocket>);

/// A namespace with real connections over the loopback: plain and translated TCP and UDP of both
/// families, with a label and a mark.
pub(crate) fn traffic() -> anyhow::Result<(Namespace, Sockets)> {
    let namespace = Namespace::create()?;
    for host in [1, 2, 3, 4, 9] {
        namespace.run("ip", &["addr", "add", &format!("10.5.0.{host}/32"), "dev", "lo"])?;
    }
    namespace.track()?;
    namespace.nft(
        "table ip nat {\n\
         chain out {\ntype nat hook output priority -100;\n\
         ip daddr 10.5.0.9 tcp dport 81 dnat to 10.5.0.2:8080\n}\n\
         chain post {\ntype nat hook postrouting priority 100;\n\
         ip daddr 10.5.0.3 udp dport 99 snat to 10.5.0.4\n}\n}\n\
         table inet marks {\n\
         chain out {\ntype filter hook output priority 10;\n\
         tcp dport 8080 ct mark set 0x2a\nct label set 3\n}\n}\n",
    )?;
    let handle = netns::Namespace::open(&netns::NamespaceSelector::Path(namespace.path()))?;
    let sockets = netns::enter(&handle, |_| open_sockets())??;
    Ok((namespace, sockets))
}

fn open_sockets() -> anyhow::Result<Sockets> {
    let mut listeners = vec![TcpListener::bind("10.5.0.2:8080")?, TcpListener::bind("[::1]:8080")?];
    let mut streams = Vec::new();
    for target in ["10.5.0.9:81", "10.5.0.2:8080", "[::1]:8080"] {
        let mut stream = TcpStream::connect(target).with_context(|| target.to_owned())?;
        stream.write_all(b"hello")?;
        streams.push(stream);
    }
    // One that is refused, one that is closed again.
    let _ = TcpStream::connect("10.5.0.2:9");
    drop(TcpStream::connect("10.5.0.2:8080")?);
    let (server, client) = (UdpSocket::bind("10.5.0.3:99")?, UdpSocket::bind("10.5.0.1:7777")?);
    client.send_to(b"ping", "10.5.0.3:99")?;
    let mut buffer = [0; 16];
    let (_, from) = server.recv_from(&mut buffer)?;
    server.send_to(b"pong", from)?;
    client.recv_from(&mut buffer)?;
    for listener in &mut listeners {
        listener.set_nonblocking(true)?;
        while let Ok((stream, _)) = listener.accept() {
            streams.push(stream);
        }
    }
    Ok((streams, listeners, vec![server, client]))
}

/// `ctkeeper ARGUMENTS --netns NAMESPACE`.
pub(crate) fn in_namespace(namespace: &Namespace, arguments: &[&str]) -> Command {
    let mut command = ctkeeper(arguments);
    command.args(["--netns", namespace.name()]);
    command
}

/// The lines that a successful ctkeeper prints, looking into a namespace.
pub(crate) fn lines(namespace: &Namespace, arguments: &[&str]) -> anyhow::Result<Vec<String>> {
    let Output { code, stdout, stderr } = run(&mut in_namespace(namespace, arguments))?;
    ensure!(code == Some(0), "{arguments:?}: {code:?}: {stderr}");
    Ok(stdout.lines().map(str::to_owned).collect())
}
