//! System calls that the standard library does not offer: the only module with `unsafe` code.
//!
//! Every function here is safe to call; the reasons stand at each block. Interrupted calls are
//! repeated.

#![expect(unsafe_code, reason = "system calls through libc; each block says why it is sound")]

use std::fs::File;
use std::io::{self, Error};
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// `include/uapi/linux/netlink.h`; not in libc for GNU.
const NETLINK_CAP_ACK: libc::c_int = 10;
const NETLINK_EXT_ACK: libc::c_int = 11;
/// `include/uapi/linux/sockios.h`: the namespace of a socket.
const SIOCGSKNS: libc::c_ulong = 0x894C;
/// `include/uapi/linux/nsfs.h`, `_IO(0xb7, 3)`.
const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
/// `include/uapi/linux/sock_diag.h`: nine counters, the last is `SK_MEMINFO_DROPS`.
const SK_MEMINFO_VARS: usize = 9;

/// A netlink socket of a protocol (`NETLINK_NETFILTER`), with extended acknowledgements on where
/// the kernel has them.
pub(crate) fn netlink_socket(protocol: libc::c_int) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, protocol) };
    let socket = owned(fd)?;
    // Older kernels refuse these; errors then come without their text.
    _ = set_option(socket.as_fd(), libc::SOL_NETLINK, NETLINK_CAP_ACK, &1);
    _ = set_option(socket.as_fd(), libc::SOL_NETLINK, NETLINK_EXT_ACK, &1);
    Ok(socket)
}

/// Binds a netlink socket to multicast groups (bit *n* - 1 is group *n*) and returns the port that
/// the kernel chose.
pub(crate) fn bind_netlink(socket: BorrowedFd<'_>, groups: u32) -> io::Result<u32> {
    let mut address = netlink_address(groups);
    let length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
    // SAFETY: `address` is a valid sockaddr_nl of the given length and outlives the call.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    succeeded(bound)?;
    let mut filled = length;
    // SAFETY: the kernel writes at most `filled` bytes, the size of `address`.
    let named = unsafe {
        libc::getsockname(socket.as_raw_fd(), (&raw mut address).cast(), &raw mut filled)
    };
    succeeded(named)?;
    Ok(address.nl_pid)
}

fn netlink_address(groups: u32) -> libc::sockaddr_nl {
    // SAFETY: sockaddr_nl is plain integers, for which all zeroes is a value.
    let mut address: libc::sockaddr_nl = unsafe { MaybeUninit::zeroed().assume_init() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    address.nl_groups = groups;
    address
}

/// How long a receive waits for data before it fails with `EAGAIN`.
pub(crate) fn set_receive_timeout(socket: BorrowedFd<'_>, timeout: Duration) -> io::Result<()> {
    let value = libc::timeval {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_usec: libc::suseconds_t::from(timeout.subsec_micros()),
    };
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &value)
}

/// Sets the receive buffer, beyond `net.core.rmem_max` with `CAP_NET_ADMIN` in the initial user
/// namespace, else up to it. Returns what the kernel made of it, bytes.
pub(crate) fn set_receive_buffer(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<usize> {
    let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    if set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &value).is_err() {
        set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, &value)?;
    }
    let mut actual: libc::c_int = 0;
    option(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, &mut actual)?;
    Ok(usize::try_from(actual).unwrap_or(0))
}

/// Messages that the kernel could not queue on this socket since it was opened, modulo 2^32
/// (`SK_MEMINFO_DROPS`; Linux 4.12).
pub(crate) fn socket_drops(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut values = [0_u32; SK_MEMINFO_VARS];
    option(socket, libc::SOL_SOCKET, libc::SO_MEMINFO, &mut values)?;
    Ok(values[SK_MEMINFO_VARS - 1])
}

/// Sends one datagram to the kernel.
pub(crate) fn send(socket: BorrowedFd<'_>, message: &[u8]) -> io::Result<()> {
    retry(|| {
        // SAFETY: the pointer and length are of one live slice.
        let sent =
            unsafe { libc::send(socket.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) };
        length(sent)
    })
    .map(drop)
}

/// A received datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    /// Bytes in the buffer.
    pub(crate) length: usize,
    /// Whether it was longer than the buffer and its rest is lost.
    pub(crate) truncated: bool,
    /// Whether the kernel sent it (port 0), not another process.
    pub(crate) from_kernel: bool,
}

/// Receives one datagram; waits as long as the socket's receive timeout, or not at all.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    wait: bool,
) -> io::Result<Received> {
    let mut source = netlink_address(0);
    let mut part = iovec(buffer);
    let mut header = message_header(&mut part, &mut source);
    let flags = if wait { 0 } else { libc::MSG_DONTWAIT };
    let received = retry(|| {
        // SAFETY: `header` points to `part` and `source`, which live here; `part` is `buffer`.
        length(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) })
    })?;
    let truncated = header.msg_flags & libc::MSG_TRUNC != 0;
    Ok(Received { length: received.min(buffer.len()), truncated, from_kernel: source.nl_pid == 0 })
}

/// Receives up to as many datagrams as `slots` has room for, without waiting; datagram *n* lands
/// at `n * slot` in `buffer`.
pub(crate) fn receive_many(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    slot: usize,
    received: &mut Vec<Received>,
) -> io::Result<()> {
    received.clear();
    let mut parts: Vec<libc::iovec> = buffer.chunks_exact_mut(slot).map(iovec).collect();
    let mut sources = vec![netlink_address(0); parts.len()];
    let mut headers: Vec<libc::mmsghdr> = parts
        .iter_mut()
        .zip(&mut sources)
        .map(|(part, source)| libc::mmsghdr { msg_hdr: message_header(part, source), msg_len: 0 })
        .collect();
    let count = retry(|| {
        // SAFETY: each header points to its own part and source, all of which live here.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                headers.len() as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        length(count as isize)
    })?;
    received.extend(headers.iter().zip(&sources).take(count).map(|(header, source)| Received {
        length: (header.msg_len as usize).min(slot),
        truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        from_kernel: source.nl_pid == 0,
    }));
    Ok(())
}

/// Waits until the descriptor is readable or `timeout` is over; returns whether it is readable (an
/// error pending on it counts: the next receive reports it).
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, timeout: Duration) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let milliseconds = libc::c_int::try_from(timeout.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: one pollfd that lives here.
    match unsafe { libc::poll(&raw mut poll, 1, milliseconds) } {
        -1 => match Error::last_os_error() {
            // The caller asked for at most this long: a signal ends the wait early.
            error if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            error => Err(error),
        },
        ready => Ok(ready > 0),
    }
}

/// The network namespace that a socket belongs to.
pub(crate) fn socket_namespace(socket: BorrowedFd<'_>) -> io::Result<File> {
    // SAFETY: SIOCGSKNS takes no argument and returns a new descriptor.
    let fd = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS as _) };
    owned(fd).map(File::from)
}

/// Moves the calling **thread** into a network namespace.
pub(crate) fn enter_network_namespace(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    succeeded(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) })
}

/// Whether a descriptor of the namespace file system is a network namespace.
pub(crate) fn is_network_namespace(namespace: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: NS_GET_NSTYPE takes no argument.
    let kind = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_NSTYPE as _) };
    succeeded(kind)?;
    Ok(kind == libc::CLONE_NEWNET)
}

/// Whether a descriptor (an `O_PATH` one will do) lies on the namespace file system.
pub(crate) fn is_on_nsfs(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut status = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the kernel fills the structure, which is all integers and so valid when zeroed.
    let status = unsafe {
        succeeded(libc::fstatfs(fd.as_raw_fd(), status.as_mut_ptr()))?;
        status.assume_init()
    };
    Ok(i128::from(status.f_type) == i128::from(libc::NSFS_MAGIC))
}

/// The running kernel's release, such as `6.12.0`.
pub(crate) fn kernel_release() -> Option<String> {
    let release = std::fs::read_to_string(Path::new("/proc/sys/kernel/osrelease")).ok()?;
    Some(release.trim_end().to_owned())
}

fn iovec(buffer: &mut [u8]) -> libc::iovec {
    libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() }
}

fn message_header(part: &mut libc::iovec, source: &mut libc::sockaddr_nl) -> libc::msghdr {
    // SAFETY: msghdr is integers and pointers, for which all zeroes is a value.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_name = std::ptr::from_mut(source).cast();
    header.msg_namelen = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
    header.msg_iov = part;
    header.msg_iovlen = 1;
    header
}

fn set_option<T>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes, the size of `value`.
    succeeded(unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), length)
    })
}

/// `T` is an integer or an array of them: any bytes that the kernel writes are a value of it.
fn option<T: Copy>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: &mut T,
) -> io::Result<()> {
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, the size of `value`.
    succeeded(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_mut(value).cast(),
            &raw mut length,
        )
    })
}

fn owned(fd: libc::c_int) -> io::Result<OwnedFd> {
    succeeded(fd)?;
    // SAFETY: the kernel has just returned this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn succeeded(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}

fn length(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| Error::last_os_error())
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
