//! Packets that the router itself sends: raw sockets that take whole packets.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use anyhow::Context;
use ctkeeper_differential::ground::OWN;
use ctkeeper_differential::wire;
use nix::sys::socket::{setsockopt, sockopt};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, SendFlags, SocketFlags, SocketType, sendto, socket_with,
};

/// A raw socket of each family.
#[derive(Debug)]
pub(super) struct Own {
    sockets: [OwnedFd; 2],
}

impl Own {
    /// Opens them in the calling thread's namespace.
    pub(super) fn open() -> anyhow::Result<Self> {
        let open = |family| -> anyhow::Result<OwnedFd> {
            // Sockets of this protocol take whole packets, header included (raw(7)).
            let raw = Protocol::from_raw(255.try_into()?);
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(family, SocketType::RAW, flags, Some(raw))
                .context("opening a raw socket")?;
            setsockopt(&socket, sockopt::Mark, &OWN).context("marking a raw socket")?;
            Ok(socket)
        };
        Ok(Self { sockets: [open(AddressFamily::INET)?, open(AddressFamily::INET6)?] })
    }

    /// Sends a packet. What the rules or the tracker drop is refused, which is no failure.
    pub(super) fn send(&self, packet: &[u8]) -> anyhow::Result<()> {
        let seen = wire::read(packet).context("no packet")?;
        let to = seen.ends.destination.address;
        let socket = match to {
            IpAddr::V4(_) => &self.sockets[0],
            IpAddr::V6(_) => &self.sockets[1],
        };
        match sendto(socket, packet, SendFlags::empty(), &SocketAddr::new(to, 0)) {
            Ok(_) | Err(Errno::PERM) => Ok(()),
            Err(error) => Err(error).context("sending a packet"),
        }
    }
}
