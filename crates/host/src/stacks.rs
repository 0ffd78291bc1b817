//! What speaks in a network namespace beside the TCP and UDP sockets that can be listed there.

use std::fs;
use std::path::Path;

use ctkeeper_netlink::links::Links;

use crate::read;

/// Ethernet protocols of packet sockets that carry no TCP and no UDP: ARP, slow protocols, 802.1X,
/// LLDP, PTP (`include/uapi/linux/if_ether.h`).
const NEITHER_TCP_NOR_UDP: [u16; 5] = [0x0806, 0x8809, 0x888e, 0x88cc, 0x88f7];
/// Protocols of raw sockets that can carry TCP or UDP: they, and `IPPROTO_RAW`, which is any.
const TCP_UDP_OR_ANY: [u16; 3] = [6, 17, 255];

/// What speaks in a namespace beside its sockets. What cannot be read counts as being there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stacks {
    /// A tap, macvtap or tun: a machine or a network stack in user space may be behind it.
    pub taps: bool,
    /// A packet socket for IP: gVisor's, a DHCP client's, a sniffer's.
    pub packet_sockets: bool,
    /// A raw socket for TCP, UDP or any protocol.
    pub raw_sockets: bool,
    /// An `AF_XDP` socket.
    pub xdp_sockets: bool,
    /// Services of IPVS.
    pub virtual_servers: bool,
    /// Whether it passes packets on between its interfaces.
    pub forwards: bool,
}

impl Stacks {
    /// Whether sockets are all that speaks.
    pub const fn sockets_alone(&self) -> bool {
        !(self.taps
            || self.packet_sockets
            || self.raw_sockets
            || self.xdp_sockets
            || self.virtual_servers)
    }
}

/// Those of the calling thread's namespace.
pub fn here() -> Stacks {
    let net = Path::new("/proc/thread-self/net");
    let file = |name: &str| read::text(&net.join(name)).ok();
    let raw = ["raw", "raw6"].map(|name| file(name).or_else(|| absent(&net.join(name))));
    Stacks {
        taps: has_taps(),
        packet_sockets: file("packet").is_none_or(|text| has_packet_sockets(&text)),
        raw_sockets: raw.iter().any(|text| text.as_deref().is_none_or(has_raw_sockets)),
        xdp_sockets: file("protocols").is_none_or(|text| has_xdp_sockets(&text)),
        virtual_servers: file("ip_vs").is_some_and(|text| has_virtual_servers(&text)),
        forwards: forwards(),
    }
}

/// Nothing, of a file that is not there because the kernel was built without.
fn absent(file: &Path) -> Option<String> {
    let missing = fs::metadata(file).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound);
    missing.then(String::new)
}

fn has_taps() -> bool {
    let links = Links::open().and_then(|mut links| links.links());
    let is_tap = |kind: &str| matches!(kind, "tun" | "macvtap" | "ipvtap");
    links.map_or(true, |links| links.iter().any(|link| link.kind.as_deref().is_some_and(is_tap)))
}

fn forwards() -> bool {
    ["ipv4/ip_forward", "ipv6/conf/all/forwarding"].iter().any(|name| {
        let value = read::text(&Path::new("/proc/sys/net").join(name));
        value.is_ok_and(|value| value.trim() != "0")
    })
}

/// `/proc/net/packet` (`packet_seq_show`, `net/packet/af_packet.c`, Linux 6.12).
fn has_packet_sockets(text: &str) -> bool {
    text.lines().skip(1).any(|line| {
        let protocol = line.split_ascii_whitespace().nth(3);
        let protocol = protocol.and_then(|protocol| u16::from_str_radix(protocol, 16).ok());
        protocol.is_none_or(|protocol| !NEITHER_TCP_NOR_UDP.contains(&protocol))
    })
}

/// `/proc/net/raw` and `raw6` (`raw_sock_seq_show`, `net/ipv4/raw.c`, Linux 6.12): the protocol
/// stands where others have the port.
fn has_raw_sockets(text: &str) -> bool {
    text.lines().skip(1).any(|line| {
        let local = line.split_ascii_whitespace().nth(1).and_then(|local| local.rsplit_once(':'));
        let protocol = local.and_then(|(_, protocol)| u16::from_str_radix(protocol, 16).ok());
        protocol.is_none_or(|protocol| TCP_UDP_OR_ANY.contains(&protocol))
    })
}

/// `/proc/net/protocols` (`proto_seq_printf`, `net/core/sock.c`, Linux 6.12): how many sockets of
/// each kind the namespace has.
fn has_xdp_sockets(text: &str) -> bool {
    text.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace();
        fields.next() == Some("XDP") && fields.nth(1).is_none_or(|sockets| sockets != "0")
    })
}

/// `/proc/net/ip_vs` (`ip_vs_info_seq_show`, `net/netfilter/ipvs/ip_vs_ctl.c`, Linux 6.12): three
/// lines of heads, then services.
fn has_virtual_servers(text: &str) -> bool {
    text.lines().nth(3).is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sockets_that_may_be_stacks_are_told() {
        let heads = "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n";
        let line = |protocol: &str| {
            format!("{heads}ffff88810a2b7000 3      3    {protocol}   2     1 0      0      4711\n")
        };
        assert!(!has_packet_sockets(heads));
        assert!(has_packet_sockets(&line("0003")) && has_packet_sockets(&line("0800")));
        assert!(has_packet_sockets(&line("0000")) && has_packet_sockets(&line("?")));
        assert!(!has_packet_sockets(&line("88cc")) && !has_packet_sockets(&line("0806")));
        let heads = "  sl  local_address rem_address   st tx_queue rx_queue\n";
        let line = |protocol: &str| format!("{heads}  17: 00000000:{protocol} 00000000:0000 07\n");
        assert!(!has_raw_sockets(heads) && !has_raw_sockets(""));
        assert!(has_raw_sockets(&line("0006")) && has_raw_sockets(&line("00FF")));
        assert!(has_raw_sockets(&line("zz")));
        assert!(!has_raw_sockets(&line("0001")) && !has_raw_sockets(&line("0059")));
    }

    #[test]
    fn other_kinds_are_counted() {
        let protocols = |sockets: &str| {
            format!(
                "protocol  size sockets  memory press\nXDP        960  {sockets:>6}      -1   NI\n"
            )
        };
        assert!(has_xdp_sockets(&protocols("1")) && !has_xdp_sockets(&protocols("0")));
        let heads = "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port\n  -> R\n";
        assert!(!has_virtual_servers(heads));
        assert!(has_virtual_servers(&format!("{heads}TCP  0A000001:0050 rr\n")));
    }

    proptest! {
        #[test]
        fn no_file_does_harm(text in "(.|\n){0,200}") {
            let _ = (has_packet_sockets(&text), has_raw_sockets(&text));
            let _ = (has_xdp_sockets(&text), has_virtual_servers(&text));
        }
    }
}
