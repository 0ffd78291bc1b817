//! An nfnetlink socket: requests, answers, acknowledgements.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use crate::error::{Errno, Error, Operation};
use crate::netns::Namespace;
use crate::sys::{self, Received};
use crate::wire::{
    Attributes, HEADER, Malformed, Message, Messages, message, native_u32, sequence_of,
};

/// The kernel answers at once, within the very system calls; so long a silence means that the
/// answer got lost. It does not bound a dump's own walk, which runs inside the receive call.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Room for any answer but a dump's. A dump's parts before the first receive are no larger either
/// (`NLMSG_GOODSIZE`, at most 8 KiB), and grow only with the buffers that are offered.
pub(crate) const SMALL_BUFFER: usize = 8 * 1024;

/// The kernel fills at most this much at a time (`netlink_recvmsg`, Linux 6.12); larger gains
/// nothing, 8 KiB costs a tenth more.
pub(crate) const DUMP_BUFFER: usize = 32 * 1024;

/// `NLMSGERR_ATTR_MSG`, `NLMSGERR_ATTR_OFFS`.
const ERROR_TEXT: u16 = 1;
const ERROR_OFFSET: u16 = 2;

/// A bound socket.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) fd: OwnedFd,
    port: u32,
    sequence: u32,
}

/// An error that the kernel reports in a message.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) errno: Errno,
    pub(crate) message: Option<Box<str>>,
    pub(crate) offset: Option<u32>,
}

impl Refusal {
    pub(crate) fn into_error(self, operation: Operation, object: String) -> Error {
        let Self { errno, message, offset } = self;
        Error::Kernel { operation, object, errno, message, offset }
    }
}

/// What one message of an answer means.
pub(crate) enum Answer<'a> {
    /// Content.
    Content(Message<'a>),
    /// Nothing: a control message without meaning here.
    Nothing,
    /// The end: of a dump, or the acknowledgement of a request.
    Done,
    /// The end, in failure.
    Refused(Refusal),
}

impl Socket {
    /// Opens a socket in the calling thread's namespace, with membership of multicast groups.
    pub(crate) fn open(operation: Operation, groups: u32) -> Result<Self, Error> {
        Self::open_protocol(operation, libc::NETLINK_NETFILTER, groups)
    }

    /// Opens a socket of another netlink protocol than nfnetlink (`NETLINK_SOCK_DIAG`).
    pub(crate) fn open_protocol(
        operation: Operation,
        protocol: libc::c_int,
        groups: u32,
    ) -> Result<Self, Error> {
        let failed = |error: io::Error| Error::kernel(operation, String::new(), error);
        let fd = sys::netlink_socket(protocol).map_err(failed)?;
        let port = sys::bind_netlink(fd.as_fd(), groups).map_err(failed)?;
        sys::set_receive_timeout(fd.as_fd(), RECEIVE_TIMEOUT).map_err(failed)?;
        Ok(Self { fd, port, sequence: 0 })
    }

    /// Opens a socket in the namespace of this one.
    pub(crate) fn another(&self, operation: Operation) -> Result<Self, Error> {
        let namespace = self.namespace(operation)?;
        open_in(&namespace, operation, 0)
    }

    /// The namespace that it was opened in.
    pub(crate) fn namespace(&self, operation: Operation) -> Result<Namespace, Error> {
        let file = sys::socket_namespace(self.fd.as_fd());
        Namespace::from_file(file.map_err(|e| Error::kernel(operation, String::new(), e))?)
    }

    /// Numbers for `count` requests: the first of them.
    pub(crate) fn next_sequences(&mut self, count: u32) -> u32 {
        let first = self.sequence.wrapping_add(1);
        self.sequence = self.sequence.wrapping_add(count);
        first
    }

    pub(crate) fn send(&self, operation: Operation, bytes: &[u8]) -> Result<(), Error> {
        sys::send(self.fd.as_fd(), bytes)
            .map_err(|error| Error::kernel(operation, String::new(), error))
    }

    /// Receives one datagram from the kernel; what other processes send is dropped.
    pub(crate) fn receive<'b>(
        &self,
        operation: Operation,
        buffer: &'b mut [u8],
    ) -> Result<&'b [u8], Error> {
        let received = self.receive_from_kernel(operation, buffer, true)?;
        let seconds = RECEIVE_TIMEOUT.as_secs();
        complete(operation, received.ok_or(Error::NoAnswer { operation, seconds })?, buffer)
    }

    /// As [`Self::receive`], of what is there already; `None` when there is nothing.
    pub(crate) fn receive_at_once<'b>(
        &self,
        operation: Operation,
        buffer: &'b mut [u8],
    ) -> Result<Option<&'b [u8]>, Error> {
        let received = self.receive_from_kernel(operation, buffer, false)?;
        received.map(|received| complete(operation, received, buffer)).transpose()
    }

    /// Whether a message is addressed to us and answers one of the requests from `first` to
    /// `last`: answers to earlier, abandoned requests are not.
    pub(crate) fn is_answer(&self, message: &Message<'_>, first: u32, last: u32) -> bool {
        let within = message.sequence.wrapping_sub(first) <= last.wrapping_sub(first);
        message.port == self.port && within
    }

    /// The netlink port that the kernel gave it.
    pub(crate) const fn port(&self) -> u32 {
        self.port
    }

    /// Sends one request and hands each message of its answer to `take`, until the answer ends:
    /// after an acknowledgement, a dump's end, an error, or when `take` returns true.
    pub(crate) fn exchange(
        &self,
        operation: Operation,
        object: &dyn Fn() -> String,
        request: &[u8],
        take: impl FnMut(Message<'_>) -> Result<bool, Malformed>,
    ) -> Result<(), Error> {
        self.exchange_with(&mut [0; SMALL_BUFFER], operation, object, request, take).map(drop)
    }

    /// As [`Self::exchange`], for answers whose parts may be larger than the small buffer; returns
    /// whether a dump was interrupted by a change.
    pub(crate) fn exchange_with(
        &self,
        buffer: &mut [u8],
        operation: Operation,
        object: &dyn Fn() -> String,
        request: &[u8],
        mut take: impl FnMut(Message<'_>) -> Result<bool, Malformed>,
    ) -> Result<bool, Error> {
        let malformed = |cause| Error::Malformed { operation, cause };
        let sequence = sequence_of(request);
        let mut interrupted = false;
        self.send(operation, request)?;
        loop {
            for message in Messages(self.receive(operation, buffer)?) {
                let message = message.map_err(malformed)?;
                if !self.is_answer(&message, sequence, sequence) {
                    continue;
                }
                interrupted |= message.flags & message::DUMP_INTERRUPTED != 0;
                match answer(message).map_err(malformed)? {
                    Answer::Nothing => {}
                    Answer::Done => return Ok(interrupted),
                    Answer::Refused(refusal) => {
                        return Err(refusal.into_error(operation, object()));
                    }
                    Answer::Content(message) => {
                        if take(message).map_err(malformed)? {
                            return Ok(interrupted);
                        }
                    }
                }
            }
        }
    }

    /// `None` when nothing came: within the timeout if it may `wait`.
    fn receive_from_kernel(
        &self,
        operation: Operation,
        buffer: &mut [u8],
        wait: bool,
    ) -> Result<Option<Received>, Error> {
        loop {
            match sys::receive(self.fd.as_fd(), buffer, wait) {
                Ok(received) if received.from_kernel => return Ok(Some(received)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(Error::kernel(operation, String::new(), error)),
            }
        }
    }
}

/// Opens a socket in a namespace: on this thread if it is in it already, which needs no privilege
/// to enter.
pub(crate) fn open_in(
    namespace: &Namespace,
    operation: Operation,
    groups: u32,
) -> Result<Socket, Error> {
    if namespace.is_current() {
        return Socket::open(operation, groups);
    }
    crate::netns::enter(namespace, |_| Socket::open(operation, groups))?
}

/// The datagram in the buffer, unless it was longer than that.
fn complete(operation: Operation, received: Received, buffer: &[u8]) -> Result<&[u8], Error> {
    if received.truncated {
        return Err(Error::Truncated { operation });
    }
    Ok(buffer.get(..received.length).unwrap_or_default())
}

/// Sorts a message of an answer.
pub(crate) fn answer(message: Message<'_>) -> Result<Answer<'_>, Malformed> {
    Ok(match message.kind {
        message::NOOP | message::OVERRUN => Answer::Nothing,
        // A dump's end may carry an error number, and then attributes like an error's.
        message::DONE => match message.payload.first_chunk::<4>() {
            Some(code) if i32::from_ne_bytes(*code) < 0 => {
                Answer::Refused(refusal(i32::from_ne_bytes(*code), message.payload.get(4..)))
            }
            _ => Answer::Done,
        },
        message::ERROR => {
            let code = message.payload.first_chunk::<4>().ok_or(Malformed::Message)?;
            match i32::from_ne_bytes(*code) {
                0 => Answer::Done,
                code => Answer::Refused(refusal(code, error_attributes(&message))),
            }
        }
        _ => Answer::Content(message),
    })
}

/// The attributes behind an error: after the request's header, and its payload unless capped.
fn error_attributes<'a>(message: &Message<'a>) -> Option<&'a [u8]> {
    if message.flags & message::WITH_ATTRIBUTES == 0 {
        return None;
    }
    let request = message.payload.get(4..)?;
    let length = match message.flags & message::CAPPED {
        0 => (native_u32(request, 0)? as usize).checked_next_multiple_of(4)?,
        _ => HEADER,
    };
    request.get(length..)
}

fn refusal(code: i32, attributes: Option<&[u8]>) -> Refusal {
    let mut refusal = Refusal { errno: Errno(code.saturating_neg()), message: None, offset: None };
    for attribute in Attributes(attributes.unwrap_or_default()).map_while(Result::ok) {
        match attribute.kind {
            ERROR_TEXT => refusal.message = Some(attribute.text().into_boxed_str()),
            ERROR_OFFSET => refusal.offset = attribute.bytes().ok().map(u32::from_ne_bytes),
            _ => {}
        }
    }
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A GET without a tuple: `-EINVAL`, capped, no text (Linux 6.18).
    const REFUSED: [u8; 36] = [
        0x24, 0, 0, 0, 2, 0, 0, 1, 7, 0, 0, 0, 0x41, 0x6a, 0, 0, 0xea, 0xff, 0xff, 0xff, 0x14, 0,
        0, 0, 1, 1, 1, 0, 7, 0, 0, 0, 0, 0, 0, 0,
    ];

    /// A dump with four stray bytes behind its filter: `-EINVAL` and the kernel's words.
    const EXPLAINED: [u8; 80] = [
        0x50, 0, 0, 0, 2, 0, 0, 3, 7, 0, 0, 0, 0xbf, 0x69, 0, 0, 0xea, 0xff, 0xff, 0xff, 0x20, 0,
        0, 0, 1, 1, 1, 3, 7, 0, 0, 0, 0, 0, 0, 0, 0x2c, 0, 1, 0, b'b', b'y', b't', b'e', b's',
        b' ', b'l', b'e', b'f', b't', b'o', b'v', b'e', b'r', b' ', b'a', b'f', b't', b'e', b'r',
        b' ', b'p', b'a', b'r', b's', b'i', b'n', b'g', b' ', b'a', b't', b't', b'r', b'i', b'b',
        b'u', b't', b'e', b's', 0,
    ];

    fn refusal_of(bytes: &[u8]) -> Refusal {
        let message = Messages(bytes).next().unwrap().unwrap();
        match answer(message).unwrap() {
            Answer::Refused(refusal) => refusal,
            _ => panic!("not a refusal"),
        }
    }

    #[test]
    fn a_refusal_without_words() {
        let refusal = refusal_of(&REFUSED);
        assert_eq!(refusal.errno, Errno(libc::EINVAL));
        assert_eq!(refusal.message, None);
    }

    #[test]
    fn a_refusal_with_the_kernels_words() {
        let refusal = refusal_of(&EXPLAINED);
        assert_eq!(refusal.message.as_deref(), Some("bytes leftover after parsing attributes"));
        assert_eq!(refusal.offset, None);
    }

    /// Without `NETLINK_CAP_ACK` the whole request stands before the attributes.
    #[test]
    fn a_refusal_that_repeats_the_request() {
        let mut bytes = vec![0; 16];
        bytes.extend_from_slice(&(-libc::ERANGE).to_ne_bytes());
        bytes.extend_from_slice(&20_u32.to_ne_bytes());
        bytes.extend_from_slice(&[0; 16]);
        bytes.extend_from_slice(&[8, 0, ERROR_OFFSET as u8, 0, 44, 0, 0, 0]);
        let length = bytes.len() as u32;
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes[4..6].copy_from_slice(&message::ERROR.to_ne_bytes());
        bytes[6..8].copy_from_slice(&message::WITH_ATTRIBUTES.to_ne_bytes());
        let refusal = refusal_of(&bytes);
        assert_eq!(refusal.errno, Errno(libc::ERANGE));
        assert_eq!(refusal.offset, Some(44));
    }

    #[test]
    fn a_dump_may_end_in_failure() {
        let mut bytes = vec![20, 0, 0, 0, 3, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend_from_slice(&(-libc::EINTR).to_ne_bytes());
        assert_eq!(refusal_of(&bytes).errno, Errno(libc::EINTR));
        bytes[16..].copy_from_slice(&[0; 4]);
        let message = Messages(&bytes).next().unwrap().unwrap();
        assert!(matches!(answer(message), Ok(Answer::Done)));
    }

    #[test]
    fn an_error_without_a_number_is_malformed() {
        let bytes = [18, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2];
        let message = Messages(&bytes).next().unwrap().unwrap();
        assert!(answer(message).is_err());
    }
}
