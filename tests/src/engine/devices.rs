//! The two interfaces of the router, as files: what is written arrives there, what is sent out of
//! them is read.

use std::fmt;
use std::io::ErrorKind;

use anyhow::Context;
use ctkeeper_differential::ground::INTERFACES;
use ctkeeper_differential::sequence::Side;
use ctkeeper_differential::transcript::Out;
use ctkeeper_differential::wire;
use tappers::{Interface, Tun};

/// More than any packet has.
const LARGEST: usize = 65_536;

/// Both interfaces.
pub(super) struct Devices {
    ends: [Tun; 2],
    buffer: Vec<u8>,
}

impl fmt::Debug for Devices {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Devices")
    }
}

impl Devices {
    /// Makes them in the calling thread's namespace.
    pub(super) fn create() -> anyhow::Result<Self> {
        let make = |name: &str| -> anyhow::Result<Tun> {
            let mut device = Tun::new_named(Interface::new(name)?)
                .context("making a TUN device (modprobe tun)")?;
            device.set_nonblocking(true)?;
            Ok(device)
        };
        let ends = [make(INTERFACES[0])?, make(INTERFACES[1])?];
        Ok(Self { ends, buffer: vec![0; LARGEST] })
    }

    const fn end(&self, side: Side) -> &Tun {
        match side {
            Side::Client => &self.ends[0],
            Side::Server => &self.ends[1],
        }
    }

    /// A packet arrives from a side. It has gone its way when this returns: the kernel forwards it
    /// within the call (`tun_get_user`, `drivers/net/tun.c`, Linux 6.12).
    pub(super) fn arrive(&self, side: Side, packet: &[u8]) -> anyhow::Result<()> {
        match self.end(side).send(packet) {
            Ok(_) => Ok(()),
            // What is no packet at all is refused.
            Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
            Err(error) => Err(error).context("writing a packet"),
        }
    }

    /// What has come out of both sides since.
    pub(super) fn left(&mut self) -> anyhow::Result<Vec<Out>> {
        let mut out = Vec::new();
        for side in [Side::Client, Side::Server] {
            loop {
                let end = match side {
                    Side::Client => &self.ends[0],
                    Side::Server => &self.ends[1],
                };
                match end.recv(&mut self.buffer) {
                    Ok(length) => {
                        let bytes = self.buffer[..length].to_vec();
                        if is_ours(&bytes) {
                            out.push(Out { side, bytes });
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error).context("reading a packet"),
                }
            }
        }
        Ok(out)
    }
}

/// The router itself says something now and then, multicast memberships above all.
fn is_ours(bytes: &[u8]) -> bool {
    wire::read(bytes).is_some_and(|seen| match seen.ends.source.address {
        std::net::IpAddr::V4(v4) => v4.octets()[0] == 10,
        std::net::IpAddr::V6(v6) => v6.octets()[0] == 0xfd,
    })
}
