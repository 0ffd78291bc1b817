//! First packets that claim one place in the table at the same moment.
//!
//! An entry is confirmed when its first packet leaves; until then nobody else sees it. Two threads
//! that send at the same moment, each on a CPU of its own, are both in between. Other load on two
//! CPUs keeps them apart, so they run ahead of it (SCHED_FIFO) and sleep between: measured on Linux
//! 6.18 beside four busy loops, 294 of 300 pairs clash, without that priority none.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::program::{called, run};
use crate::{LabError, Namespace, interrupted, pause};

/// The source port of the first pair; each pair takes the next one.
const FIRST_PORT: u16 = 10_000;
/// Pairs that there are ports for.
const MOST: u32 = 40_000;
/// How long a thread waits without giving up its CPU: both must be running to meet.
const SPIN: Duration = Duration::from_micros(200);
const NAP: Duration = Duration::from_micros(50);

/// Who sends at the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rivals {
    /// Two clients with one source port between them. Where translation keeps the port both claim
    /// the same answers, and one is dropped.
    Clients(IpAddr, IpAddr),
    /// One client's socket, twice: a resolver that asks for A and AAAA. Where the destination is
    /// translated, each packet may be sent elsewhere; current kernels settle it.
    Socket(IpAddr),
}

/// Datagrams in pairs, each pair at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clash {
    /// Who sends.
    pub rivals: Rivals,
    /// Where to.
    pub destination: SocketAddr,
    /// Pairs a second.
    pub rate: u32,
    /// Pairs in all, at most 40,000: each takes a source port of its own.
    pub pairs: u32,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Clashed {
    /// Pairs that were sent.
    pub pairs: u32,
    /// Datagrams that the sender was told are dropped (those dropped on their way out; behind a
    /// router nobody is told).
    pub refused: u32,
}

impl Clash {
    /// Sends them from inside a namespace, which has the rivals' addresses; comes back when all are
    /// sent.
    pub fn run(&self, namespace: &Namespace) -> Result<Clashed, LabError> {
        namespace.enter(|| self.run_here())?
    }

    fn run_here(&self) -> Result<Clashed, LabError> {
        let line = Line::default();
        thread::scope(|scope| {
            let rival = scope.spawn(|| self.follow(&line));
            let leader = self.lead(&line);
            line.end();
            let follower = rival.join().unwrap_or_default();
            leader.map(|Clashed { pairs, refused }| Clashed { pairs, refused: refused + follower })
        })
    }

    /// The first thread keeps the time and has the sockets ready.
    fn lead(&self, line: &Line) -> Result<Clashed, LabError> {
        run_ahead();
        let step = Duration::from_secs(1) / self.rate.max(1);
        let begin = Instant::now();
        let mut clashed = Clashed::default();
        for pair in 0..self.pairs.min(MOST) {
            pause((begin + step * pair).saturating_duration_since(Instant::now()))?;
            let [own, other] = self.sockets(pair as u16)?;
            line.hand_over(other);
            if !line.meet(Side::Leader, 2 * pair + 1) || !line.meet(Side::Leader, 2 * pair + 2) {
                break;
            }
            clashed.refused += self.send(&own);
            clashed.pairs += 1;
        }
        Ok(clashed)
    }

    /// The second thread sends when the first does; returns how often it was refused.
    fn follow(&self, line: &Line) -> u32 {
        run_ahead();
        let mut refused = 0;
        for pair in 0.. {
            if !line.meet(Side::Follower, 2 * pair + 1) {
                break;
            }
            let own = line.take();
            if !line.meet(Side::Follower, 2 * pair + 2) {
                break;
            }
            refused += own.map_or(0, |own| self.send(&own));
        }
        refused
    }

    fn send(&self, socket: &UdpSocket) -> u32 {
        u32::from(socket.send_to(b"clash", self.destination).is_err())
    }

    /// A pair of sockets, or one socket twice.
    fn sockets(&self, pair: u16) -> Result<[Arc<UdpSocket>; 2], LabError> {
        let bind = |address: IpAddr| {
            let local = SocketAddr::new(address, FIRST_PORT + pair);
            UdpSocket::bind(local)
                .map(Arc::new)
                .map_err(LabError::system("bind", local.to_string()))
        };
        match self.rivals {
            Rivals::Clients(one, other) => Ok([bind(one)?, bind(other)?]),
            Rivals::Socket(address) => {
                let socket = bind(address)?;
                Ok([Arc::clone(&socket), socket])
            }
        }
    }
}

/// Puts the calling thread ahead of ordinary ones. Where that is not allowed fewer pairs meet.
fn run_ahead() {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    let _ = run(Command::new(called("chrt")).args(["--fifo", "--pid", "10", &thread]), "");
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Leader,
    Follower,
}

/// Where two threads wait for each other.
#[derive(Debug, Default)]
struct Line {
    leader: AtomicU32,
    follower: AtomicU32,
    ended: AtomicBool,
    socket: Mutex<Option<Arc<UdpSocket>>>,
}

impl Line {
    /// Comes back at the moment at which both have come this far; `false` when one will not.
    fn meet(&self, side: Side, step: u32) -> bool {
        let (own, other) = match side {
            Side::Leader => (&self.leader, &self.follower),
            Side::Follower => (&self.follower, &self.leader),
        };
        own.store(step, Ordering::SeqCst);
        let since = Instant::now();
        while other.load(Ordering::SeqCst) < step {
            if self.ended.load(Ordering::SeqCst) || interrupted() {
                return false;
            }
            if since.elapsed() > SPIN {
                thread::sleep(NAP);
            }
            std::hint::spin_loop();
        }
        true
    }

    fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    fn hand_over(&self, socket: Arc<UdpSocket>) {
        *self.socket.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket);
    }

    fn take(&self) -> Option<Arc<UdpSocket>> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
