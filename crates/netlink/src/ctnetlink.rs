//! The connection tracking table of one network namespace.

use std::ops::ControlFlow;

use ctkeeper_flow::{Family, Flow, Statistics, Tuple, Zone};

use crate::attribute::{CONNTRACK, operation as message_type};
use crate::availability::Availability;
use crate::error::{Errno, Error, Operation};
use crate::filter::DumpFilter;
use crate::netns::Namespace;
use crate::socket::{self, Answer, DUMP_BUFFER, Refusal, Socket, answer};
use crate::wire::{Attributes, Builder, Malformed, Message, Messages, message, sequence_of};
use crate::{decode, encode};

/// Which of a namespace's lists a dump reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum List {
    /// The table.
    #[default]
    Table,
    /// Entries that are deleted and whose destroy event could not be delivered yet.
    Dying,
    /// Entries whose first packet is still on its way. Kernels since 6.0 keep no such list: it is
    /// empty.
    Unconfirmed,
}

/// How often a whole dump is begun again when the table changed underneath.
const DUMP_ATTEMPTS: u32 = 5;

/// A namespace's number of entries, and the limit it is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GlobalStatistics {
    /// Entries, with expired ones that are not collected yet.
    pub entries: u32,
    /// The limit, 0 meaning none; absent on kernels that do not send it (before 4.18).
    pub limit: Option<u32>,
}

/// How a dump went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dump {
    /// Entries delivered.
    pub entries: u64,
    /// Entries that came and did not meet the filter.
    pub filtered_out: u64,
    /// Entries that could not be read.
    pub undecodable: u64,
    /// Whether every entry has been delivered: false when the caller stopped.
    pub complete: bool,
    /// Parts that the kernel marked as read from a table that changed (`NLM_F_DUMP_INTR`): entries
    /// may be missing or double.
    pub interruptions: u32,
}

/// A socket to the connection tracking table of one network namespace.
///
/// It stays in the namespace that it was opened in, may be used from any thread and held for
/// months; while it is held the namespace lives. One costs one descriptor and no memory to speak
/// of.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
    /// Whether the kernel still has an abandoned dump on this socket.
    is_mid_dump: bool,
}

impl Conntrack {
    /// Opens the calling thread's namespace. Refuses if that would load a module.
    pub fn open() -> Result<Self, Error> {
        ensure_available()?;
        Ok(Self { socket: Socket::open(Operation::Open, 0)?, is_mid_dump: false })
    }

    /// Opens a namespace. Refuses if that would load a module. Within [`crate::netns::visit`],
    /// [`Self::open`] does the same for less.
    pub fn open_in(namespace: &Namespace) -> Result<Self, Error> {
        ensure_available()?;
        let socket = socket::open_in(namespace, Operation::Open, 0)?;
        Ok(Self { socket, is_mid_dump: false })
    }

    /// The namespace that it is open in.
    pub fn namespace(&self) -> Result<Namespace, Error> {
        self.socket.namespace(Operation::Open)
    }

    /// Count and limit. About 6 microseconds, whatever the table's size.
    pub fn count_and_limit(&mut self) -> Result<GlobalStatistics, Error> {
        let request = self.request(Operation::Count, message_type::GET_STATS, 0, 0, |_| ())?;
        let mut answer = None;
        self.socket.exchange(Operation::Count, &String::new, &request, |message| {
            answer = Some(decode::global_statistics(message.attributes()?)?);
            Ok(true)
        })?;
        let missing = Malformed::Missing("number of entries");
        match answer {
            Some((Some(entries), limit)) => Ok(GlobalStatistics { entries, limit }),
            _ => Err(Error::Malformed { operation: Operation::Count, cause: missing }),
        }
    }

    /// The statistics of each CPU since the namespace was made, by CPU.
    pub fn statistics(&mut self) -> Result<Vec<Statistics>, Error> {
        let operation = Operation::Statistics;
        let flags = message::DUMP;
        let request = self.request(operation, message_type::GET_STATS_CPU, flags, 0, |_| ())?;
        self.by_cpu(operation, &request, decode::statistics)
    }

    /// Runs a dump of one message a CPU.
    pub(crate) fn by_cpu<T>(
        &mut self,
        operation: Operation,
        request: &[u8],
        decode: impl Fn(Attributes<'_>) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Error> {
        let mut cpus = Vec::new();
        let answer = self.socket.exchange(operation, &String::new, request, |message| {
            let (_, cpu) = message.netfilter_header()?;
            cpus.push((cpu, decode(message.attributes()?)?));
            Ok(false)
        });
        self.ended(&answer);
        answer?;
        cpus.sort_by_key(|(cpu, _)| *cpu);
        Ok(cpus.into_iter().map(|(_, value)| value).collect())
    }

    /// Notes how a dump ended: unless the kernel ended it itself, it is still on the socket.
    pub(crate) fn ended<T>(&mut self, answer: &Result<T, Error>) {
        self.is_mid_dump = !matches!(answer, Ok(_) | Err(Error::Kernel { .. }));
    }

    /// Delivers the entries that meet `filter`, in the order of the kernel's hash, until `visit`
    /// breaks. Streaming: memory does not grow with the table.
    ///
    /// Stopping costs only what was read; the socket is then replaced by a fresh one in the same
    /// namespace. Entries made or deleted meanwhile may or may not come. A part that the kernel
    /// marks as interrupted is counted, not repeated, since its entries are delivered already: see
    /// [`Self::collect`] for a whole dump that is.
    pub fn dump(
        &mut self,
        filter: &DumpFilter,
        mut visit: impl FnMut(&Flow) -> ControlFlow<()>,
    ) -> Result<Dump, Error> {
        match self.try_dump(message_type::GET, filter, filter, &mut visit) {
            Err((error, nothing_came)) => {
                let unknown = [libc::EINVAL, libc::EOPNOTSUPP, libc::ERANGE];
                let refused = error.errno().is_some_and(|errno| unknown.contains(&errno.0));
                if refused && nothing_came && !filter.is_all() {
                    // A kernel built without marks or zones: everything is checked here anyway.
                    let family = DumpFilter { family: filter.family, ..DumpFilter::ALL };
                    return self
                        .try_dump(message_type::GET, &family, filter, &mut visit)
                        .map_err(|(error, _)| error);
                }
                Err(error)
            }
            Ok(dump) => Ok(dump),
        }
    }

    /// As [`Self::dump`], of any list. The kernel filters the table alone; of the others it sends
    /// everything of the family.
    pub fn dump_list(
        &mut self,
        list: List,
        filter: &DumpFilter,
        mut visit: impl FnMut(&Flow) -> ControlFlow<()>,
    ) -> Result<Dump, Error> {
        let kind = match list {
            List::Table => return self.dump(filter, visit),
            List::Dying => message_type::GET_DYING,
            List::Unconfirmed => message_type::GET_UNCONFIRMED,
        };
        let family = DumpFilter { family: filter.family, ..DumpFilter::ALL };
        self.try_dump(kind, &family, filter, &mut visit).map_err(|(error, _)| error)
    }

    /// Delivers the table's entries of a family (or all) with their counters, which the kernel sets
    /// to zero as it writes them: also those of entries that are lost when `visit` breaks. There is
    /// no finer filter, since a kernel that ignores it would zero more than was asked for.
    pub fn dump_and_zero(
        &mut self,
        family: Option<Family>,
        mut visit: impl FnMut(&Flow) -> ControlFlow<()>,
    ) -> Result<Dump, Error> {
        let filter = DumpFilter { family, ..DumpFilter::ALL };
        self.try_dump(message_type::GET_AND_ZERO, &filter, &filter, &mut visit)
            .map_err(|(error, _)| error)
    }

    /// The first `size` entries, which are a uniform random sample of the table: it is dumped in
    /// the order of a keyed hash. The key is fixed for a boot, so it is the same sample each time.
    ///
    /// Costs about 3.3 microseconds an entry in a namespace that holds most of the host's entries;
    /// in a small one up to 0.4 microseconds for each entry of the host.
    pub fn sample(&mut self, size: u64, mut visit: impl FnMut(&Flow)) -> Result<Dump, Error> {
        if size == 0 {
            return Ok(Dump::default());
        }
        let mut left = size;
        self.dump(&DumpFilter::ALL, |flow| {
            visit(flow);
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    }

    /// All entries that meet `filter`; begun again when the table changed underneath.
    pub fn collect(&mut self, filter: &DumpFilter) -> Result<Vec<Flow>, Error> {
        self.fold(filter, |flows: &mut Vec<Flow>, flow| flows.push(flow.clone()))
            .map(|(flows, _)| flows)
    }

    /// Folds the entries that meet `filter` into a value, which starts as its default, and starts
    /// over when the table changed underneath: what comes back is of one whole dump. Fails with
    /// [`Error::Interrupted`] when it changes time and again.
    pub fn fold<T: Default>(
        &mut self,
        filter: &DumpFilter,
        mut visit: impl FnMut(&mut T, &Flow),
    ) -> Result<(T, Dump), Error> {
        until_whole(|value| {
            self.dump(filter, |flow| {
                visit(value, flow);
                ControlFlow::Continue(())
            })
        })
    }

    /// The entry that `tuple`, in either direction, belongs to; `None` if there is none.
    pub fn get(&mut self, tuple: &Tuple, zone: Zone) -> Result<Option<Flow>, Error> {
        let write = |builder: &mut Builder| encode::identity(builder, tuple, zone);
        if_any(self.one_entry(message_type::GET, tuple, write))
    }

    /// As [`Self::get`]; the kernel sets the entry's counters to zero as it writes them.
    pub fn get_and_zero(&mut self, tuple: &Tuple, zone: Zone) -> Result<Option<Flow>, Error> {
        let write = |builder: &mut Builder| encode::identity(builder, tuple, zone);
        if_any(self.one_entry(message_type::GET_AND_ZERO, tuple, write))
    }

    /// The entry that the attributes which `write` writes lead to.
    pub(crate) fn one_entry(
        &mut self,
        kind: u16,
        tuple: &Tuple,
        write: impl FnOnce(&mut Builder),
    ) -> Result<Flow, Error> {
        let operation = Operation::Get;
        let request = self.request(operation, kind, 0, tuple.family().number(), write)?;
        let mut flow = Flow::default();
        self.socket.exchange(operation, &|| tuple.to_string(), &request, |message| {
            decode::flow(message.attributes()?, &mut flow).map(|()| true)
        })?;
        Ok(flow)
    }

    fn try_dump(
        &mut self,
        kind: u16,
        sent: &DumpFilter,
        filter: &DumpFilter,
        visit: &mut dyn FnMut(&Flow) -> ControlFlow<()>,
    ) -> Result<Dump, (Error, bool)> {
        let operation = Operation::Dump;
        let (flags, family) = (message::DUMP, sent.family_number());
        let request = self
            .request(operation, kind, flags, family, |builder| sent.write(builder))
            .map_err(|error| (error, true))?;
        let mut dumping = Dumping { dump: Dump::default(), flow: Flow::default(), filter, visit };
        let outcome = self.run_dump(&request, &mut dumping);
        let dump = dumping.dump;
        match outcome {
            Ok(()) => Ok(dump),
            Err(error) => Err((error, dump == Dump::default())),
        }
    }

    fn run_dump(&mut self, request: &[u8], dumping: &mut Dumping<'_>) -> Result<(), Error> {
        let operation = Operation::Dump;
        let sequence = sequence_of(request);
        self.socket.send(operation, request)?;
        // Whatever ends this early leaves the kernel's dump on the socket.
        self.is_mid_dump = true;
        let mut buffer = vec![0; DUMP_BUFFER];
        loop {
            let datagram = self.socket.receive(operation, &mut buffer)?;
            for message in Messages(datagram) {
                let message = message.map_err(|cause| Error::Malformed { operation, cause })?;
                if !self.socket.is_answer(&message, sequence, sequence) {
                    continue;
                }
                match dumping.take(message) {
                    ControlFlow::Continue(()) => {}
                    ControlFlow::Break(End::Complete) => {
                        self.is_mid_dump = false;
                        dumping.dump.complete = true;
                        return Ok(());
                    }
                    ControlFlow::Break(End::Refused(refusal)) => {
                        self.is_mid_dump = false;
                        return Err(refusal.into_error(operation, String::new()));
                    }
                    ControlFlow::Break(End::Malformed(cause)) => {
                        return Err(Error::Malformed { operation, cause });
                    }
                    ControlFlow::Break(End::Stopped) => {
                        // If this fails, the next request tries again and says why.
                        _ = self.abandon_dump();
                        return Ok(());
                    }
                }
            }
        }
    }

    /// A request, complete and numbered, on a socket that is ready for it.
    pub(crate) fn request(
        &mut self,
        operation: Operation,
        kind: u16,
        flags: u16,
        family: u8,
        write: impl FnOnce(&mut Builder),
    ) -> Result<Vec<u8>, Error> {
        self.request_of(operation, CONNTRACK | kind, flags, family, write)
    }

    /// The same for a whole message type, which names its subsystem.
    pub(crate) fn request_of(
        &mut self,
        operation: Operation,
        kind: u16,
        flags: u16,
        family: u8,
        write: impl FnOnce(&mut Builder),
    ) -> Result<Vec<u8>, Error> {
        self.make_ready()?;
        let sequence = self.socket.next_sequences(1);
        let mut builder = Builder::default();
        builder.begin(kind, message::REQUEST | flags, sequence, family);
        write(&mut builder);
        if builder.end() {
            Ok(builder.into_bytes())
        } else {
            Err(Error::TooLong { operation, object: String::new() })
        }
    }

    /// Notes that a dump was left before its end.
    pub(crate) const fn left_dump(&mut self) {
        self.is_mid_dump = true;
    }

    pub(crate) const fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(crate) const fn socket_mut(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// Before each request: the module may have been unloaded since the socket was opened.
    pub(crate) fn make_ready(&mut self) -> Result<(), Error> {
        ensure_available()?;
        self.abandon_dump()
    }

    /// The only way to end a dump early is to close its socket.
    fn abandon_dump(&mut self) -> Result<(), Error> {
        if self.is_mid_dump {
            self.socket = self.socket.another(Operation::Open)?;
            self.is_mid_dump = false;
        }
        Ok(())
    }
}

/// An entry that is not there is no error.
fn if_any(entry: Result<Flow, Error>) -> Result<Option<Flow>, Error> {
    match entry {
        Ok(flow) => Ok(Some(flow)),
        Err(error) if error.errno() == Some(Errno(libc::ENOENT)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Repeats a dump, each time with a fresh value, until one was not interrupted.
fn until_whole<T: Default>(
    mut attempt: impl FnMut(&mut T) -> Result<Dump, Error>,
) -> Result<(T, Dump), Error> {
    for _ in 0..DUMP_ATTEMPTS {
        let mut value = T::default();
        let dump = attempt(&mut value)?;
        if dump.interruptions == 0 {
            return Ok((value, dump));
        }
    }
    Err(Error::Interrupted { operation: Operation::Dump, attempts: DUMP_ATTEMPTS })
}

pub(crate) fn ensure_available() -> Result<(), Error> {
    match Availability::look() {
        Availability::Ready => Ok(()),
        availability => Err(Error::Unavailable { availability }),
    }
}

/// A dump under way.
struct Dumping<'a> {
    dump: Dump,
    flow: Flow,
    filter: &'a DumpFilter,
    visit: &'a mut dyn FnMut(&Flow) -> ControlFlow<()>,
}

enum End {
    Complete,
    Stopped,
    Refused(Refusal),
    Malformed(Malformed),
}

impl Dumping<'_> {
    #[inline]
    fn take(&mut self, message: Message<'_>) -> ControlFlow<End> {
        if message.flags & message::DUMP_INTERRUPTED != 0 {
            self.dump.interruptions += 1;
        }
        let message = match answer(message) {
            Ok(Answer::Content(message)) => message,
            Ok(Answer::Nothing) => return ControlFlow::Continue(()),
            Ok(Answer::Done) => return ControlFlow::Break(End::Complete),
            Ok(Answer::Refused(refusal)) => return ControlFlow::Break(End::Refused(refusal)),
            Err(cause) => return ControlFlow::Break(End::Malformed(cause)),
        };
        let attributes = message.attributes();
        if attributes.and_then(|list| decode::flow(list, &mut self.flow)).is_err() {
            self.dump.undecodable += 1;
            return ControlFlow::Continue(());
        }
        if !self.filter.matches(&self.flow) {
            self.dump.filtered_out += 1;
            return ControlFlow::Continue(());
        }
        self.dump.entries += 1;
        (self.visit)(&self.flow).map_break(|()| End::Stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest message with `flags`: an entry without attributes, which cannot be read.
    fn taken(kind: u16, flags: u16) -> Dump {
        let mut builder = Builder::default();
        builder.begin(kind, flags, 1, 2);
        assert!(builder.end());
        let message = Messages(builder.bytes()).next().unwrap().unwrap();
        let mut visit = |_: &Flow| ControlFlow::Continue(());
        let (flow, filter) = (Flow::default(), &DumpFilter::ALL);
        let mut dumping = Dumping { dump: Dump::default(), flow, filter, visit: &mut visit };
        let _ = dumping.take(message);
        dumping.dump
    }

    #[test]
    fn an_interruption_is_noticed_in_entries_and_at_the_end() {
        let interrupted = message::DUMP_INTERRUPTED;
        assert_eq!(taken(CONNTRACK, interrupted).interruptions, 1);
        assert_eq!(taken(message::DONE, interrupted).interruptions, 1);
        assert_eq!(taken(CONNTRACK, 0).interruptions, 0);
    }

    #[test]
    fn an_interrupted_dump_is_begun_afresh() {
        let mut interruptions = [2, 1, 0].into_iter();
        let whole = until_whole(|seen: &mut u32| {
            *seen += 1;
            let interruptions = interruptions.next().unwrap();
            Ok(Dump { interruptions, ..Dump::default() })
        });
        assert_eq!(whole.unwrap().0, 1, "what an interrupted dump told is forgotten");
        let endless = until_whole(|_: &mut u32| Ok(Dump { interruptions: 1, ..Dump::default() }));
        assert!(matches!(endless, Err(Error::Interrupted { attempts: DUMP_ATTEMPTS, .. })));
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_counted() {
        assert_eq!(taken(CONNTRACK, 0), Dump { undecodable: 1, ..Dump::default() });
    }

    #[test]
    fn control_messages_are_no_entries() {
        assert_eq!(taken(message::NOOP, 0), Dump::default());
    }
}
