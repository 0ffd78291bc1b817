//! Expectations of one network namespace.
//!
//! The kernel holds their number in each namespace against one limit for all
//! (`net.netfilter.nf_conntrack_expect_max`), as it does with entries
//! (`__nf_ct_expect_check`, `net/netfilter/nf_conntrack_expect.c`, Linux 6.12).

use std::ops::ControlFlow;

use ctkeeper_flow::{Expectation, ExpectationFlags, Family, Zone};

use crate::attribute::{
    EXPECTATIONS, expectation as part, expectation_operation as message_type,
    expectation_statistics as statistic,
};
use crate::ctnetlink::Conntrack;
use crate::error::{Error, Operation};
use crate::socket::DUMP_BUFFER;
use crate::wire::{Attributes, Builder, Malformed, message};
use crate::{decode, encode};

/// What one CPU counted of expectations since the namespace was made; each wraps at 32 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpectationStatistics {
    /// Connections that met one.
    pub met: u32,
    /// Made.
    pub created: u32,
    /// Gone: met, timed out, deleted, or with their master.
    pub deleted: u32,
}

impl Conntrack {
    /// What each CPU counted of expectations, by CPU. About 13 microseconds.
    pub fn expectation_statistics(&mut self) -> Result<Vec<ExpectationStatistics>, Error> {
        let operation = Operation::Statistics;
        let kind = EXPECTATIONS | message_type::GET_STATS_CPU;
        let request = self.request_of(operation, kind, message::DUMP, 0, |_| ())?;
        self.by_cpu(operation, &request, statistics)
    }

    /// How many expectations there are, without listing them: those made less those gone. (An
    /// expectation may be made on one CPU and go on another.)
    pub fn expectation_count(&mut self) -> Result<u32, Error> {
        let cpus = self.expectation_statistics()?;
        let sum =
            |of: fn(&ExpectationStatistics) -> u32| cpus.iter().map(of).fold(0, u32::wrapping_add);
        Ok(sum(|cpu| cpu.created).wrapping_sub(sum(|cpu| cpu.deleted)))
    }

    /// Delivers the expectations until `visit` breaks; returns whether all have been delivered.
    pub fn expectations(
        &mut self,
        visit: impl FnMut(Expectation) -> ControlFlow<()>,
    ) -> Result<bool, Error> {
        self.expectations_of(None, visit)
    }

    /// As [`Self::expectations`], of one family.
    pub fn expectations_of(
        &mut self,
        family: Option<Family>,
        mut visit: impl FnMut(Expectation) -> ControlFlow<()>,
    ) -> Result<bool, Error> {
        let operation = Operation::ReadExpectations;
        let kind = EXPECTATIONS | message_type::GET;
        let family = family.map_or(0, Family::number);
        let request = self.request_of(operation, kind, message::DUMP, family, |_| ())?;
        let (mut buffer, mut stopped) = (vec![0; DUMP_BUFFER], false);
        let take = |message: crate::wire::Message<'_>| {
            stopped = visit(expectation(message.attributes()?)?).is_break();
            Ok(stopped)
        };
        let answer =
            self.socket().exchange_with(&mut buffer, operation, &String::new, &request, take);
        self.ended(&answer);
        answer?;
        if stopped {
            self.left_dump();
        }
        Ok(!stopped)
    }

    /// Makes an expectation. Its master must be there and have a helper, which sets the timeout
    /// and how many there may be of one master: beyond that the oldest goes. Fails with `EMFILE`
    /// when the namespace has as many as the limit allows, with `EOPNOTSUPP` when the master has no
    /// helper. With modules, naming a helper may load it.
    pub fn expect(&mut self, expectation: &Expectation) -> Result<(), Error> {
        let operation = Operation::Expect;
        let flags = message::CREATE | message::EXCLUSIVE | message::ACKNOWLEDGE;
        let family = expectation.expected.family().number();
        let kind = EXPECTATIONS | message_type::NEW;
        let request = self.request_of(operation, kind, flags, family, |builder| {
            write(builder, expectation);
        })?;
        let object = || expectation.expected.to_string();
        self.socket().exchange(operation, &object, &request, |_| Ok(false))
    }

    /// Deletes every expectation of the namespace. Entries are not touched.
    pub fn flush_expectations(&mut self) -> Result<(), Error> {
        let operation = Operation::FlushExpectations;
        let kind = EXPECTATIONS | message_type::DELETE;
        let request = self.request_of(operation, kind, message::ACKNOWLEDGE, 0, |_| ())?;
        self.socket().exchange(operation, &String::new, &request, |_| Ok(false))
    }
}

fn write(builder: &mut Builder, expectation: &Expectation) {
    encode::tuple_as(builder, part::MASTER, &expectation.master);
    encode::tuple_as(builder, part::TUPLE, &expectation.expected);
    encode::tuple_as(builder, part::MASK, &expectation.mask);
    if let Some(seconds) = expectation.timeout {
        builder.put_be32(part::TIMEOUT, seconds);
    }
    if let Some(helper) = &expectation.helper {
        builder.put_text(part::HELPER, helper);
    }
    if expectation.zone.id != 0 {
        builder.put_be16(part::ZONE, expectation.zone.id);
    }
    if expectation.flags != ExpectationFlags::default() {
        builder.put_be32(part::FLAGS, expectation.flags.0);
    }
    builder.put_be32(part::CLASS, expectation.class);
}

pub(crate) fn expectation(attributes: Attributes<'_>) -> Result<Expectation, Malformed> {
    let mut found = Expectation::default();
    let (mut has_tuple, mut has_master) = (false, false);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            part::TUPLE => (found.expected, has_tuple) = (decode::tuple(&attribute)?, true),
            part::MASTER => (found.master, has_master) = (decode::tuple(&attribute)?, true),
            part::MASK => found.mask = decode::tuple(&attribute)?,
            part::TIMEOUT => found.timeout = Some(attribute.be32()?),
            part::ID => found.id = Some(attribute.be32()?),
            part::HELPER => found.helper = Some(attribute.text().into_boxed_str()),
            part::ZONE => found.zone = Zone::both(attribute.be16()?),
            part::FLAGS => found.flags = ExpectationFlags(attribute.be32()?),
            part::CLASS => found.class = attribute.be32()?,
            _ => {}
        }
    }
    match (has_tuple, has_master) {
        (true, true) => Ok(found),
        (false, _) => Err(Malformed::Missing("expected tuple")),
        (true, false) => Err(Malformed::Missing("master's tuple")),
    }
}

fn statistics(attributes: Attributes<'_>) -> Result<ExpectationStatistics, Malformed> {
    let mut counted = ExpectationStatistics::default();
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            statistic::NEW => counted.met = attribute.be32()?,
            statistic::CREATE => counted.created = attribute.be32()?,
            statistic::DELETE => counted.deleted = attribute.be32()?,
            _ => {}
        }
    }
    Ok(counted)
}

#[cfg(test)]
mod tests {
    use ctkeeper_flow::{Protocol, Tuple};
    use proptest::prelude::*;

    use super::*;
    use crate::wire::Messages;

    fn tuple(source: u8, port: u16) -> Tuple {
        let end = |last| [10, 0, 0, last].into();
        Tuple::with_ports(Protocol::TCP, (end(source), 0), (end(9), port))
    }

    #[test]
    fn what_is_written_reads_back() {
        let expected = Expectation {
            expected: tuple(1, 2000),
            mask: tuple(255, 65_535),
            master: tuple(1, 21),
            zone: Zone::both(7),
            timeout: Some(300),
            id: None,
            helper: Some("ftp".into()),
            flags: ExpectationFlags::PERMANENT,
            class: 1,
        };
        let mut builder = Builder::default();
        builder.begin(EXPECTATIONS, 0, 1, 2);
        write(&mut builder, &expected);
        assert!(builder.end());
        let message = Messages(builder.bytes()).next().unwrap().unwrap();
        assert_eq!(expectation(message.attributes().unwrap()), Ok(expected));
    }

    #[test]
    fn an_expectation_of_nothing_is_malformed() {
        assert!(matches!(expectation(Attributes(&[])), Err(Malformed::Missing(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (expectation(Attributes(&bytes)), statistics(Attributes(&bytes)));
        }
    }
}
