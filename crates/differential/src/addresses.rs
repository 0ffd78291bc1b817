//! Addresses: every sequence has hosts of its own, in the network of its treatment.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ctkeeper_flow::{Family, Tuple};
use serde::{Deserialize, Serialize};

use crate::sequence::{Host, Side, Treatment};

/// A sequence's place among the addresses; they come from one namespace's supply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// Family.
    pub family: Family,
    /// The network, by what the rules do with it.
    pub treatment: Treatment,
    /// Number of the sequence, below [`Place::SLOTS`].
    pub slot: u16,
}

/// Second byte of the clients' networks is the treatment; of those of the others, it is more by
/// this.
const TRANSLATED: u8 = 32;
const VIRTUAL: u8 = 64;
const SERVERS: u8 = 128;
/// Third bit of a second host's number.
const SECOND: u16 = 0x8000;

impl Place {
    /// How many sequences a network has room for: the highest numbers are those of [`translated`]
    /// hosts.
    pub const SLOTS: u16 = SECOND - 16;

    /// The address of a host.
    pub const fn address(self, host: Host) -> IpAddr {
        let network = self.treatment as u8;
        match host {
            Host::Client => self.of(network, self.slot),
            Host::OtherClient => self.of(network, self.slot | SECOND),
            Host::Server => self.of(SERVERS + network, self.slot),
            Host::OtherServer => self.of(SERVERS + network, self.slot | SECOND),
            Host::Virtual => self.of(VIRTUAL + network, self.slot),
            Host::Router => self.of(SERVERS, self.slot),
        }
    }

    const fn of(self, network: u8, number: u16) -> IpAddr {
        numbered(self.family, network, number)
    }

    /// Whose entry, or packet, this is, by the addresses that are not translated.
    pub fn of_tuple(tuple: &Tuple) -> Option<Self> {
        Self::of_address(tuple.source).or_else(|| Self::of_address(tuple.destination))
    }

    fn of_address(address: IpAddr) -> Option<Self> {
        let (family, network, number) = match address {
            IpAddr::V4(v4) => {
                let [ten, network, high, low] = v4.octets();
                (Family::Ipv4, if ten == 10 { network } else { 0 }, [high, low])
            }
            IpAddr::V6(v6) => {
                let [fd, network, .., high, low] = v6.octets();
                (Family::Ipv6, if fd == 0xfd { network } else { 0 }, [high, low])
            }
        };
        let network = match network {
            client if client < TRANSLATED => client,
            translated if translated < VIRTUAL => return None,
            virtual_one if virtual_one < SERVERS => virtual_one - VIRTUAL,
            server => server - SERVERS,
        };
        let treatment = Treatment::ALL.into_iter().find(|t| *t as u8 == network)?;
        Some(Self { family, treatment, slot: u16::from_be_bytes(number) & !SECOND })
    }
}

/// What a translated client, or a server behind a virtual address, is called.
pub const fn translated(family: Family, treatment: Treatment, side: Side) -> IpAddr {
    let network = match side {
        Side::Client => TRANSLATED + treatment as u8,
        Side::Server => SERVERS + treatment as u8,
    };
    // The highest number of all: no sequence has it.
    numbered(family, network, 0xffff)
}

/// First and last of several such addresses.
pub const fn translated_range(
    family: Family,
    treatment: Treatment,
    side: Side,
) -> (IpAddr, IpAddr) {
    let network = match side {
        Side::Client => TRANSLATED + treatment as u8,
        Side::Server => SERVERS + treatment as u8,
    };
    (numbered(family, network, RANGE.0), numbered(family, network, RANGE.1))
}

/// Numbers of the addresses of a range. It has no power of two of them.
const RANGE: (u16, u16) = (0xfff1, 0xfffb);

const fn numbered(family: Family, network: u8, number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    match family {
        Family::Ipv4 => IpAddr::V4(Ipv4Addr::new(10, network, high, low)),
        Family::Ipv6 => {
            let first = u16::from_be_bytes([0xfd, network]);
            IpAddr::V6(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, number))
        }
    }
}

/// The networks that lie on each side, for routes.
pub const fn networks(family: Family, side: Side) -> &'static [&'static str] {
    match (family, side) {
        (Family::Ipv4, Side::Client) => &["10.0.0.0/10"],
        (Family::Ipv4, Side::Server) => &["10.64.0.0/10", "10.128.0.0/9"],
        (Family::Ipv6, Side::Client) => &["fd00::/10"],
        (Family::Ipv6, Side::Server) => &["fd40::/10", "fd80::/9"],
    }
}

/// A network of a treatment's hosts: the clients', the servers' or the virtual addresses'.
pub fn network(family: Family, treatment: Treatment, host: Host) -> String {
    let place = Place { family, treatment, slot: 0 };
    format!("{}/16", place.address(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_their_sequence() {
        for family in [Family::Ipv4, Family::Ipv6] {
            for treatment in Treatment::ALL {
                let place = Place { family, treatment, slot: 0x1234 };
                for host in [Host::Client, Host::OtherClient, Host::Server, Host::Virtual] {
                    assert_eq!(Place::of_address(place.address(host)), Some(place), "{host:?}");
                }
                let pool = translated(family, treatment, Side::Client);
                assert_eq!(Place::of_address(pool), None);
            }
        }
    }
}
