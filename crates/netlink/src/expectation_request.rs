//! Requests about one expectation that carry exactly the attributes they are given.

use ctkeeper_flow::{Expectation, ExpectationFlags, Tuple};

use crate::attribute::{EXPECTATIONS, expectation as part, expectation_operation as message_type};
use crate::ctnetlink::Conntrack;
use crate::encode;
use crate::entry_request::Verb;
use crate::error::{Errno, Error, Operation};
use crate::expectations::expectation;
use crate::wire::{Builder, message};

/// Attributes of a request; what is absent is not sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpectationRequest {
    /// What is expected.
    pub expected: Option<Tuple>,
    /// Which bits of its source count.
    pub mask: Option<Tuple>,
    /// The original tuple of the master.
    pub master: Option<Tuple>,
    /// The zone of all three.
    pub zone: Option<u16>,
    /// Seconds; a creation without gets the timeout of the helper's policy.
    pub timeout: Option<u32>,
    /// The kernel's id, which reading and deletion compare.
    pub id: Option<u32>,
    /// The helper of the connection to come.
    pub helper: Option<Box<str>>,
    /// How it behaves.
    pub flags: Option<ExpectationFlags>,
    /// Which of the helper's kinds of expectation it is.
    pub class: Option<u32>,
}

impl ExpectationRequest {
    /// What finds `expectation` again, and no later one in its place.
    pub fn naming(expectation: &Expectation) -> Self {
        Self {
            expected: Some(expectation.expected),
            zone: (expectation.zone.id != 0).then_some(expectation.zone.id),
            id: expectation.id,
            ..Self::default()
        }
    }

    /// The family of the master, or else of what is expected.
    fn family(&self) -> u8 {
        let tuple = self.master.as_ref().or(self.expected.as_ref());
        tuple.map_or(0, |tuple| tuple.family().number())
    }

    fn about(&self) -> Option<&Tuple> {
        self.expected.as_ref().or(self.master.as_ref())
    }

    fn write(&self, builder: &mut Builder) {
        let tuples = [
            (part::TUPLE, self.expected.as_ref()),
            (part::MASTER, self.master.as_ref()),
            (part::MASK, self.mask.as_ref()),
        ];
        for (kind, tuple) in tuples {
            if let Some(tuple) = tuple {
                encode::tuple_as(builder, kind, tuple);
            }
        }
        let numbers = [
            (part::TIMEOUT, self.timeout),
            (part::ID, self.id),
            (part::FLAGS, self.flags.map(|flags| flags.0)),
            (part::CLASS, self.class),
        ];
        for (kind, value) in numbers {
            if let Some(value) = value {
                builder.put_be32(kind, value);
            }
        }
        if let Some(zone) = self.zone {
            builder.put_be16(part::ZONE, zone);
        }
        if let Some(helper) = &self.helper {
            builder.put_text(part::HELPER, helper);
        }
    }
}

impl Conntrack {
    /// Creates, changes (its timeout, nothing else) or deletes one expectation. Every refusal is an
    /// error with the kernel's number. A deletion that names neither what is expected nor a helper
    /// is not sent, since the kernel would delete all: it fails with `EINVAL`.
    pub fn request_expectation(
        &mut self,
        verb: Verb,
        expectation: &ExpectationRequest,
    ) -> Result<(), Error> {
        let (operation, kind, flags) = match verb {
            Verb::Create => {
                (Operation::Expect, message_type::NEW, message::CREATE | message::EXCLUSIVE)
            }
            Verb::Update => (Operation::UpdateExpectation, message_type::NEW, 0),
            Verb::Delete => (Operation::DeleteExpectation, message_type::DELETE, 0),
        };
        let object = || expectation.about().map_or_else(String::new, Tuple::to_string);
        if verb == Verb::Delete && expectation.expected.is_none() {
            return Err(Error::kernel(operation, object(), Errno(libc::EINVAL)));
        }
        let (kind, flags) = (EXPECTATIONS | kind, flags | message::ACKNOWLEDGE);
        let request = self
            .request_of(operation, kind, flags, expectation.family(), |b| expectation.write(b))?;
        self.socket().exchange(operation, &object, &request, |_| Ok(false))
    }

    /// Reads one expectation. The kernel finds it by the tuple of a packet that would meet it:
    /// `expected` if given, else `master`. Fails with `ENOENT` if there is none.
    pub fn look_up_expectation(
        &mut self,
        request: &ExpectationRequest,
    ) -> Result<Expectation, Error> {
        let operation = Operation::GetExpectation;
        let object = || request.about().map_or_else(String::new, Tuple::to_string);
        let kind = EXPECTATIONS | message_type::GET;
        let message =
            self.request_of(operation, kind, 0, request.family(), |b| request.write(b))?;
        let mut found = Expectation::default();
        self.socket().exchange(operation, &object, &message, |message| {
            found = expectation(message.attributes()?)?;
            Ok(true)
        })?;
        Ok(found)
    }

    /// Deletes an expectation that was read before: a later one in its place, with another id, is
    /// not touched. False if it has gone already.
    pub fn delete_expectation(&mut self, expectation: &Expectation) -> Result<bool, Error> {
        let request = ExpectationRequest::naming(expectation);
        match self.request_expectation(Verb::Delete, &request) {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Some(Errno(libc::ENOENT)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
