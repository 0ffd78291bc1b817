//! Datagrams that are answered.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags, SocketType};

use super::Closing;
use super::pool::{self, NEVER, Table, Timers, Token, kind_of};
use super::report::ErrorKind;
use super::schedule::Moment;
use super::target::Routes;
use super::tcp::Base;
use super::traffic::Udp;
use super::worker::{Context, Driver, nanoseconds};

const BUFFER: usize = 64 * 1024;

/// A flow: a socket of its own, its datagrams, and their answers.
#[derive(Debug)]
struct Flow {
    socket: OwnedFd,
    due: Moment,
    /// Answers to come.
    missing: u32,
}

/// Flows of one load.
#[derive(Debug)]
pub(super) struct Datagrams {
    epoll: Arc<OwnedFd>,
    routes: Routes,
    burst: u32,
    answer_timeout: Moment,
    payload: Vec<u8>,
    table: Table<Flow>,
    timers: Timers,
    buffer: Vec<u8>,
}

impl Datagrams {
    pub(super) fn new(udp: &Udp, base: Base<'_>) -> Self {
        let Base { profile, routes, epoll } = base;
        Self {
            epoll,
            routes,
            burst: udp.burst,
            answer_timeout: nanoseconds(profile.answer_timeout),
            payload: vec![b'.'; udp.bytes as usize],
            table: Table::new(),
            timers: Timers::default(),
            buffer: vec![0; BUFFER],
        }
    }

    fn open(&mut self, number: u64, due: Moment, cx: &mut Context<'_>) -> Result<(), ErrorKind> {
        let target = self.routes.target(number).ok_or(ErrorKind::Other)?;
        let socket = pool::open(target, self.routes.source(number), SocketType::DGRAM)?;
        net::connect(&socket, &target).map_err(kind_of)?;
        let token = self.table.insert(Flow { socket, due, missing: self.burst });
        let Some(flow) = self.table.get_mut(token) else { return Ok(()) };
        let mut begun = pool::watch(&self.epoll, &flow.socket, token);
        for _ in 0..self.burst {
            begun = begun.and_then(|()| {
                net::send(&flow.socket, &self.payload, SendFlags::empty()).map_err(kind_of)?;
                cx.tally.datagram_sent();
                Ok(())
            });
        }
        if begun.is_err() {
            self.table.remove(token);
        } else {
            self.timers.arm(token, cx.now + self.answer_timeout, &mut { NEVER });
        }
        begun
    }

    /// Takes answers; how the flow ended, if it has.
    fn read(&mut self, token: Token) -> Option<Result<(), ErrorKind>> {
        let flow = self.table.get_mut(token)?;
        loop {
            match net::recv(&flow.socket, self.buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok(_) => flow.missing = flow.missing.saturating_sub(1),
                Err(Errno::AGAIN) => return None,
                Err(Errno::INTR) => continue,
                Err(error) => return Some(Err(kind_of(error))),
            }
            if flow.missing == 0 {
                return Some(Ok(()));
            }
        }
    }
}

impl Driver for Datagrams {
    fn launch(&mut self, number: u64, due: Moment, cx: &mut Context<'_>) {
        if let Err(kind) = self.open(number, due, cx) {
            cx.tally.failed(kind);
        }
    }

    fn ready(&mut self, token: Token, flags: EventFlags, cx: &mut Context<'_>) {
        if !flags.intersects(EventFlags::IN | EventFlags::ERR | EventFlags::HUP) {
            return;
        }
        let Some(outcome) = self.read(token) else { return };
        let Some(flow) = self.table.remove(token) else { return };
        match outcome {
            Ok(()) => {
                cx.tally.answered(flow.due, cx.now);
                cx.tally.succeeded();
            }
            Err(kind) => cx.tally.failed(kind),
        }
    }

    fn fire(&mut self, cx: &mut Context<'_>) {
        while let Some((_, token)) = self.timers.pop(cx.now) {
            if self.table.remove(token).is_some() {
                cx.tally.failed(ErrorKind::AnswerTimeout);
            }
        }
        let table = &mut self.table;
        self.timers.tidy(table.len(), |token| table.get_mut(token).is_some());
    }

    fn next(&self) -> Option<Moment> {
        self.timers.next()
    }

    fn probe(&mut self, _: Option<u64>, _: Moment) {}

    fn open(&self) -> u64 {
        self.table.len() as u64
    }

    fn waiting(&self) -> u64 {
        self.table.len() as u64
    }

    fn finish(&mut self) {}

    fn abandon(&mut self, _: Closing, cx: &mut Context<'_>) {
        for _ in self.table.drain() {
            cx.tally.failed(ErrorKind::Stopped);
        }
    }
}
