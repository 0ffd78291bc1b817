//! Conversations of real sockets.
//!
//! `socket tcp CLIENT > SERVER open|half-closed|closed|refused [at ADDRESS]`,
//! `socket udp CLIENT > SERVER once|answered`, `socket ftp CLIENT > SERVER`.
//! The client binds its end; `at` is where the server really stands when rules redirect.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect};
use nix::sys::socket::{setsockopt, socket, sockopt};

use super::stage::Stage;

/// What stays open while a table is looked at.
#[derive(Default)]
pub(super) struct Sockets {
    streams: Vec<TcpStream>,
    datagrams: Vec<UdpSocket>,
    /// Whether there ever was any.
    pub(super) used: bool,
}

impl fmt::Debug for Sockets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} streams", self.streams.len())
    }
}

impl Stage {
    /// Plays one conversation.
    pub(super) fn socket(&mut self, line: &str) -> anyhow::Result<()> {
        self.sockets.used = true;
        let words: Vec<_> = line.split_whitespace().collect();
        let [kind, client, ">", server, ref rest @ ..] = words[..] else {
            bail!("not KIND CLIENT > SERVER: {line}");
        };
        let (client, server): (SocketAddr, SocketAddr) = (client.parse()?, server.parse()?);
        let (manner, at) = match *rest {
            [] => ("", server),
            [manner] => (manner, server),
            [manner, "at", at] => (manner, at.parse()?),
            _ => bail!("not MANNER [at ADDRESS]: {line}"),
        };
        match (kind, manner) {
            ("udp", _) => self.udp(client, server, at, manner == "answered"),
            ("tcp", "refused") => {
                ensure!(self.at_client(|| dial(client, server))?.is_err(), "nobody refuses");
                Ok(())
            }
            ("tcp", _) => {
                let (dialled, accepted) = self.tcp(client, server, at)?;
                self.leave(dialled, accepted, manner)
            }
            ("ftp", _) => {
                let (dialled, accepted) = self.tcp(client, server, at)?;
                ftp(&dialled, &accepted, server)?;
                self.leave(dialled, accepted, "open")
            }
            _ => bail!("no such conversation: {line}"),
        }
    }

    fn tcp(
        &self,
        client: SocketAddr,
        server: SocketAddr,
        at: SocketAddr,
    ) -> anyhow::Result<(TcpStream, TcpStream)> {
        let listener = self.at_server(|| listen(at))??;
        let dialled = self.at_client(|| dial(client, server))??;
        let (accepted, _) = listener.accept()?;
        say(&dialled, &accepted, "a request\n")?;
        say(&accepted, &dialled, "an answer\n")?;
        Ok((dialled, accepted))
    }

    fn leave(&mut self, dialled: TcpStream, accepted: TcpStream, how: &str) -> anyhow::Result<()> {
        match how {
            "open" => self.sockets.streams.extend([dialled, accepted]),
            "half-closed" => {
                dialled.shutdown(Shutdown::Write)?;
                until_end(&accepted)?;
                self.sockets.streams.extend([dialled, accepted]);
            }
            "closed" => {
                dialled.shutdown(Shutdown::Write)?;
                until_end(&accepted)?;
                drop(accepted);
                until_end(&dialled)?;
            }
            _ => bail!("TCP is open, half-closed, closed or refused, not {how}"),
        }
        Ok(())
    }

    fn udp(
        &mut self,
        client: SocketAddr,
        server: SocketAddr,
        at: SocketAddr,
        answered: bool,
    ) -> anyhow::Result<()> {
        let there = self.at_server(|| UdpSocket::bind(at))?.context("the server's socket")?;
        let here = self.at_client(|| UdpSocket::bind(client))?.context("the client's socket")?;
        let mut buffer = [0; 64];
        here.send_to(b"question", server)?;
        let (_, from) = there.recv_from(&mut buffer)?;
        if answered {
            there.send_to(b"answer", from)?;
            here.recv_from(&mut buffer)?;
        }
        self.sockets.datagrams.extend([here, there]);
        Ok(())
    }
}

/// A program that another thread starts at this moment may hold the last listener for a while, until
/// it has become what it is to be.
fn listen(at: SocketAddr) -> anyhow::Result<TcpListener> {
    for _ in 0..200 {
        match TcpListener::bind(at) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => sleep(Duration::from_millis(5)),
            bound => return bound.with_context(|| format!("listening at {at}")),
        }
    }
    bail!("somebody listens at {at}")
}

/// Connects from a place of one's own.
fn dial(from: SocketAddr, to: SocketAddr) -> anyhow::Result<TcpStream> {
    let family = if from.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let own = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&own, sockopt::ReuseAddr, &true)?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&own);
    bind(fd, &SockaddrStorage::from(from)).with_context(|| format!("binding {from}"))?;
    connect(fd, &SockaddrStorage::from(to)).with_context(|| format!("connecting to {to}"))?;
    Ok(own.into())
}

fn say(mut from: &TcpStream, mut to: &TcpStream, text: &str) -> anyhow::Result<()> {
    from.write_all(text.as_bytes())?;
    let mut buffer = vec![0; text.len()];
    to.read_exact(&mut buffer)?;
    Ok(())
}

fn until_end(mut stream: &TcpStream) -> anyhow::Result<()> {
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

/// What makes the helper expect a data connection.
fn ftp(client: &TcpStream, server: &TcpStream, at: SocketAddr) -> anyhow::Result<()> {
    let host = at.ip().to_string().replace('.', ",");
    say(server, client, "220 ready\r\n")?;
    say(client, server, "PASV\r\n")?;
    say(server, client, &format!("227 Entering Passive Mode ({host},20,5)\r\n"))
}
