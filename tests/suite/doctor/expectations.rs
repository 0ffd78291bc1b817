//! Expectations, filled by FTP sessions that each announce a data connection and never open it.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use ctkeeper_flow::Statistic;
use ctkeeper_netlink::{Conntrack, netns};
use ctkeeper_tests::{Namespace, doctor};

const CONTROL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 21);
const OTHER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 2200);

/// Sessions whose ports are told apart: beyond, an announcement would be that of an earlier one.
const PORTS: u16 = 10_000;

/// A namespace in which port 21 is FTP to the kernel, with a server there and one at another port.
struct Site {
    namespace: Namespace,
    handle: netns::Namespace,
}

impl Site {
    fn build() -> anyhow::Result<Self> {
        let namespace = Namespace::create()?;
        namespace.nft(
            "table ip ftp {\n ct helper ftp { type \"ftp\" protocol tcp; }\n\
             chain out { type filter hook output priority 0; tcp dport 21 ct helper set \"ftp\"; }\n}\n",
        )?;
        let handle = netns::Namespace::open(&namespace.name().parse()?)?;
        // The servers' threads wait in accept until the test's process ends.
        for at in [CONTROL, OTHER] {
            let listener = netns::enter(&handle, |_| TcpListener::bind(at))??;
            thread::spawn(move || serve(&listener));
        }
        Ok(Self { namespace, handle })
    }

    /// A session that stays open.
    fn session(&self, to: SocketAddr) -> anyhow::Result<Session> {
        let stream = netns::enter(&self.handle, |_| TcpStream::connect(to))??;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut session = Session(BufReader::new(stream));
        session.answer()?;
        Ok(session)
    }

    /// Sessions, one after the other, that each announce a data connection and end, until so many
    /// are expected. (Some are forgotten with their master, when another session gets its port.)
    fn announce(&self, expected: u64) -> anyhow::Result<()> {
        for _ in 0..20 {
            let missing = expected.saturating_sub(self.expected()?);
            if missing == 0 {
                return Ok(());
            }
            (0..missing).try_for_each(|_| self.session(CONTROL)?.ask("PASV").map(drop))?;
        }
        anyhow::bail!("{} of {expected} are expected", self.expected()?)
    }

    fn expected(&self) -> anyhow::Result<u64> {
        let mut table = Conntrack::open_in(&self.handle)?;
        Ok(u64::from(table.expectation_count()?))
    }
}

struct Session(BufReader<TcpStream>);

impl Session {
    fn ask(&mut self, command: &str) -> anyhow::Result<String> {
        write!(self.0.get_mut(), "{command}\r\n")?;
        self.answer()
    }

    fn answer(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        ensure!(self.0.read_line(&mut line)? > 0, "the server hung up");
        Ok(line)
    }
}

/// As much of an FTP server as a helper looks at. Serves one session at a time and, in order not to
/// hold the test up, goes on when one does not end by itself.
fn serve(listener: &TcpListener) {
    for (number, stream) in (0_u16..).zip(listener.incoming()) {
        let Ok(stream) = stream else { continue };
        thread::spawn(move || answer(&stream, 20_000 + number % PORTS));
    }
}

fn answer(mut stream: &TcpStream, port: u16) -> std::io::Result<()> {
    stream.write_all(b"220 ready\r\n")?;
    let lines = BufReader::new(stream.try_clone()?).lines();
    for line in lines {
        let text = match line?.as_str() {
            "PASV" => {
                format!("227 Entering Passive Mode (127,0,0,1,{},{})\r\n", port >> 8, port & 255)
            }
            _ => "200 fine\r\n".to_owned(),
        };
        stream.write_all(text.as_bytes())?;
    }
    Ok(())
}

pub(crate) fn expectations_full() -> anyhow::Result<()> {
    let site = Site::build()?;
    let limit = site.namespace.run("cat", &["/proc/sys/net/netfilter/nf_conntrack_expect_max"])?;
    let limit: u64 = limit.trim().parse()?;
    ensure!(limit <= u64::from(PORTS), "a limit of {limit} takes too many sessions");
    let look = || doctor(&["--netns", site.namespace.name()]);

    // Healthy neighbour: sessions that announce connections, with room for them.
    site.announce(limit / 2)?;
    look()?.ensure_only(&[])?;
    site.announce(limit * 85 / 100)?;
    look()?.ensure("expectations-full", "warning")?;

    // Whoever hangs later connects now: a new session may get the port of an old one, which frees a
    // place.
    let mut hanging = site.session(CONTROL)?;
    hanging.ask("NOOP")?;
    site.announce(limit)?;
    let report = look()?;
    report.ensure("expectations-full", "critical")?;
    report.ensure_only(&["expectations-full"])?;

    // What users see: the session hangs where it announces, others work, no counter moves.
    let refused = hanging.ask("PASV");
    ensure!(refused.is_err(), "PASV was answered: {refused:?}");
    ensure!(site.session(OTHER)?.ask("PASV")?.starts_with("227"), "another port is refused too");
    let mut table = Conntrack::open_in(&site.handle)?;
    let refused = [Statistic::Drop, Statistic::InsertFailed, Statistic::EarlyDrop];
    let cpus = table.statistics()?;
    let moved = cpus.iter().any(|cpu| refused.iter().any(|counter| cpu.value(*counter) > 0));
    ensure!(!moved, "a counter moves: {cpus:?}");
    // The remedy: room. The server's packet is sent again until it passes.
    table.flush_expectations()?;
    ensure!(hanging.answer().context("after the remedy")?.starts_with("227"));
    look()?.ensure_only(&[])
}
