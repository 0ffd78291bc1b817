//! Small servers, for a load to meet.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use ctkeeper_netlink::netns::{self, Namespace};
use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt as options,
};
use serde::{Deserialize, Serialize};

use super::pool::{Table, Token, WATCHED};
use super::worker::WAKE;
use super::{
    LoadError, SPARE_BEYOND_SERVERS, new_epoll, new_wake, raise_descriptor_limit, takes_too_much,
};

/// `net.core.somaxconn` of a new namespace (4,096) bounds it anyway.
const BACKLOG: i32 = 65_535;
const EVENTS: usize = 512;
const BUFFER: usize = 64 * 1024;
/// A request's head may be so long.
const MAX_HEAD: usize = 16 * 1024;
/// Tokens from here on are listeners and datagram sockets.
const FIXED: u64 = 1 << 63;
/// So many connections are accepted, or datagrams taken, before others are looked at.
const TURN: usize = 64;

/// What a server does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "service", rename_all = "snake_case", deny_unknown_fields)]
pub enum Service {
    /// Accepts TCP connections, reads what comes, and never says anything.
    TcpHold {},
    /// Sends back what comes.
    TcpEcho {},
    /// Answers every HTTP/1.1 request by `200 OK`; keeps the connection unless the request says
    /// `Connection: close`.
    Http {
        /// How long the body is, up to 60,000 bytes.
        #[serde(default = "short_body")]
        body_bytes: u16,
    },
    /// Sends datagrams back.
    UdpEcho {},
    /// Takes datagrams and says nothing.
    UdpSink {},
}

const fn short_body() -> u16 {
    3
}

/// What a server has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Served {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections open now.
    pub open: u64,
    /// Requests answered, or datagrams taken.
    pub requests: u64,
    /// Connections that could not be served for want of descriptors; they are closed at once.
    pub no_descriptors: u64,
}

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    open: AtomicU64,
    requests: AtomicU64,
    no_descriptors: AtomicU64,
    is_over: AtomicBool,
}

/// A server that runs on a thread of its own, in a namespace. Dropping it closes its sockets and
/// ends the thread.
#[derive(Debug)]
pub struct Server {
    counters: Arc<Counters>,
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
}

impl Server {
    /// Starts a server that listens on each address; port 0 is chosen by the kernel.
    pub fn start(
        namespace: &Namespace,
        service: Service,
        addresses: &[SocketAddr],
    ) -> Result<Self, LoadError> {
        raise_descriptor_limit()?;
        netns::enter(namespace, |_| Self::start_here(service, addresses))?
    }

    fn start_here(service: Service, addresses: &[SocketAddr]) -> Result<Self, LoadError> {
        let epoll = new_epoll()?;
        let wake = Arc::new(new_wake(&epoll)?);
        let counters = Arc::new(Counters::default());
        let fixed: Vec<_> = addresses
            .iter()
            .map(|address| {
                bound(*address, service.socket_type()).map_err(LoadError::kernel(
                    "listening on",
                    address,
                    "is it the namespace's, and free?",
                ))
            })
            .collect::<Result<_, _>>()?;
        for (number, socket) in fixed.iter().enumerate() {
            let data = epoll::EventData::new_u64(FIXED | number as u64);
            epoll::add(&epoll, socket, data, EventFlags::IN).map_err(LoadError::kernel(
                "watching",
                "a listener",
                "are there descriptors left?",
            ))?;
        }
        let local = |socket| net::getsockname(socket).and_then(SocketAddr::try_from);
        let addresses = fixed.iter().filter_map(|socket| local(socket).ok()).collect();
        let worker = Worker {
            epoll,
            wake: Arc::clone(&wake),
            counters: Arc::clone(&counters),
            response: service.response(),
            service,
            fixed,
            table: Table::new(),
            buffer: vec![0; BUFFER],
        };
        let thread =
            thread::Builder::new().name("server".to_owned()).spawn(move || worker.run()).map_err(
                LoadError::kernel("starting", "a server's thread", "are there too many?"),
            )?;
        Ok(Self { counters, wake, thread: Some(thread), addresses })
    }

    /// Where it listens, with the ports that the kernel chose.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What it has done so far.
    pub fn served(&self) -> Served {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Served {
            accepted: of(&self.counters.accepted),
            open: of(&self.counters.open),
            requests: of(&self.counters.requests),
            no_descriptors: of(&self.counters.no_descriptors),
        }
    }

    /// Closes everything; what it has done comes back.
    pub fn stop(mut self) -> Served {
        self.end();
        self.served()
    }

    fn end(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.counters.is_over.store(true, Ordering::Release);
            let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

impl Service {
    const fn socket_type(&self) -> SocketType {
        match self {
            Self::TcpHold {} | Self::TcpEcho {} | Self::Http { .. } => SocketType::STREAM,
            Self::UdpEcho {} | Self::UdpSink {} => SocketType::DGRAM,
        }
    }

    fn response(&self) -> Vec<u8> {
        let Self::Http { body_bytes } = self else { return Vec::new() };
        let length = usize::from(*body_bytes).min(60_000);
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n"
        );
        let mut response = head.into_bytes();
        response.resize(response.len() + length, b'.');
        response
    }
}

fn bound(address: SocketAddr, kind: SocketType) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = net::socket_with(family, kind, flags, None)?;
    options::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        options::set_ipv6_v6only(&socket, true)?;
    }
    net::bind(&socket, &address)?;
    if kind == SocketType::STREAM {
        net::listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

/// A connection of a server.
#[derive(Debug)]
struct Peer {
    socket: OwnedFd,
    /// The beginning of a request's head.
    head: Vec<u8>,
    /// What the peer has not taken yet; nothing is read meanwhile, so it stays small.
    unsent: Vec<u8>,
    closes: bool,
}

struct Worker {
    epoll: OwnedFd,
    wake: Arc<OwnedFd>,
    counters: Arc<Counters>,
    service: Service,
    response: Vec<u8>,
    fixed: Vec<OwnedFd>,
    table: Table<Peer>,
    buffer: Vec<u8>,
}

impl Worker {
    fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        while !self.counters.is_over.load(Ordering::Acquire) {
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) => {
                    for event in &events {
                        self.see(Token(event.data.u64()), event.flags);
                    }
                }
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        self.table.drain().for_each(drop);
        self.counters.open.store(0, Ordering::Relaxed);
    }

    fn see(&mut self, token: Token, flags: EventFlags) {
        match token {
            WAKE => {
                let _ = rustix::io::read(&self.wake, &mut [0_u8; 8]);
            }
            Token(number) if number & FIXED != 0 => {
                let at = (number & !FIXED) as usize;
                match self.service.socket_type() {
                    SocketType::STREAM => self.accept(at),
                    _ => self.take_datagrams(at),
                }
            }
            token => {
                if self.serve(token, flags).is_none() {
                    self.table.remove(token);
                }
                self.counters.open.store(self.table.len() as u64, Ordering::Relaxed);
            }
        }
    }

    fn accept(&mut self, at: usize) {
        for _ in 0..TURN {
            let Some(listener) = self.fixed.get(at) else { return };
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            match net::accept_with(listener, flags) {
                Ok(socket) if takes_too_much(&socket, SPARE_BEYOND_SERVERS) => {
                    self.counters.no_descriptors.fetch_add(1, Ordering::Relaxed);
                }
                Ok(socket) => self.welcome(socket),
                Err(Errno::MFILE | Errno::NFILE) => {
                    self.counters.no_descriptors.fetch_add(1, Ordering::Relaxed);
                    // The listener stays ready: without a pause the thread would spin on it.
                    thread::sleep(std::time::Duration::from_millis(1));
                    return;
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(_) => return,
            }
        }
    }

    fn welcome(&mut self, socket: OwnedFd) {
        let peer = Peer { socket, head: Vec::new(), unsent: Vec::new(), closes: false };
        let token = self.table.insert(peer);
        let Some(peer) = self.table.get_mut(token) else { return };
        let data = epoll::EventData::new_u64(token.0);
        if epoll::add(&self.epoll, &peer.socket, data, WATCHED).is_err() {
            self.table.remove(token);
        }
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        self.counters.open.store(self.table.len() as u64, Ordering::Relaxed);
    }

    /// Serves a connection; `None` when it is over.
    fn serve(&mut self, token: Token, flags: EventFlags) -> Option<()> {
        let is_ending = flags.intersects(EventFlags::ERR | EventFlags::HUP | EventFlags::RDHUP);
        let peer = self.table.get_mut(token)?;
        peer.send(&[])?;
        while peer.unsent.is_empty() {
            let length =
                match net::recv(&peer.socket, self.buffer.as_mut_slice(), RecvFlags::empty()) {
                    Ok((0, _)) => return None,
                    Ok((length, _)) => length,
                    Err(Errno::AGAIN) => return Some(()),
                    Err(Errno::INTR) => continue,
                    Err(_) => return None,
                };
            let bytes = self.buffer.get(..length)?;
            match self.service {
                Service::TcpEcho {} => peer.send(bytes)?,
                Service::Http { .. } => {
                    let answered = peer.answer(bytes, &self.response)?;
                    self.counters.requests.fetch_add(answered, Ordering::Relaxed);
                    if peer.closes && peer.unsent.is_empty() {
                        return None;
                    }
                }
                Service::TcpHold {} | Service::UdpEcho {} | Service::UdpSink {} => {}
            }
            if length < BUFFER && !is_ending {
                return Some(());
            }
        }
        (!peer.closes || !peer.unsent.is_empty()).then_some(())
    }

    fn take_datagrams(&mut self, at: usize) {
        let Some(socket) = self.fixed.get(at) else { return };
        for _ in 0..TURN {
            let received = net::recvfrom(socket, self.buffer.as_mut_slice(), RecvFlags::empty());
            let Ok((length, _, from)) = received else { return };
            self.counters.requests.fetch_add(1, Ordering::Relaxed);
            if self.service == (Service::UdpEcho {})
                && let (Some(from), Some(bytes)) = (from, self.buffer.get(..length))
            {
                // An answer that is not let out is one that the load will miss.
                let _ = net::sendto(socket, bytes, SendFlags::empty(), &from);
            }
        }
    }
}

impl Peer {
    /// Sends what waits and then this; `None` when the connection is over.
    fn send(&mut self, bytes: &[u8]) -> Option<()> {
        if !self.unsent.is_empty() {
            let waiting = std::mem::take(&mut self.unsent);
            self.put(&waiting)?;
        }
        if self.unsent.is_empty() {
            return self.put(bytes);
        }
        self.unsent.extend_from_slice(bytes);
        Some(())
    }

    fn put(&mut self, mut bytes: &[u8]) -> Option<()> {
        while !bytes.is_empty() {
            match net::send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => bytes = bytes.get(sent..)?,
                Err(Errno::AGAIN) => {
                    self.unsent = bytes.to_vec();
                    return Some(());
                }
                Err(Errno::INTR) => {}
                Err(_) => return None,
            }
        }
        Some(())
    }

    /// Answers the requests that are whole; how many. Bodies of requests are not expected.
    fn answer(&mut self, bytes: &[u8], response: &[u8]) -> Option<u64> {
        let mut all;
        let mut rest = bytes;
        if !self.head.is_empty() {
            all = std::mem::take(&mut self.head);
            all.extend_from_slice(bytes);
            rest = all.as_slice();
        }
        let mut answered = 0;
        while !rest.is_empty() && !self.closes {
            let mut headers = [httparse::EMPTY_HEADER; 32];
            let mut request = httparse::Request::new(&mut headers);
            match request.parse(rest).ok()? {
                httparse::Status::Complete(length) => {
                    self.closes = closes(&request);
                    self.send(response)?;
                    answered += 1;
                    rest = rest.get(length..)?;
                }
                httparse::Status::Partial if rest.len() > MAX_HEAD => return None,
                httparse::Status::Partial => {
                    self.head = rest.to_vec();
                    break;
                }
            }
        }
        Some(answered)
    }
}

/// Whether a request is the connection's last (RFC 9112, section 9.3).
fn closes(request: &httparse::Request<'_, '_>) -> bool {
    let mut connection = request
        .headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case("connection"))
        .map(|header| header.value.trim_ascii());
    match request.version {
        Some(1) => connection.any(|value| value.eq_ignore_ascii_case(b"close")),
        _ => !connection.any(|value| value.eq_ignore_ascii_case(b"keep-alive")),
    }
}
