//! What is said on a connection, and what comes back.

use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags};

use super::{BUFFER, Connections, Manner, State};
use crate::load::Closing;
use crate::load::answer::Reading;
use crate::load::pool::{NEVER, Token, kind_of};
use crate::load::report::ErrorKind;
use crate::load::schedule::Moment;
use crate::load::worker::Context;

impl Connections {
    /// Puts the question and awaits its answer.
    pub(super) fn say(&mut self, token: Token, state: State, due: Moment, cx: &mut Context<'_>) {
        let (Some(connection), Some(question)) = (self.table.get_mut(token), &self.question) else {
            return;
        };
        connection.state = state;
        connection.due = due;
        connection.written = 0;
        connection.answer = question.answer();
        connection.deadline = cx.now + self.answer_timeout;
        self.timers.arm(token, connection.deadline, &mut connection.queued);
        self.write(token, cx);
    }

    pub(super) fn write(&mut self, token: Token, cx: &mut Context<'_>) {
        let (Some(connection), Some(question)) = (self.table.get_mut(token), &self.question) else {
            return;
        };
        if !matches!(connection.state, State::Answer | State::Probe | State::Overdue) {
            return;
        }
        while let Some(rest) = question.bytes.get(connection.written..).filter(|r| !r.is_empty()) {
            match net::send(&connection.socket, rest, SendFlags::NOSIGNAL) {
                Ok(written) => connection.written += written,
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(error) => return self.broken(token, kind_of(error), cx),
            }
        }
    }

    pub(super) fn read(&mut self, token: Token, is_ending: bool, cx: &mut Context<'_>) {
        while let Some(connection) = self.table.get_mut(token) {
            match net::recv(&connection.socket, self.buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((0, _)) => return self.closed(token, cx),
                Ok((length, _)) => {
                    let bytes = self.buffer.get(..length).unwrap_or_default();
                    let reading = match connection.state {
                        State::Answer | State::Probe | State::Overdue => {
                            connection.answer.read(bytes)
                        }
                        // Nobody asked: a banner, or a proxy's last words.
                        State::Idle | State::Connecting => Reading::Unfinished,
                    };
                    self.heard(token, reading, cx);
                    // A read that fills less than the buffer has emptied the socket; what comes
                    // later is a new event.
                    if length < BUFFER && !is_ending {
                        return;
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(error) => return self.broken(token, kind_of(error), cx),
            }
        }
    }

    /// An answer, or a part of one, was read.
    pub(super) fn heard(&mut self, token: Token, reading: Reading, cx: &mut Context<'_>) {
        let Some(outcome) = reading.outcome() else { return };
        let Some(connection) = self.table.get_mut(token) else { return };
        match connection.state {
            State::Answer => {
                self.waiting -= 1;
                match outcome {
                    Ok(()) => {
                        cx.tally.answered(connection.due, cx.now);
                        cx.tally.succeeded();
                    }
                    Err(kind) => cx.tally.failed(kind),
                }
            }
            State::Probe => {
                self.probing -= 1;
                match outcome {
                    Ok(()) => cx.tally.probe_ok(connection.due, cx.now),
                    Err(ErrorKind::BadStatus) => cx.tally.probe_refused(),
                    Err(_) => cx.tally.probe_lost(),
                }
            }
            State::Overdue | State::Idle | State::Connecting => {}
        }
        if reading == Reading::Nonsense {
            self.table.remove(token);
            return self.serve_queue(cx);
        }
        self.rest(token, reading.stays(), cx);
    }

    /// A connection has nothing to do any more.
    pub(super) fn rest(&mut self, token: Token, stays: bool, cx: &mut Context<'_>) {
        let Some(connection) = self.table.get_mut(token) else { return };
        connection.state = State::Idle;
        match self.manner {
            Manner::Held { .. } => {
                connection.deadline = connection.next_probe.min(connection.leaves);
                self.timers.arm(token, connection.deadline, &mut connection.queued);
            }
            Manner::Short { reset } => {
                self.close(token, if reset { Closing::Reset } else { Closing::Close });
            }
            Manner::Pooled { .. } if !stays => {
                self.close(token, Closing::Close);
                self.serve_queue(cx);
            }
            Manner::Pooled { .. } => {
                if let Some(due) = self.queue.pop_front() {
                    return self.say(token, State::Answer, due, cx);
                }
                connection.deadline = NEVER;
                self.free.push(token);
            }
        }
    }

    pub(super) fn close(&mut self, token: Token, end: Closing) {
        if let Some(connection) = self.table.remove(token) {
            connection.end(end);
        }
    }

    /// The peer closed.
    pub(super) fn closed(&mut self, token: Token, cx: &mut Context<'_>) {
        let Some(connection) = self.table.get_mut(token) else { return };
        let reading = connection.answer.close();
        if connection.state == State::Answer && reading.outcome().is_some() {
            self.heard(token, reading, cx);
            return self.close(token, Closing::Close);
        }
        self.broken(token, ErrorKind::ClosedEarly, cx);
    }

    /// The connection is of no use any more.
    pub(super) fn broken(&mut self, token: Token, kind: ErrorKind, cx: &mut Context<'_>) {
        let Some(connection) = self.table.remove(token) else { return };
        let is_held = matches!(self.manner, Manner::Held { .. });
        match connection.state {
            // What times out on a connection that stands is the answer, not the connect.
            State::Answer if kind == ErrorKind::ConnectTimeout => {
                self.failed(ErrorKind::AnswerTimeout, cx);
            }
            State::Connecting | State::Answer => self.failed(kind, cx),
            State::Probe => {
                self.probing -= 1;
                cx.tally.probe_lost();
                cx.tally.lost(kind);
            }
            State::Idle | State::Overdue if is_held => cx.tally.lost(kind),
            State::Idle | State::Overdue => {}
        }
        self.serve_queue(cx);
    }
}
