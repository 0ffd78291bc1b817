//! Packets by raw sockets: sent, counted, and forgotten.

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, SendAncillaryBuffer, SendFlags, SocketAddrAny, SocketFlags, SocketType,
    addr::SocketAddrArg, ipproto,
};

use super::packet::{Form, Maker};
use super::pool::{Token, kind_of};
use super::profile::Profile;
use super::schedule::Moment;
use super::target::Routes;
use super::worker::{Context, Driver};
use super::{Closing, LoadError};

/// Packets of one load.
#[derive(Debug)]
pub(super) struct Packets {
    socket: OwnedFd,
    maker: Maker,
    /// The packets of this batch, one behind the other.
    bytes: Vec<u8>,
    /// Where each goes and where it ends.
    batch: Vec<(SocketAddrAny, usize)>,
}

impl Packets {
    /// Needs `CAP_NET_RAW` in the namespace.
    pub(super) fn new(form: Form, profile: &Profile, routes: Routes) -> Result<Self, LoadError> {
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        let target = routes.targets().first().copied().unwrap_or(any);
        let own = own_address(target).map_err(LoadError::kernel(
            "finding a way to",
            target,
            "is there a route?",
        ))?;
        let maker = Maker::new(form, routes, own, profile.seed);
        let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = net::socket_with(family, SocketType::RAW, flags, Some(ipproto::RAW))
            .map_err(LoadError::kernel("opening", "a raw socket", "it needs root (CAP_NET_RAW)"))?;
        Ok(Self { socket, maker, bytes: Vec::new(), batch: Vec::new() })
    }

    fn send(&mut self, cx: &mut Context<'_>) {
        let slices: Vec<_> =
            pieces(&self.bytes, &self.batch).map(|piece| [IoSlice::new(piece)]).collect();
        let mut controls: Vec<_> = slices.iter().map(|_| SendAncillaryBuffer::default()).collect();
        let mut messages: Vec<_> = self
            .batch
            .iter()
            .zip(&slices)
            .zip(&mut controls)
            .map(|(((target, _), slice), control)| {
                net::MMsgHdr::new_with_addr(target, slice, control)
            })
            .collect();
        let mut rest = messages.as_mut_slice();
        while !rest.is_empty() {
            let done = match net::sendmmsg(&self.socket, rest, SendFlags::empty()) {
                Ok(sent) => {
                    cx.tally.packets_sent(sent as u64);
                    sent
                }
                Err(Errno::INTR) => 0,
                // The error is that of the first.
                Err(error) => {
                    // A raw socket whose buffer is full says that it would block.
                    let error = if error == Errno::AGAIN { Errno::NOBUFS } else { error };
                    cx.tally.failed(kind_of(error));
                    1
                }
            };
            rest = rest.get_mut(done..).unwrap_or_default();
        }
    }
}

/// The packets of a batch.
fn pieces<'a>(
    bytes: &'a [u8],
    batch: &'a [(SocketAddrAny, usize)],
) -> impl Iterator<Item = &'a [u8]> {
    let starts = std::iter::once(0).chain(batch.iter().map(|(_, end)| *end));
    starts.zip(batch).map(|(start, (_, end))| bytes.get(start..*end).unwrap_or_default())
}

/// The address that the kernel would send from.
fn own_address(target: SocketAddr) -> Result<IpAddr, Errno> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = net::socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    net::connect(&socket, &target)?;
    Ok(SocketAddr::try_from(net::getsockname(&socket)?)?.ip())
}

impl Driver for Packets {
    fn launch(&mut self, number: u64, _: Moment, _: &mut Context<'_>) {
        if let Some(mut target) = self.maker.make(number, &mut self.bytes) {
            // The port of a raw IPv6 destination is the protocol, and must be none here
            // (`rawv6_sendmsg`, net/ipv6/raw.c, Linux 6.1).
            target.set_port(0);
            self.batch.push((target.as_any(), self.bytes.len()));
        }
    }

    fn flush(&mut self, cx: &mut Context<'_>) {
        if !self.batch.is_empty() {
            self.send(cx);
        }
        self.bytes.clear();
        self.batch.clear();
    }

    fn ready(&mut self, _: Token, _: EventFlags, _: &mut Context<'_>) {}

    fn fire(&mut self, _: &mut Context<'_>) {}

    fn next(&self) -> Option<Moment> {
        None
    }

    fn probe(&mut self, _: Option<u64>, _: Moment) {}

    fn open(&self) -> u64 {
        0
    }

    fn waiting(&self) -> u64 {
        0
    }

    fn finish(&mut self) {}

    fn abandon(&mut self, _: Closing, _: &mut Context<'_>) {}
}
