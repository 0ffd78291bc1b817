//! A program that opens, uses and loses sockets as it is told: this test's own binary, started
//! again, in whatever namespace, control group or container a test puts it.
//!
//! It reads a line, does what it says, and answers with a line: `ok` and what there is to say, or
//! `no` and why. `hold` opens connections without being told any more.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use ctkeeper_lab::bound_command;
use ctkeeper_tests::Namespace;
use nix::sys::socket::{setsockopt, sockopt};
use rustix::net::{AddressFamily, SocketType, ipproto};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The first argument that makes this binary the program.
const PART: &str = "play-a-part";

/// An answer may take so long; longer than what it may wait for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Plays the part that the arguments ask for, if they do.
pub(crate) fn play() -> Option<ExitCode> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    let played = match words.as_slice() {
        [PART] => obey(),
        [PART, "hold", count, server] => hold(count, server),
        [PART, "serve", address] => serve(address),
        _ => return None,
    };
    Some(match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    })
}

/// Where the host that runs the test has this binary's libraries, and where a container needs them.
pub(crate) const LIBRARIES: [(&str, &str); 3] =
    [("/usr/lib", "/usr/lib"), ("/usr/lib", "/lib"), ("/usr/lib64", "/lib64")];

/// The words that make this binary open so many connections to a server and keep them.
pub(crate) fn holding(count: u64, server: &str) -> [String; 4] {
    [PART.to_owned(), "hold".to_owned(), count.to_string(), server.to_owned()]
}

/// The words that make this binary accept connections and keep them.
pub(crate) fn serving(address: &str) -> [String; 3] {
    [PART.to_owned(), "serve".to_owned(), address.to_owned()]
}

/// The program, at the other end of two pipes. It ends with its guard.
#[derive(Debug)]
pub(crate) struct Actor {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Actor {
    /// Starts it in a namespace.
    pub(crate) fn start(namespace: &Namespace) -> anyhow::Result<Self> {
        Self::with(namespace.command("setpriv"))
    }

    /// Starts it by a command that goes on with `setpriv`.
    pub(crate) fn with(mut command: Command) -> anyhow::Result<Self> {
        command.args(["--pdeathsig", "KILL", "--"]).arg(std::env::current_exe()?).arg(PART);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let input = child.stdin.take().context("its input")?;
        let output = BufReader::new(child.stdout.take().context("its output")?);
        let mut actor = Self { child, input, output };
        actor.ask("here")?;
        Ok(actor)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells it something; what it has to say comes back.
    pub(crate) fn ask(&mut self, line: &str) -> anyhow::Result<String> {
        writeln!(self.input, "{line}").context("telling an actor")?;
        let mut answer = String::new();
        self.output.read_line(&mut answer).context("hearing an actor")?;
        let said = answer.trim_end().strip_prefix("ok").map(|said| said.trim().to_owned());
        said.with_context(|| format!("`{line}`: {answer}"))
    }

    /// Ends it by SIGKILL.
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop).context("waiting for an actor")
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // Not yet waited for, so the number is still its own.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn obey() -> anyhow::Result<()> {
    raise_descriptor_limit()?;
    let mut sockets = Sockets::default();
    for line in std::io::stdin().lock().lines() {
        let answer = match sockets.obey(&line?) {
            Ok(said) => format!("ok {said}"),
            Err(error) => format!("no {error:#}").replace('\n', " "),
        };
        writeln!(std::io::stdout(), "{answer}")?;
    }
    Ok(())
}

#[derive(Default)]
struct Sockets {
    listening: HashMap<String, TcpListener>,
    streams: HashMap<String, TcpStream>,
    datagrams: HashMap<String, UdpSocket>,
    handed: Vec<Handed>,
    noted: HashMap<String, SocketAddr>,
    others: HashMap<String, OwnedFd>,
}

/// Another process that has a socket now.
struct Handed(Child);

impl Drop for Handed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Sockets {
    fn obey(&mut self, line: &str) -> anyhow::Result<String> {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            ["here"] => Ok(std::process::id().to_string()),
            ["listen", name, address] => self.listen(name, address),
            ["connect", name, address] => {
                self.keep(name, TcpStream::connect_timeout(&address.parse()?, PATIENCE)?)
            }
            ["begin", name, address] => self.begin(name, address.parse()?, None),
            ["multipath", name, address] => {
                self.begin(name, address.parse()?, Some(ipproto::MPTCP))
            }
            ["accept", name, listener] => {
                let listener = self.listening.get(*listener).context("no listener")?;
                let stream = listener.accept()?.0;
                self.keep(name, stream)
            }
            ["udp", name, address] => self.bind(name, address.parse()?),
            ["packet", name] => self.other(name, AddressFamily::PACKET, None),
            ["raw", name] => self.other(name, AddressFamily::INET, Some(ipproto::UDP)),
            ["join", name, address] => {
                self.datagram(name)?.connect(address.parse::<SocketAddr>()?)?;
                Ok(String::new())
            }
            ["send", name, address] => {
                self.datagram(name)?.send_to(b"datagram", address.parse::<SocketAddr>()?)?;
                Ok(String::new())
            }
            ["hear", name] => {
                let (_, from) = self.datagram(name)?.recv_from(&mut [0; 64])?;
                Ok(from.to_string())
            }
            ["write", name] => {
                self.stream(name)?.write_all(b"x")?;
                Ok(String::new())
            }
            ["read", name] => {
                let length = self.stream(name)?.read(&mut [0; 64])?;
                Ok(length.to_string())
            }
            ["shutdown", name] => {
                self.stream(name)?.shutdown(std::net::Shutdown::Write)?;
                Ok(String::new())
            }
            ["where", name] => Ok(self.stream(name)?.local_addr()?.to_string()),
            ["note", name, own] => Ok(self.note(name, own.parse()?)),
            ["again", name, server] => self.connect_again(name, server.parse()?),
            ["udp-again", name] => self.bind(name, *self.noted.get(*name).context("not noted")?),
            ["close", name] => self.close(name),
            ["vanish", name] => self.vanish(name),
            ["hand", name] => self.hand(name),
            _ => bail!("not understood"),
        }
    }

    fn listen(&mut self, name: &str, address: &str) -> anyhow::Result<String> {
        let listener = TcpListener::bind(address.parse::<SocketAddr>()?)?;
        let own = listener.local_addr()?;
        self.listening.insert(name.to_owned(), listener);
        Ok(own.to_string())
    }

    fn keep(&mut self, name: &str, stream: TcpStream) -> anyhow::Result<String> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let own = stream.local_addr()?;
        self.streams.insert(name.to_owned(), stream);
        Ok(own.to_string())
    }

    /// Connects without waiting for an answer, or by another protocol on top of TCP.
    fn begin(
        &mut self,
        name: &str,
        server: SocketAddr,
        protocol: Option<rustix::net::Protocol>,
    ) -> anyhow::Result<String> {
        let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = rustix::net::socket(family, SocketType::STREAM, protocol)?;
        let stream = TcpStream::from(socket);
        stream.set_nonblocking(protocol.is_none())?;
        match rustix::net::connect(&stream, &server) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => self.keep(name, stream),
            Err(error) => Err(error.into()),
        }
    }

    fn bind(&mut self, name: &str, address: SocketAddr) -> anyhow::Result<String> {
        let socket = UdpSocket::bind(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_broadcast(true)?;
        let own = socket.local_addr()?;
        self.datagrams.insert(name.to_owned(), socket);
        Ok(own.to_string())
    }

    /// An own end that shall be used again later.
    fn note(&mut self, name: &str, own: SocketAddr) -> String {
        self.noted.insert(name.to_owned(), own);
        String::new()
    }

    /// Connects from the end that was noted.
    fn connect_again(&mut self, name: &str, server: SocketAddr) -> anyhow::Result<String> {
        let own = *self.noted.get(name).context("not noted")?;
        let stream =
            TcpStream::from(rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?);
        rustix::net::bind(&stream, &own)?;
        rustix::net::connect(&stream, &server)?;
        self.keep(name, stream)
    }

    /// A socket that takes packets as they are.
    fn other(
        &mut self,
        name: &str,
        family: AddressFamily,
        protocol: Option<rustix::net::Protocol>,
    ) -> anyhow::Result<String> {
        let socket = rustix::net::socket(family, SocketType::RAW, protocol)?;
        self.others.insert(name.to_owned(), socket);
        Ok(String::new())
    }

    fn stream(&mut self, name: &str) -> anyhow::Result<&mut TcpStream> {
        self.streams.get_mut(name).context("no such connection")
    }

    fn datagram(&mut self, name: &str) -> anyhow::Result<&mut UdpSocket> {
        self.datagrams.get_mut(name).context("no such socket")
    }

    fn close(&mut self, name: &str) -> anyhow::Result<String> {
        let had = self.streams.remove(name).is_some()
            | self.listening.remove(name).is_some()
            | self.datagrams.remove(name).is_some();
        ensure!(had, "no such socket");
        Ok(String::new())
    }

    /// Closes a connection without a packet.
    fn vanish(&mut self, name: &str) -> anyhow::Result<String> {
        let stream = self.streams.remove(name).context("no such connection")?;
        setsockopt(&stream, sockopt::TcpRepair, &1)?;
        Ok(String::new())
    }

    /// Another process has the connection from now on, this one has not.
    fn hand(&mut self, name: &str) -> anyhow::Result<String> {
        let stream = self.streams.remove(name).context("no such connection")?;
        let mut command = bound_command("sleep");
        let child = command.arg("600").stdin(Stdio::from(OwnedFd::from(stream))).spawn()?;
        let pid = child.id();
        self.handed.push(Handed(child));
        Ok(pid.to_string())
    }
}

/// Opens connections one after the other, says how many, and keeps them until it is ended.
fn hold(count: &str, server: &str) -> anyhow::Result<()> {
    raise_descriptor_limit()?;
    let (count, server): (u64, SocketAddr) = (count.parse()?, server.parse()?);
    let connect = |_| TcpStream::connect_timeout(&server, PATIENCE);
    let held: Vec<_> = (0..count).map(connect).collect::<Result<_, _>>()?;
    writeln!(std::io::stdout(), "holds {}", held.len())?;
    rest()
}

/// Accepts connections, and keeps them until it is ended.
fn serve(address: &str) -> anyhow::Result<()> {
    raise_descriptor_limit()?;
    let listener = TcpListener::bind(address.parse::<SocketAddr>()?)?;
    writeln!(std::io::stdout(), "serves {}", listener.local_addr()?)?;
    let mut kept = Vec::new();
    for stream in listener.incoming() {
        kept.push(stream?);
    }
    Ok(())
}

fn rest() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn raise_descriptor_limit() -> anyhow::Result<()> {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).context("raising nofile")
}
