//! TCP connections: held, short, and HTTP's.

mod talk;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{self, SocketType, sockopt as options};

use super::Closing;
use super::answer::{Answer, Question};
use super::pool::{self, NEVER, Table, Timers, Token, kind_of};
use super::profile::Profile;
use super::report::ErrorKind;
use super::schedule::Moment;
use super::target::Routes;
use super::traffic::{Held, Http, Short};
use super::worker::{Context, Driver, nanoseconds};

/// Requests that wait for a connection; more are refused (`overrun`).
const MAX_QUEUE: usize = 100_000;
/// Told to probe every connection, so many are probed a second.
const PROBES_PER_SECOND: u64 = 5_000;
const BUFFER: usize = 64 * 1024;

/// What connections do once they stand.
#[derive(Clone, Copy, Debug)]
enum Manner {
    Held {
        greet: bool,
        probe_every: Option<Moment>,
        stay: Moment,
    },
    /// One exchange, or none, and away.
    Short {
        reset: bool,
    },
    /// At most so many, shared by all arrivals.
    Pooled {
        most: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    /// An arrival's answer is awaited.
    Answer,
    /// A probe's answer is awaited.
    Probe,
    Idle,
    /// Idle, but an answer that was given up is still owed.
    Overdue,
}

#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    state: State,
    /// When what is awaited was due.
    due: Moment,
    /// When something is to happen if nothing has.
    deadline: Moment,
    /// The earliest call on its way from the timers.
    queued: Moment,
    /// How much of the question has been written.
    written: usize,
    answer: Answer,
    next_probe: Moment,
    leaves: Moment,
}

/// Connections of one load.
#[derive(Debug)]
pub(super) struct Connections {
    epoll: Arc<OwnedFd>,
    routes: Routes,
    manner: Manner,
    question: Option<Question>,
    connect_timeout: Moment,
    answer_timeout: Moment,
    table: Table<Connection>,
    timers: Timers,
    /// Pooled connections that are free, and some that are gone.
    free: Vec<Token>,
    /// When the arrivals were due that wait for a pooled connection.
    queue: VecDeque<Moment>,
    /// Probes that were asked for, and when each is due.
    probes: VecDeque<(Moment, Token)>,
    /// Arrivals under way, those in the queue among them.
    waiting: u64,
    /// Probes under way.
    probing: u64,
    /// Connections opened, which take the routes in turns.
    opened: u64,
    buffer: Vec<u8>,
}

/// What every load of sockets has.
pub(super) struct Base<'a> {
    pub(super) profile: &'a Profile,
    pub(super) routes: Routes,
    pub(super) epoll: Arc<OwnedFd>,
}

impl Base<'_> {
    /// Who is asked, for the requests' `Host`.
    fn host(&self) -> String {
        self.profile.targets.first().map_or_else(String::new, ToString::to_string)
    }
}

impl Connections {
    pub(super) fn held(held: &Held, base: Base<'_>) -> Self {
        let manner = Manner::Held {
            greet: held.greet,
            probe_every: held.probe_every.map(nanoseconds),
            stay: nanoseconds(held.stay),
        };
        let question = held.exchange.as_ref().map(|e| Question::exchange(e, &base.host(), true));
        Self::new(manner, question, base)
    }

    pub(super) fn short(short: &Short, base: Base<'_>) -> Self {
        let manner = Manner::Short { reset: short.reset };
        let question = short.exchange.as_ref().map(|e| Question::exchange(e, &base.host(), false));
        Self::new(manner, question, base)
    }

    pub(super) fn http(http: &Http, base: Base<'_>) -> Self {
        let pooled = |most: u32| Manner::Pooled { most: most as usize };
        let manner = http.connections.map_or(Manner::Short { reset: false }, pooled);
        let question = Question::http(http, &base.host());
        Self::new(manner, Some(question), base)
    }

    fn new(manner: Manner, question: Option<Question>, base: Base<'_>) -> Self {
        let Base { profile, routes, epoll } = base;
        Self {
            epoll,
            routes,
            manner,
            question,
            connect_timeout: nanoseconds(profile.connect_timeout),
            answer_timeout: nanoseconds(profile.answer_timeout),
            table: Table::new(),
            timers: Timers::default(),
            free: Vec::new(),
            queue: VecDeque::new(),
            probes: VecDeque::new(),
            waiting: 0,
            probing: 0,
            opened: 0,
            buffer: vec![0; BUFFER],
        }
    }

    fn open(&mut self, due: Moment, cx: &mut Context<'_>) {
        self.waiting += 1;
        if let Err(kind) = self.try_open(due, cx.now) {
            self.waiting -= 1;
            cx.tally.failed(kind);
        }
    }

    fn try_open(&mut self, due: Moment, now: Moment) -> Result<(), ErrorKind> {
        let number = self.opened;
        self.opened += 1;
        let target = self.routes.target(number).ok_or(ErrorKind::Other)?;
        let socket = pool::open(target, self.routes.source(number), SocketType::STREAM)?;
        match net::connect(&socket, &target) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(kind_of(error)),
        }
        let deadline = now + self.connect_timeout;
        let token = self.table.insert(Connection {
            socket,
            state: State::Connecting,
            due,
            deadline,
            queued: NEVER,
            written: 0,
            answer: Answer::Bytes(0),
            next_probe: NEVER,
            leaves: NEVER,
        });
        let Some(connection) = self.table.get_mut(token) else { return Ok(()) };
        self.timers.arm(token, deadline, &mut connection.queued);
        let watched = pool::watch(&self.epoll, &connection.socket, token);
        if watched.is_err() {
            self.table.remove(token);
        }
        watched
    }

    fn connected(&mut self, token: Token, cx: &mut Context<'_>) {
        let Some(connection) = self.table.get_mut(token) else { return };
        cx.tally.connected(connection.due, cx.now);
        if let Manner::Held { probe_every, stay, .. } = self.manner {
            connection.leaves = cx.now.saturating_add(stay);
            connection.next_probe = probe_every.map_or(NEVER, |every| cx.now + every);
        }
        let due = connection.due;
        let talks = match self.manner {
            Manner::Held { greet, .. } => greet,
            Manner::Short { .. } | Manner::Pooled { .. } => self.question.is_some(),
        };
        if talks {
            return self.say(token, State::Answer, due, cx);
        }
        self.waiting -= 1;
        cx.tally.succeeded();
        self.rest(token, true, cx);
    }

    fn failed(&mut self, kind: ErrorKind, cx: &mut Context<'_>) {
        self.waiting -= 1;
        cx.tally.failed(kind);
    }

    /// Opens connections for arrivals that wait while the pool has room.
    fn serve_queue(&mut self, cx: &mut Context<'_>) {
        let Manner::Pooled { most } = self.manner else { return };
        while self.table.len() < most {
            let Some(due) = self.queue.pop_front() else { return };
            self.waiting -= 1;
            self.open(due, cx);
        }
    }

    fn free_connection(&mut self) -> Option<Token> {
        while let Some(token) = self.free.pop() {
            if self.table.get_mut(token).is_some_and(|found| found.state == State::Idle) {
                return Some(token);
            }
        }
        None
    }

    /// A connection's deadline has come.
    fn expired(&mut self, token: Token, cx: &mut Context<'_>) {
        let Some(connection) = self.table.get_mut(token) else { return };
        match connection.state {
            State::Connecting => self.broken(token, ErrorKind::ConnectTimeout, cx),
            State::Answer | State::Probe => {
                if connection.state == State::Probe {
                    self.probing -= 1;
                    cx.tally.probe_timeout();
                } else {
                    self.failed(ErrorKind::AnswerTimeout, cx);
                }
                self.give_up(token, cx);
            }
            State::Idle | State::Overdue if connection.leaves <= cx.now => {
                self.close(token, Closing::Close);
            }
            State::Idle | State::Overdue => {
                let due = connection.next_probe;
                self.probe_one(token, due, cx);
            }
        }
    }

    /// The answer will not be waited for: held connections stay, others go.
    fn give_up(&mut self, token: Token, cx: &mut Context<'_>) {
        let Some(connection) = self.table.get_mut(token) else { return };
        if !matches!(self.manner, Manner::Held { .. }) {
            self.close(token, Closing::Close);
            return self.serve_queue(cx);
        }
        connection.state = State::Overdue;
        connection.deadline = connection.next_probe.min(connection.leaves);
        self.timers.arm(token, connection.deadline, &mut connection.queued);
    }

    fn probe_one(&mut self, token: Token, due: Moment, cx: &mut Context<'_>) {
        let Some(connection) = self.table.get_mut(token) else { return };
        if let Manner::Held { probe_every: Some(every), .. } = self.manner
            && connection.next_probe <= cx.now
        {
            connection.next_probe += every;
        }
        match connection.state {
            State::Idle => {
                cx.tally.probe_sent();
                self.probing += 1;
                self.say(token, State::Probe, due, cx);
            }
            State::Overdue => {
                cx.tally.probe_sent();
                self.probing += 1;
                connection.state = State::Probe;
                connection.due = due;
                connection.deadline = cx.now + self.answer_timeout;
                self.timers.arm(token, connection.deadline, &mut connection.queued);
            }
            State::Connecting | State::Answer | State::Probe => {}
        }
    }

    /// Arrivals that have waited for a connection as long as for an answer.
    fn expire_queue(&mut self, cx: &mut Context<'_>) {
        while self.queue.front().is_some_and(|due| due + self.answer_timeout <= cx.now) {
            self.queue.pop_front();
            self.failed(ErrorKind::AnswerTimeout, cx);
        }
    }
}

impl Driver for Connections {
    fn launch(&mut self, _: u64, due: Moment, cx: &mut Context<'_>) {
        let Manner::Pooled { most } = self.manner else { return self.open(due, cx) };
        if let Some(token) = self.free_connection() {
            self.waiting += 1;
            self.say(token, State::Answer, due, cx);
        } else if self.table.len() < most {
            self.open(due, cx);
        } else if self.queue.len() < MAX_QUEUE {
            self.waiting += 1;
            self.queue.push_back(due);
        } else {
            cx.tally.failed(ErrorKind::Overrun);
        }
    }

    fn ready(&mut self, token: Token, flags: EventFlags, cx: &mut Context<'_>) {
        let Some(connection) = self.table.get_mut(token) else { return };
        let is_ending = flags.intersects(EventFlags::ERR | EventFlags::HUP | EventFlags::RDHUP);
        if connection.state == State::Connecting {
            if flags.intersects(EventFlags::ERR | EventFlags::HUP)
                && let Ok(Err(error)) = options::socket_error(&connection.socket)
            {
                return self.broken(token, kind_of(error), cx);
            }
            self.connected(token, cx);
        } else if flags.contains(EventFlags::OUT) {
            self.write(token, cx);
        }
        if is_ending || flags.contains(EventFlags::IN) {
            self.read(token, is_ending, cx);
        }
    }

    fn fire(&mut self, cx: &mut Context<'_>) {
        self.expire_queue(cx);
        while let Some((due, token)) =
            self.probes.front().copied().filter(|(due, _)| *due <= cx.now)
        {
            self.probes.pop_front();
            self.probe_one(token, due, cx);
        }
        while let Some((moment, token)) = self.timers.pop(cx.now) {
            let Some(connection) = self.table.get_mut(token) else { continue };
            if connection.queued == moment {
                connection.queued = NEVER;
            }
            if connection.deadline <= cx.now {
                self.expired(token, cx);
            } else if connection.deadline < NEVER {
                self.timers.arm(token, connection.deadline, &mut connection.queued);
            }
        }
        let table = &mut self.table;
        self.timers.tidy(table.len(), |token| table.get_mut(token).is_some());
    }

    fn next(&self) -> Option<Moment> {
        let in_queue = self.queue.front().map(|due| due + self.answer_timeout);
        let probe = self.probes.front().map(|(due, _)| *due);
        [self.timers.next(), in_queue, probe].into_iter().flatten().min()
    }

    fn probe(&mut self, most: Option<u64>, now: Moment) {
        if self.question.is_none() || !matches!(self.manner, Manner::Held { .. }) {
            return;
        }
        let standing = |state| !matches!(state, State::Connecting | State::Answer);
        let held = self.table.iter().filter(|(_, found)| standing(found.state));
        let held: Vec<_> = held.map(|(token, _)| token).collect();
        let wanted = most.unwrap_or(u64::MAX).min(held.len() as u64);
        // Evenly from first to last; one after the other, or they would wait for each other.
        let chosen = (0..wanted).map(|n| n * held.len() as u64 / wanted.max(1));
        let due = |n: usize| now + n as u64 * 1_000_000_000 / PROBES_PER_SECOND;
        let chosen = chosen.filter_map(|at| held.get(at as usize)).enumerate();
        self.probes = chosen.map(|(n, token)| (due(n), *token)).collect();
    }

    fn open(&self) -> u64 {
        self.table.len() as u64
    }

    fn waiting(&self) -> u64 {
        self.waiting + self.probing + self.probes.len() as u64
    }

    /// Nothing will come any more: connections that only waited for work go.
    fn finish(&mut self) {
        if matches!(self.manner, Manner::Pooled { .. }) {
            self.end(Closing::Close);
        }
    }

    fn abandon(&mut self, end: Closing, cx: &mut Context<'_>) {
        for _ in 0..self.waiting {
            cx.tally.failed(ErrorKind::Stopped);
        }
        self.waiting = 0;
        self.probing = 0;
        self.end(end);
    }
}

impl Connections {
    fn end(&mut self, end: Closing) {
        self.queue.clear();
        self.probes.clear();
        self.free.clear();
        self.table.drain().for_each(|connection| connection.end(end));
    }
}

impl Connection {
    fn end(self, end: Closing) {
        // Where the kernel refuses, an ordinary close is what remains.
        match end {
            Closing::Close => {}
            Closing::Reset => {
                let _ = options::set_socket_linger(&self.socket, Some(Duration::ZERO));
            }
            Closing::Vanish => {
                let _ = setsockopt(&self.socket, sockopt::TcpRepair, &1);
            }
        }
    }
}
