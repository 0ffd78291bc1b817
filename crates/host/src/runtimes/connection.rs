//! Connecting within a time.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::Socket;

/// Connects; the writing side keeps the rest of the time as its timeout.
pub(super) fn open(socket: &Socket, deadline: Instant) -> io::Result<UnixStream> {
    // Held by its file, so that what is connected to is what was looked at; the path may be longer
    // than an address can be, too.
    let held = rustix::fs::open(&socket.path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let held = std::fs::File::from(held);
    if let Some(user) = socket.user
        && held.metadata()?.uid() != user
    {
        return Err(io::Error::other("it is no longer the user's own"));
    }
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held));
    let own = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // A listener whose queue is full would keep us waiting (unix_stream_connect, net/unix/af_unix.c).
    set_socket_timeout(&own, Timeout::Send, Some(left(deadline)?))?;
    connect(&own, &SocketAddrUnix::new(path.as_str())?)?;
    Ok(UnixStream::from(own))
}

/// The time that is left, or that there is none.
pub(super) fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}
