//! Requests about one entry that carry exactly the attributes they are given.
//!
//! [`Conntrack::create`] and its like take a whole [`Flow`] and send what makes the kernel's entry
//! like it. Here the caller says which attributes go out, so that the kernel accepts and refuses
//! what it would from any other tool that sends the same.

use std::borrow::Borrow;
use std::net::IpAddr;
use std::ops::ControlFlow;

use ctkeeper_flow::{Flow, Labels, Mark, Status, TcpFlags, Tuple};

use crate::attribute::{CONNTRACK, entry, nat, operation as message_type, protoinfo, tuple};
use crate::change::{Batch, BatchRequest};
use crate::ctnetlink::Conntrack;
use crate::encode;
use crate::error::{Error, Operation};
use crate::wire::{Builder, message};

/// Attributes of a request; what is absent is not sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryRequest {
    /// The original tuple. Its family is the request's.
    pub original: Tuple,
    /// The zone of the original direction alone.
    pub zone_original: Option<u16>,
    /// The reply tuple.
    pub reply: Option<Tuple>,
    /// The zone of the reply direction alone.
    pub zone_reply: Option<u16>,
    /// The zone of both directions.
    pub zone: Option<u16>,
    /// The kernel's id, which a deletion compares.
    pub id: Option<u32>,
    /// The original tuple of the master.
    pub master: Option<Tuple>,
    /// Status bits, to which `CONFIRMED` is added: without it the kernel refuses all.
    pub status: Option<Status>,
    /// Seconds; a creation without is refused.
    pub timeout: Option<u32>,
    /// The mark.
    pub mark: Option<Mark>,
    /// Which bits of the mark are replaced.
    pub mark_mask: Option<u32>,
    /// The protocol tracker's part.
    pub tracker: Option<TrackerRequest>,
    /// `CTA_NAT_SRC`: where the source is to be translated to.
    pub source_translation: Option<Translation>,
    /// `CTA_NAT_DST`: where the destination is to be translated to.
    pub destination_translation: Option<Translation>,
    /// The helper's name. With modules, this may load one.
    pub helper: Option<Box<str>>,
    /// Labels: they replace those under the mask.
    pub labels: Option<Labels>,
    /// Without it, labels replace all there are.
    pub labels_mask: Option<Labels>,
}

/// Attributes of a protocol's tracker; what is absent is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackerRequest {
    /// TCP.
    Tcp {
        /// The kernel's number of the state.
        state: Option<u8>,
        /// Flags of the original direction and of the reply, each with its mask.
        flags: Option<(TcpFlags, TcpFlags)>,
    },
    /// SCTP.
    Sctp {
        /// The kernel's number of the state.
        state: Option<u8>,
        /// Verification tags of the original direction and of the reply, as packets carry them.
        verification_tags: (Option<u32>, Option<u32>),
    },
    /// DCCP.
    Dccp {
        /// The kernel's number of the state.
        state: Option<u8>,
        /// The kernel's number of the role.
        role: Option<u8>,
    },
}

/// A translation to one address, one port, or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    /// The address.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: Option<u16>,
}

/// What a request of a batch is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Make the entry; refused with `EEXIST` if there is one.
    Create,
    /// Change the entry; refused with `ENOENT` if there is none.
    Update,
    /// Delete the entry; refused with `ENOENT` if there is none, or another id.
    Delete,
}

impl EntryRequest {
    /// What finds `flow` again: its original tuple and its zone.
    pub fn naming(flow: &Flow) -> Self {
        let mut request = Self { original: flow.original, ..Self::default() };
        let zone = (flow.zone.id != 0).then_some(flow.zone.id);
        match flow.zone.direction {
            ctkeeper_flow::ZoneDirection::Both => request.zone = zone,
            ctkeeper_flow::ZoneDirection::Original => request.zone_original = zone,
            ctkeeper_flow::ZoneDirection::Reply => {}
        }
        request
    }

    pub(crate) fn write(&self, builder: &mut Builder) {
        let original = (entry::TUPLE_ORIGINAL, Some(&self.original), self.zone_original);
        let reply = (entry::TUPLE_REPLY, self.reply.as_ref(), self.zone_reply);
        for (kind, tuple, zone) in [original, reply] {
            if let Some(tuple) = tuple {
                builder.nest(kind, |builder| encode::tuple(builder, tuple, zone));
            } else if let Some(zone) = zone {
                builder.nest(kind, |builder| builder.put_be16(tuple::ZONE, zone));
            }
        }
        if let Some(master) = &self.master {
            encode::tuple_as(builder, entry::TUPLE_MASTER, master);
        }
        self.write_numbers(builder);
        if let Some(tracker) = &self.tracker {
            builder.nest(entry::PROTOINFO, |builder| tracker.write(builder));
        }
        if let Some(translation) = &self.source_translation {
            builder.nest(entry::NAT_SOURCE, |builder| translation.write(builder));
        }
        if let Some(translation) = &self.destination_translation {
            builder.nest(entry::NAT_DESTINATION, |builder| translation.write(builder));
        }
        if let Some(helper) = &self.helper {
            encode::helper_of(builder, helper, &[]);
        }
        if let Some(labels) = &self.labels {
            builder.put(entry::LABELS, &labels.0);
        }
        if let Some(mask) = &self.labels_mask {
            builder.put(entry::LABELS_MASK, &mask.0);
        }
    }

    fn write_numbers(&self, builder: &mut Builder) {
        let numbers = [
            (entry::STATUS, self.status.map(|status| (status | Status::CONFIRMED).0)),
            (entry::TIMEOUT, self.timeout),
            (entry::MARK, self.mark.map(|mark| mark.0)),
            (entry::MARK_MASK, self.mark_mask),
            (entry::ID, self.id),
        ];
        for (kind, value) in numbers {
            if let Some(value) = value {
                builder.put_be32(kind, value);
            }
        }
        if let Some(zone) = self.zone {
            builder.put_be16(entry::ZONE, zone);
        }
    }
}

impl TrackerRequest {
    fn write(&self, builder: &mut Builder) {
        match *self {
            Self::Tcp { state, flags } => builder.nest(protoinfo::TCP, |builder| {
                put_state(builder, state);
                if let Some((original, reply)) = flags {
                    builder.put(protoinfo::TCP_FLAGS_ORIGINAL, &[original.flags, original.mask]);
                    builder.put(protoinfo::TCP_FLAGS_REPLY, &[reply.flags, reply.mask]);
                }
            }),
            Self::Sctp { state, verification_tags: (original, reply) } => {
                builder.nest(protoinfo::SCTP, |builder| {
                    put_state(builder, state);
                    for (kind, tag) in [
                        (protoinfo::SCTP_TAG_ORIGINAL, original),
                        (protoinfo::SCTP_TAG_REPLY, reply),
                    ] {
                        if let Some(tag) = tag {
                            builder.put_be32(kind, tag);
                        }
                    }
                });
            }
            Self::Dccp { state, role } => builder.nest(protoinfo::DCCP, |builder| {
                put_state(builder, state);
                if let Some(role) = role {
                    builder.put_u8(protoinfo::DCCP_ROLE, role);
                }
            }),
        }
    }
}

fn put_state(builder: &mut Builder, state: Option<u8>) {
    if let Some(state) = state {
        builder.put_u8(protoinfo::STATE, state);
    }
}

impl Translation {
    /// The kernel takes the lower end of a range for the upper one where that is absent.
    fn write(&self, builder: &mut Builder) {
        if let Some(address) = self.address {
            encode::address(builder, address, nat::V4_MINIMUM, nat::V6_MINIMUM);
        }
        if let Some(port) = self.port {
            builder.nest(nat::PROTO, |builder| {
                builder.put_be16(nat::PORT_MINIMUM, port);
                builder.put_be16(nat::PORT_MAXIMUM, port);
            });
        }
    }
}

impl Verb {
    const fn operation(self) -> Operation {
        match self {
            Self::Create => Operation::Create,
            Self::Update => Operation::Update,
            Self::Delete => Operation::Delete,
        }
    }

    const fn kind_and_flags(self) -> (u16, u16) {
        match self {
            Self::Create => (message_type::NEW, message::CREATE | message::EXCLUSIVE),
            Self::Update => (message_type::NEW, 0),
            Self::Delete => (message_type::DELETE, 0),
        }
    }
}

impl Conntrack {
    /// Creates, changes or deletes one entry. Every refusal is an error with the kernel's number.
    pub fn request_entry(&mut self, verb: Verb, entry: &EntryRequest) -> Result<(), Error> {
        let (kind, flags) = verb.kind_and_flags();
        let (operation, family) = (verb.operation(), entry.original.family().number());
        let flags = flags | message::ACKNOWLEDGE;
        let request =
            self.request(operation, kind, flags, family, |builder| entry.write(builder))?;
        let object = || entry.original.to_string();
        self.socket().exchange(operation, &object, &request, |_| Ok(false))
    }

    /// Reads the entry that the request's tuple, original or reply, belongs to. Fails with `ENOENT`
    /// if there is none.
    pub fn look_up(&mut self, entry: &EntryRequest) -> Result<Flow, Error> {
        self.one_entry(message_type::GET, &entry.original, |builder| entry.write(builder))
    }

    /// Sends many requests, many to a system call, in their order. Refusals are handed to `refused`
    /// with the index of the request, in order; the rest goes on unless it breaks (then up to 128
    /// after the refused one may have been done).
    pub fn request_batch<I, E>(
        &mut self,
        requests: I,
        refused: impl FnMut(usize, Error) -> ControlFlow<()>,
    ) -> Result<Batch, Error>
    where
        I: IntoIterator<Item = (Verb, E)>,
        E: Borrow<EntryRequest>,
    {
        self.batch(requests, refused)
    }
}

impl<E: Borrow<EntryRequest>> BatchRequest for (Verb, E) {
    fn operation(&self) -> Operation {
        self.0.operation()
    }

    fn tuple(&self) -> &Tuple {
        &self.1.borrow().original
    }

    fn write(&self, builder: &mut Builder, sequence: u32) {
        let (kind, flags) = self.0.kind_and_flags();
        let entry = self.1.borrow();
        let family = entry.original.family().number();
        builder.begin(CONNTRACK | kind, message::REQUEST | flags, sequence, family);
        entry.write(builder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Messages;

    fn kinds(request: &EntryRequest) -> Vec<u16> {
        let mut builder = Builder::default();
        builder.begin(0, 0, 0, 2);
        request.write(&mut builder);
        assert!(builder.end());
        let message = Messages(builder.bytes()).next().unwrap().unwrap();
        message.attributes().unwrap().map(|attribute| attribute.unwrap().kind).collect()
    }

    #[test]
    fn what_is_absent_is_not_sent() {
        assert_eq!(kinds(&EntryRequest::default()), [entry::TUPLE_ORIGINAL]);
        let request = EntryRequest {
            timeout: Some(0),
            status: Some(Status(0)),
            zone: Some(0),
            ..EntryRequest::default()
        };
        assert_eq!(
            kinds(&request),
            [entry::TUPLE_ORIGINAL, entry::STATUS, entry::TIMEOUT, entry::ZONE]
        );
    }
}
