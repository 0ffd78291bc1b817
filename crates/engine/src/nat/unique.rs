//! Which tuple a connection gets out of a range, as `get_unique_tuple` and what it calls
//! (`nf_nat_core.c`, Linux 6.12 and 6.1).
//!
//! Pure: what is taken, who is mapped where and what chance says comes through [`World`].

use ctkeeper_flow::Family;

use crate::nat::Range;
use crate::settings::Profile;
use crate::tuple::{Tuple, protocol};

/// Which end of a connection is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its source, behind the routing.
    Source,
    /// Its destination, before the routing.
    Destination,
}

impl End {
    /// The end that is the source to packets in the other direction, if this is the destination.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Source => Self::Destination,
            Self::Destination => Self::Source,
        }
    }
}

/// What the choice depends on outside of itself.
pub(crate) trait World {
    /// Whether another connection has this tuple, so that the translated one could not have it as
    /// its reply tuple (`nf_conntrack_tuple_taken`).
    fn is_taken(&mut self, reply: &Tuple) -> bool;

    /// Whether the connection that has the reply tuple of `kept` is this one seen from the other
    /// side, so that it can be left to the settling of clashes (`nf_nat_used_tuple_new`).
    fn is_the_same_reversed(&mut self, kept: &Tuple) -> bool;

    /// As [`Self::is_taken`], but a connection that waits in TIME_WAIT or beyond gives way to a
    /// newer one (`nf_nat_used_tuple_harder`).
    fn is_taken_for_good(&mut self, reply: &Tuple) -> bool;

    /// The newest mapping of this connection's source that fits (`find_appropriate_src`).
    fn mapped_source(&mut self, fits: impl Fn(u128, u16) -> bool) -> Option<(u128, u16)>;

    /// 16 random bits.
    fn draw(&mut self) -> u16;
}

/// One end of one connection that is to be translated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    /// The original tuple as far as it has been translated.
    pub(crate) current: Tuple,
    pub(crate) range: &'a Range,
    pub(crate) end: End,
    /// Id of the connection's zone, whatever its direction.
    pub(crate) zone: u16,
    pub(crate) profile: Profile,
    /// Whether the connection has a master.
    pub(crate) is_expected: bool,
    /// Whether it is a TCP connection of which only a SYN has been seen.
    pub(crate) is_syn_sent: bool,
}

/// Probes of the first round of the port search (`NF_NAT_MAX_ATTEMPTS`).
const FIRST_ROUND: u32 = 128;
/// A round that is shorter is the last.
const LAST_ROUND: u32 = 16;
/// So many probes before the end of a round, connections in TIME_WAIT give way
/// (`NF_NAT_HARDER_THRESH`).
const HARDER: u32 = FIRST_ROUND / 4;

/// The most probes that one search makes: rounds of 128, 64, 32, 16 and 8.
#[cfg(test)]
pub(crate) const MOST_PROBES: u32 = FIRST_ROUND * 2 - LAST_ROUND / 2;

/// The translated tuple. When nothing is free it is one that is taken: the connection will not
/// come into the table then.
pub(crate) fn unique(request: &Request<'_>, world: &mut impl World) -> Tuple {
    if let Some(tuple) = request.as_before(world) {
        return tuple;
    }
    let tuple = request.with_best_address();
    if request.keeps_id(&tuple, world) {
        return tuple;
    }
    request.search(tuple, world)
}

/// Keeping what can be kept.
impl Request<'_> {
    /// The source stays, or becomes what it has become for another connection.
    fn as_before(&self, world: &mut impl World) -> Option<Tuple> {
        if self.end != End::Source || self.range.random {
            return None;
        }
        let current = self.current;
        if self.is_in_range(current.source, current.source_id) {
            return (!self.is_taken_as_it_is(world)).then_some(current);
        }
        let (source, source_id) = world.mapped_source(|source, id| self.is_in_range(source, id))?;
        let mapped = Tuple { source, source_id, ..current };
        (!is_taken(&mapped, world)).then_some(mapped)
    }

    fn is_taken_as_it_is(&self, world: &mut impl World) -> bool {
        is_taken(&self.current, world)
            && !(self.profile >= Profile::Linux6_12
                && allows_clash(self.current.protocol)
                && world.is_the_same_reversed(&self.current))
    }

    /// Whether a source lies in the range (`nf_in_range`).
    fn is_in_range(&self, source: u128, id: u16) -> bool {
        self.range.addresses.is_none_or(|(first, last)| (first..=last).contains(&source))
            && self.range.ports.is_none_or(|ports| contains(ports, self.current.protocol, id))
    }

    /// Whether the id may stay as it is with the address that was chosen.
    fn keeps_id(&self, tuple: &Tuple, world: &mut impl World) -> bool {
        if self.range.random {
            return false;
        }
        let Some(ports @ (first, last)) = self.range.ports else {
            return !is_taken(tuple, world);
        };
        self.range.base_port.is_none()
            && contains(ports, tuple.protocol, self.id(tuple))
            && (first == last || !is_taken(tuple, world))
    }

    fn id(&self, tuple: &Tuple) -> u16 {
        match (tuple.protocol, self.end) {
            (protocol::ICMP | protocol::ICMPV6, _) | (_, End::Source) => tuple.source_id,
            (_, End::Destination) => tuple.destination_id,
        }
    }

    fn set_id(&self, tuple: &mut Tuple, id: u16) {
        match (tuple.protocol, self.end) {
            (protocol::ICMP | protocol::ICMPV6, _) | (_, End::Source) => tuple.source_id = id,
            (_, End::Destination) => tuple.destination_id = id,
        }
    }
}

/// Whether an id is one of these (`l4proto_in_range`).
fn contains((first, last): (u16, u16), protocol: u8, id: u16) -> bool {
    !(has_id(protocol) || protocol == protocol::GRE) || (first..=last).contains(&id)
}

const fn has_id(protocol: u8) -> bool {
    has_ports(protocol) || matches!(protocol, protocol::ICMP | protocol::ICMPV6)
}

const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, protocol::TCP | protocol::UDP | protocol::UDPLITE | protocol::SCTP)
}

/// Protocols of which two connections with the same tuple can become one
/// (`allow_clash` of the protocols' `nf_conntrack_proto_*.c`, Linux 6.12).
pub(crate) const fn allows_clash(protocol: u8) -> bool {
    !matches!(protocol, protocol::TCP | protocol::SCTP | protocol::ICMP | protocol::ICMPV6)
}

fn is_taken(tuple: &Tuple, world: &mut impl World) -> bool {
    tuple.inverted().is_some_and(|reply| world.is_taken(&reply))
}

/// Choosing the address (`find_best_ips_proto`).
impl Request<'_> {
    fn with_best_address(&self) -> Tuple {
        let mut tuple = self.current;
        let Some((first, last)) = self.range.addresses else { return tuple };
        let address = if first == last { first } else { self.spread(first, last) };
        match self.end {
            End::Source => tuple.source = address,
            End::Destination => tuple.destination = address,
        }
        tuple
    }

    /// One address of several by the addresses of the packet, word for word from the highest.
    fn spread(&self, first: u128, last: u128) -> u128 {
        let family = self.current.family;
        let (first, last) = (words(family, first), words(family, last));
        let source = words(family, self.current.source).map(u32::swap_bytes);
        let mut destination = words(family, self.current.destination).map(u32::swap_bytes);
        let lowest = if family == Family::Ipv4 { 0 } else { 3 };
        let salt =
            if self.range.persistent { 0 } else { destination[lowest] ^ u32::from(self.zone) };
        let mut hash = jenkins(source, salt);
        let mut chosen = [0; 4];
        let mut is_below = false;
        for word in 0..=lowest {
            // Below the last address in a higher word, the lower ones may be anything.
            let (low, span) = if is_below {
                (0, u32::MAX)
            } else {
                (first[word], last[word].wrapping_sub(first[word]).wrapping_add(1))
            };
            chosen[word] = low.wrapping_add(scaled(hash, span));
            is_below |= chosen[word] != last[word];
            if self.end == End::Destination {
                destination[word] = chosen[word].swap_bytes();
            }
            if !self.range.persistent {
                hash ^= destination[word];
            }
        }
        address(family, chosen)
    }
}

/// The words of an address as `union nf_inet_addr` has them, in the host's order.
const fn words(family: Family, address: u128) -> [u32; 4] {
    match family {
        Family::Ipv4 => [address as u32, 0, 0, 0],
        Family::Ipv6 => {
            [(address >> 96) as u32, (address >> 64) as u32, (address >> 32) as u32, address as u32]
        }
    }
}

fn address(family: Family, words: [u32; 4]) -> u128 {
    match family {
        Family::Ipv4 => u128::from(words[0]),
        Family::Ipv6 => words.iter().fold(0, |bits, word| bits << 32 | u128::from(*word)),
    }
}

/// `reciprocal_scale`.
const fn scaled(hash: u32, span: u32) -> u32 {
    ((hash as u64 * span as u64) >> 32) as u32
}

/// `lookup3` of Bob Jenkins (public domain, 2006) over four words: the kernel's `jhash2`.
const fn jenkins(words: [u32; 4], salt: u32) -> u32 {
    let start = 0xdead_beef_u32.wrapping_add(4 << 2).wrapping_add(salt);
    let (mut a, mut b, mut c) =
        (start.wrapping_add(words[0]), start.wrapping_add(words[1]), start.wrapping_add(words[2]));
    a = a.wrapping_sub(c) ^ c.rotate_left(4);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(6);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(8);
    b = b.wrapping_add(a);
    a = a.wrapping_sub(c) ^ c.rotate_left(16);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(19);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(4);
    b = b.wrapping_add(a);

    a = a.wrapping_add(words[3]);
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24))
}

/// Searching for an id (`nf_nat_l4proto_unique_tuple`).
impl Request<'_> {
    fn search(&self, mut tuple: Tuple, world: &mut impl World) -> Tuple {
        let Some((first, size)) = self.ids(&tuple) else { return tuple };
        let mut offset = self.offset(&tuple, world);
        let mut attempts = size.min(FIRST_ROUND);
        loop {
            for left in (1..=attempts).rev() {
                // A range without ids has no attempt either.
                let id = first.wrapping_add(u32::from(offset).checked_rem(size).unwrap_or(0));
                self.set_id(&mut tuple, id as u16);
                offset = offset.wrapping_add(1);
                if !self.is_taken_now(&tuple, left, world) {
                    return tuple;
                }
            }
            if attempts >= size || attempts < LAST_ROUND {
                return tuple;
            }
            attempts /= 2;
            offset = world.draw();
        }
    }

    /// First id and number of ids to choose from; `None` where the id cannot change.
    fn ids(&self, tuple: &Tuple) -> Option<(u32, u32)> {
        let ports = self.range.ports.map(|(first, last)| (u32::from(first), u32::from(last)));
        match tuple.protocol {
            protocol::ICMP | protocol::ICMPV6 => Some(ports.map_or((0, 65_536), in_order)),
            protocol::GRE if self.is_expected => Some(ports.map_or((1, 65_535), in_order)),
            other if has_ports(other) => match (ports, self.end) {
                (Some((one, other)), _) => Some(in_order((one.min(other), one.max(other)))),
                (None, End::Source) => Some(peers_of(tuple.source_id)),
                (None, End::Destination) => None,
            },
            _ => None,
        }
    }

    fn offset(&self, tuple: &Tuple, world: &mut impl World) -> u16 {
        let is_drawn =
            self.profile < Profile::Linux6_12 || self.range.random || self.end == End::Source;
        match self.range.base_port {
            Some(base) => self.id(tuple).wrapping_sub(base),
            None if is_drawn => world.draw(),
            None => 0,
        }
    }

    fn is_taken_now(&self, tuple: &Tuple, left: u32, world: &mut impl World) -> bool {
        let Some(reply) = tuple.inverted() else { return false };
        if self.is_syn_sent && left <= HARDER && self.profile >= Profile::Linux6_12 {
            world.is_taken_for_good(&reply)
        } else {
            world.is_taken(&reply)
        }
    }
}

/// First and number of a range that may stand the wrong way round, as unsigned numbers wrap.
const fn in_order((first, last): (u32, u32)) -> (u32, u32) {
    (first, last.wrapping_sub(first).wrapping_add(1))
}

/// The ports that a source port may become: privileged ones stay so.
const fn peers_of(port: u16) -> (u32, u32) {
    match port {
        0..512 => (1, 511),
        512..1024 => (600, 1023 - 600 + 1),
        _ => (1024, 65_535 - 1024 + 1),
    }
}

#[cfg(test)]
mod tests;
