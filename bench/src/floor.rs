//! The bare cost of the kernel's dump.

use anyhow::bail;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, netlink};

/// Asks for a dump of everything and looks at the first header of each part that comes.
///
/// Numbers from `include/uapi/linux/netlink.h` and `netfilter/nfnetlink.h`.
pub fn walk_headers() -> anyhow::Result<()> {
    const REQUEST: u16 = 0x1 | 0x300;
    const GET_CONNTRACK: u16 = 1 << 8 | 1;
    const ERROR: u16 = 2;
    const DONE: u16 = 3;
    let socket =
        rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, Some(netlink::NETFILTER))?;
    let mut request = Vec::from(20u32.to_ne_bytes());
    request.extend(GET_CONNTRACK.to_ne_bytes());
    request.extend(REQUEST.to_ne_bytes());
    request.extend([0; 12]);
    rustix::net::send(&socket, &request, SendFlags::empty())?;
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let (length, _) = rustix::net::recv(&socket, &mut buffer, RecvFlags::empty())?;
        match buffer.get(4..6).filter(|_| length >= 16) {
            Some(kind) if kind == DONE.to_ne_bytes() => return Ok(()),
            Some(kind) if kind == ERROR.to_ne_bytes() => bail!("the kernel refused the dump"),
            Some(_) => {}
            None => bail!("a datagram of {length} bytes"),
        }
    }
}
