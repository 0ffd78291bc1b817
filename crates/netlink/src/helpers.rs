//! Helpers that live in user space (`nfnetlink_cthelper`).
//!
//! The helpers of the kernel itself (`ftp`, `sip` …) are not listed by any interface.
//!
//! Sources: `include/uapi/linux/netfilter/nfnetlink_cthelper.h`,
//! `net/netfilter/nfnetlink_cthelper.c` (Linux 6.12).

use ctkeeper_flow::Protocol;

use crate::attribute::{HELPERS, helper as part, helper_operation as message_type, helper_tuple};
use crate::availability::Module;
use crate::ctnetlink::Conntrack;
use crate::error::{Error, Operation};
use crate::socket::DUMP_BUFFER;
use crate::wire::{Attributes, Malformed, message};

/// A helper that a process has announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserspaceHelper {
    /// Its name.
    pub name: Box<str>,
    /// The number of the family that it helps.
    pub family: u16,
    /// The protocol that it helps.
    pub protocol: Protocol,
    /// The packet queue that its process listens on.
    pub queue: u32,
    /// Whether it is enabled.
    pub is_enabled: bool,
}

impl Conntrack {
    /// The helpers in user space. Fails with `EINVAL` on a kernel that is built without them
    /// (`CONFIG_NF_CT_NETLINK_HELPER`).
    pub fn userspace_helpers(&mut self) -> Result<Vec<UserspaceHelper>, Error> {
        let operation = Operation::ReadHelpers;
        Module::Helpers.ensure_safe_to_ask(operation)?;
        let kind = HELPERS | message_type::GET;
        let request = self.request_of(operation, kind, message::DUMP, 0, |_| ())?;
        let (mut buffer, mut helpers) = (vec![0; DUMP_BUFFER], Vec::new());
        let take = |message: crate::wire::Message<'_>| {
            helpers.push(helper(message.attributes()?)?);
            Ok(false)
        };
        let answer =
            self.socket().exchange_with(&mut buffer, operation, &String::new, &request, take);
        self.ended(&answer);
        answer.map(|_| helpers)
    }
}

fn helper(attributes: Attributes<'_>) -> Result<UserspaceHelper, Malformed> {
    let mut found = UserspaceHelper {
        name: Box::default(),
        family: 0,
        protocol: Protocol(0),
        queue: 0,
        is_enabled: false,
    };
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            part::NAME => found.name = attribute.text().into_boxed_str(),
            part::QUEUE => found.queue = attribute.be32()?,
            part::STATUS => found.is_enabled = attribute.be32()? != 0,
            part::TUPLE => {
                for inner in attribute.nested() {
                    let inner = inner?;
                    match inner.kind {
                        helper_tuple::FAMILY => found.family = inner.be16()?,
                        helper_tuple::PROTOCOL => found.protocol = Protocol(inner.u8()?),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Builder, Messages};

    #[test]
    fn a_helper_is_read() {
        let mut builder = Builder::default();
        builder.begin(HELPERS, 0, 1, 0);
        builder.put_text(part::NAME, "rpc");
        builder.nest(part::TUPLE, |builder| {
            builder.put_be16(helper_tuple::FAMILY, 2);
            builder.put_u8(helper_tuple::PROTOCOL, 17);
        });
        builder.put_be32(part::QUEUE, 3);
        builder.put_be32(part::STATUS, 1);
        assert!(builder.end());
        let message = Messages(builder.bytes()).next().unwrap().unwrap();
        let expected = UserspaceHelper {
            name: "rpc".into(),
            family: 2,
            protocol: Protocol::UDP,
            queue: 3,
            is_enabled: true,
        };
        assert_eq!(helper(message.attributes().unwrap()), Ok(expected));
    }
}
