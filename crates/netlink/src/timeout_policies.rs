//! Timeouts by protocol and state: a namespace's defaults, and named policies that rules attach to
//! connections (`nfnetlink_cttimeout`).
//!
//! A policy is made whole: what it does not name gets the default of that moment. Entries that
//! stand keep their timeout until their next packet.
//!
//! Sources: `include/uapi/linux/netfilter/nfnetlink_cttimeout.h`,
//! `net/netfilter/nfnetlink_cttimeout.c` (Linux 6.12).

use std::collections::BTreeMap;

use ctkeeper_flow::{Family, Protocol};

use crate::attribute::{TIMEOUTS, timeout as part, timeout_operation as message_type};
use crate::availability::Module;
use crate::ctnetlink::Conntrack;
use crate::error::{Errno, Error, Operation};
use crate::socket::DUMP_BUFFER;
use crate::wire::{Attribute, Attributes, Builder, Malformed, message};

/// The number that stands for all protocols without a tracker of their own.
pub const GENERIC: Protocol = Protocol(255);

/// Seconds by state of one protocol's tracker; states that are not named keep what they have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateTimeouts {
    protocol: Protocol,
    seconds: BTreeMap<u16, u32>,
}

impl StateTimeouts {
    /// None yet.
    pub const fn of(protocol: Protocol) -> Self {
        Self { protocol, seconds: BTreeMap::new() }
    }

    /// Names the timeout of a state, seconds. False if the protocol's tracker has no such state.
    #[must_use]
    pub fn set(&mut self, state: &str, seconds: u32) -> bool {
        let number = number_of(self.protocol, state);
        if let Some(number) = number {
            self.seconds.insert(number, seconds);
        }
        number.is_some()
    }

    /// The timeout of a state, seconds.
    pub fn get(&self, state: &str) -> Option<u32> {
        self.seconds.get(&number_of(self.protocol, state)?).copied()
    }

    /// Every state that is named, in the kernel's order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let name = |number: u16| states(self.protocol).get(usize::from(number) - 1).copied();
        self.seconds.iter().filter_map(move |(number, seconds)| Some((name(*number)?, *seconds)))
    }

    /// Whose.
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    fn write(&self, builder: &mut Builder) {
        builder.nest(part::DATA, |builder| {
            for (number, seconds) in &self.seconds {
                builder.put_be32(*number, *seconds);
            }
        });
    }

    fn read(protocol: Protocol, container: &Attribute<'_>) -> Result<Self, Malformed> {
        let mut timeouts = Self::of(protocol);
        for attribute in container.nested() {
            let attribute = attribute?;
            // States of newer kernels have no name here.
            if (1..=states(protocol).len()).contains(&usize::from(attribute.kind)) {
                timeouts.seconds.insert(attribute.kind, attribute.be32()?);
            }
        }
        Ok(timeouts)
    }
}

/// A named policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeoutPolicy {
    /// Its name, at most 31 bytes.
    pub name: Box<str>,
    /// Of which family's connections.
    pub family: Family,
    /// The timeouts, of one protocol.
    pub timeouts: StateTimeouts,
    /// How many hold it, itself among them; the kernel counts.
    pub uses: Option<u32>,
}

/// The states that a protocol's tracker has timeouts for, as the kernel numbers them from 1 and
/// nfct(8) calls them. Protocols without a tracker of their own have one timeout.
pub const fn states(protocol: Protocol) -> &'static [&'static str] {
    match protocol {
        Protocol::TCP => &[
            "syn_sent",
            "syn_recv",
            "established",
            "fin_wait",
            "close_wait",
            "last_ack",
            "time_wait",
            "close",
            "syn_sent2",
            "retrans",
            "unacknowledged",
        ],
        Protocol::UDP | Protocol::UDPLITE | Protocol::GRE => &["unreplied", "replied"],
        Protocol::SCTP => &[
            "closed",
            "cookie_wait",
            "cookie_echoed",
            "established",
            "shutdown_sent",
            "shutdown_recd",
            "shutdown_ack_sent",
            "heartbeat_sent",
            "heartbeat_acked",
        ],
        Protocol::DCCP => {
            &["request", "respond", "partopen", "open", "closereq", "closing", "timewait"]
        }
        _ => &["timeout"],
    }
}

fn number_of(protocol: Protocol, state: &str) -> Option<u16> {
    let at = states(protocol).iter().position(|name| *name == state)?;
    u16::try_from(at + 1).ok()
}

impl Conntrack {
    /// The namespace's policies, oldest first.
    pub fn timeout_policies(&mut self) -> Result<Vec<TimeoutPolicy>, Error> {
        let operation = Operation::ReadTimeouts;
        ensure_timeouts(operation)?;
        let kind = TIMEOUTS | message_type::GET;
        let request = self.request_of(operation, kind, message::DUMP, 0, |_| ())?;
        let (mut buffer, mut policies) = (vec![0; DUMP_BUFFER], Vec::new());
        let take = |message: crate::wire::Message<'_>| {
            policies.extend(policy(message.attributes()?)?);
            Ok(false)
        };
        let answer =
            self.socket().exchange_with(&mut buffer, operation, &String::new, &request, take);
        self.ended(&answer);
        answer.map(|_| policies)
    }

    /// The policy of a name; `None` if there is none.
    pub fn timeout_policy(&mut self, name: &str) -> Result<Option<TimeoutPolicy>, Error> {
        let operation = Operation::ReadTimeouts;
        ensure_timeouts(operation)?;
        let kind = TIMEOUTS | message_type::GET;
        let request =
            self.request_of(operation, kind, 0, 0, |builder| builder.put_text(part::NAME, name))?;
        let mut found = None;
        let answer = self.socket().exchange(operation, &|| name.to_owned(), &request, |message| {
            found = policy(message.attributes()?)?;
            Ok(true)
        });
        match answer {
            Err(error) if error.errno() == Some(Errno(libc::ENOENT)) => Ok(None),
            answer => answer.map(|()| found),
        }
    }

    /// Makes a policy. Fails with `EEXIST` if there is one of its name, with `EOPNOTSUPP` if the
    /// kernel does not track the protocol.
    pub fn create_timeout_policy(&mut self, policy: &TimeoutPolicy) -> Result<(), Error> {
        self.write_policy(policy, message::CREATE | message::EXCLUSIVE)
    }

    /// Gives the policy of this name other timeouts, or makes it; what is not named gets the
    /// default. Fails with `EINVAL` if it is of another family or protocol.
    pub fn replace_timeout_policy(&mut self, policy: &TimeoutPolicy) -> Result<(), Error> {
        self.write_policy(policy, message::CREATE | message::REPLACE)
    }

    /// Deletes a policy; connections that have it get the defaults. False if there is none.
    pub fn delete_timeout_policy(&mut self, name: &str) -> Result<bool, Error> {
        let operation = Operation::WriteTimeouts;
        ensure_timeouts(operation)?;
        let (kind, flags) = (TIMEOUTS | message_type::DELETE, message::ACKNOWLEDGE);
        let request = self
            .request_of(operation, kind, flags, 0, |builder| builder.put_text(part::NAME, name))?;
        let object = || name.to_owned();
        match self.socket().exchange(operation, &object, &request, |_| Ok(false)) {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Some(Errno(libc::ENOENT)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The namespace's default timeouts of a protocol ([`GENERIC`] for those without a tracker of
    /// their own). Fails with `EOPNOTSUPP` if the kernel does not track it.
    pub fn default_timeouts(&mut self, protocol: Protocol) -> Result<StateTimeouts, Error> {
        let operation = Operation::ReadTimeouts;
        ensure_timeouts(operation)?;
        let kind = TIMEOUTS | message_type::DEFAULT_GET;
        let request = self.request_of(operation, kind, 0, 0, |builder| {
            builder.put_be16(part::FAMILY, u16::from(Family::Ipv4.number()));
            builder.put_u8(part::PROTOCOL, protocol.0);
        })?;
        let mut found = StateTimeouts::of(protocol);
        self.socket().exchange(operation, &|| protocol.to_string(), &request, |message| {
            for attribute in message.attributes()? {
                let attribute = attribute?;
                if attribute.kind == part::DATA {
                    found = StateTimeouts::read(protocol, &attribute)?;
                }
            }
            Ok(true)
        })?;
        Ok(found)
    }

    /// Sets default timeouts of the namespace, as its sysctls do; what is not named stays.
    pub fn set_default_timeouts(&mut self, timeouts: &StateTimeouts) -> Result<(), Error> {
        let operation = Operation::WriteTimeouts;
        ensure_timeouts(operation)?;
        let (kind, flags) = (TIMEOUTS | message_type::DEFAULT_SET, message::ACKNOWLEDGE);
        let request = self.request_of(operation, kind, flags, 0, |builder| {
            builder.put_be16(part::FAMILY, u16::from(Family::Ipv4.number()));
            builder.put_u8(part::PROTOCOL, timeouts.protocol.0);
            timeouts.write(builder);
        })?;
        let object = || timeouts.protocol.to_string();
        self.socket().exchange(operation, &object, &request, |_| Ok(false))
    }

    fn write_policy(&mut self, policy: &TimeoutPolicy, flags: u16) -> Result<(), Error> {
        let operation = Operation::WriteTimeouts;
        ensure_timeouts(operation)?;
        let (kind, flags) = (TIMEOUTS | message_type::NEW, flags | message::ACKNOWLEDGE);
        let request = self.request_of(operation, kind, flags, 0, |builder| {
            builder.put_text(part::NAME, &policy.name);
            builder.put_be16(part::FAMILY, u16::from(policy.family.number()));
            builder.put_u8(part::PROTOCOL, policy.timeouts.protocol.0);
            policy.timeouts.write(builder);
        })?;
        let object = || policy.name.to_string();
        self.socket().exchange(operation, &object, &request, |_| Ok(false))
    }
}

/// A request to a subsystem that is not there would load its module.
fn ensure_timeouts(operation: Operation) -> Result<(), Error> {
    Module::Timeouts.ensure_safe_to_ask(operation)
}

/// `None` for a policy of no family that is known here.
fn policy(attributes: Attributes<'_>) -> Result<Option<TimeoutPolicy>, Malformed> {
    let (mut name, mut family, mut protocol, mut uses) = (None, 0, None, None);
    let mut data = None;
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            part::NAME => name = Some(attribute.text().into_boxed_str()),
            part::FAMILY => family = attribute.be16()?,
            part::PROTOCOL => protocol = Some(Protocol(attribute.u8()?)),
            part::USES => uses = Some(attribute.be32()?),
            part::DATA => data = Some(attribute),
            _ => {}
        }
    }
    let name = name.ok_or(Malformed::Missing("name of a policy"))?;
    let protocol = protocol.ok_or(Malformed::Missing("protocol of a policy"))?;
    let data = data.ok_or(Malformed::Missing("timeouts of a policy"))?;
    let timeouts = StateTimeouts::read(protocol, &data)?;
    let families = [Family::Ipv4, Family::Ipv6].into_iter();
    let family = families.into_iter().find(|known| u16::from(known.number()) == family);
    Ok(family.map(|family| TimeoutPolicy { name, family, timeouts, uses }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_belongs_to_its_protocol() {
        let mut timeouts = StateTimeouts::of(Protocol::TCP);
        assert!(timeouts.set("established", 60) && timeouts.set("syn_sent", 5));
        assert!(!timeouts.set("replied", 1));
        assert_eq!(timeouts.get("established"), Some(60));
        assert_eq!(timeouts.get("close"), None);
        assert_eq!(timeouts.iter().collect::<Vec<_>>(), [("syn_sent", 5), ("established", 60)]);
    }

    #[test]
    fn an_incomplete_policy_is_malformed() {
        assert!(matches!(policy(Attributes(&[])), Err(Malformed::Missing(_))));
    }
}
