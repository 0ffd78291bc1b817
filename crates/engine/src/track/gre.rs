//! GRE (`nf_conntrack_proto_gre.c`, Linux 6.12; in 6.1 a lost clash is not settled, and so
//! [`Status::NAT_CLASH`] never met).

use ctkeeper_flow::{Direction, Family, Status};

use super::udp::assure;
use super::{Context, Judgement};
use crate::entry::Entry;
use crate::outcome::Handle;
use crate::time::Ticks;
use crate::tuple::Tuple;

/// Places in [`Entry::small`] of the two timeouts, which are the connection's own from its first
/// packet on.
const TIMEOUT: usize = 0;
const STREAM_TIMEOUT: usize = 1;

/// Judges a packet of a GRE connection, which is a stream as soon as it is answered.
pub(crate) fn packet(context: &mut Context<'_>, entry: &mut Entry) -> Judgement {
    if !entry.has(Status::CONFIRMED) {
        let timeouts = &context.settings.timeouts;
        entry.small[TIMEOUT] = Ticks::from_seconds(timeouts.gre).0;
        entry.small[STREAM_TIMEOUT] = Ticks::from_seconds(timeouts.gre_stream).0;
    }
    if !entry.has(Status::SEEN_REPLY) {
        return Judgement::Refresh(Ticks(entry.small[TIMEOUT]));
    }
    assure(context, entry);
    Judgement::Refresh(Ticks(entry.small[STREAM_TIMEOUT]))
}

/// The call ids that the control connections of PPTP have announced in a namespace.
///
/// A packet of PPTP carries the call id of its receiver only; which one the sender goes by, and
/// so the other half of the tuple, must have been learnt from the control connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyMap {
    calls: Vec<Call>,
}

#[derive(Clone, Debug)]
struct Call {
    master: Handle,
    direction: Direction,
    tuple: Tuple,
}

/// A control connection announced a second call in the same direction (`EEXIST`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection has announced another call in this direction")]
pub struct CallExists;

impl KeyMap {
    /// Puts the sender's call id into the tuple of a GRE packet, whose source key is 0 else
    /// (`gre_keymap_lookup`). Of GRE without calls the destination's key is 0 too, and no call has
    /// that.
    pub(crate) fn complete(&self, tuple: &mut Tuple) {
        if let Some(call) = self.calls.iter().find(|call| call.is_of(tuple)) {
            tuple.source_id = call.tuple.source_id;
        }
    }

    /// Notes the tuple of a call in one direction of its data
    /// (`nf_ct_gre_keymap_add`). The same call again is no news.
    ///
    /// # Errors
    /// [`CallExists`] when the control connection has another call in that direction.
    pub(crate) fn add(
        &mut self,
        master: Handle,
        direction: Direction,
        tuple: Tuple,
    ) -> Result<(), CallExists> {
        let mut calls = self.calls.iter();
        match calls.find(|call| call.master == master && call.direction == direction) {
            Some(call) if call.is_of(&tuple) => Ok(()),
            Some(_) => Err(CallExists),
            None => {
                self.calls.push(Call { master, direction, tuple });
                Ok(())
            }
        }
    }

    /// Forgets the calls of a control connection (`nf_ct_gre_keymap_destroy`).
    pub(crate) fn remove(&mut self, master: Handle) {
        self.calls.retain(|call| call.master != master);
    }
}

impl Call {
    fn is_of(&self, tuple: &Tuple) -> bool {
        let key = |tuple: &Tuple| -> (Family, u128, u128, u8, u16) {
            let Tuple { family, source, destination, protocol, destination_id, .. } = *tuple;
            (family, source, destination, protocol, destination_id)
        };
        key(&self.tuple) == key(tuple)
    }
}

#[cfg(test)]
mod tests {
    use ctkeeper_flow::Direction::{Original, Reply};

    use super::super::testing::{Track, tuple};
    use super::*;
    use crate::tuple::protocol;

    fn seconds(seconds: u32) -> Judgement {
        Judgement::Refresh(Ticks::from_seconds(seconds))
    }

    #[test]
    fn is_assured_by_the_first_packet_after_the_reply() {
        let mut track = Track::new(protocol::GRE, |context, entry, _| packet(context, entry));
        assert_eq!(track.packet(Original, &[]), seconds(30));
        assert_eq!(track.packet(Reply, &[]), seconds(30));
        assert!(!track.entry.has(Status::ASSURED));
        assert_eq!(track.packet(Reply, &[]), seconds(180));
        assert!(track.entry.has(Status::ASSURED));
    }

    #[test]
    fn keeps_the_timeouts_of_its_first_packet() {
        let mut track = Track::new(protocol::GRE, |context, entry, _| packet(context, entry));
        track.packet(Original, &[]);
        track.settings.timeouts.gre = 1;
        track.settings.timeouts.gre_stream = 2;
        assert_eq!(track.packet(Reply, &[]), seconds(30));
        assert_eq!(track.packet(Reply, &[]), seconds(180));
    }

    #[test]
    fn a_call_is_found_by_everything_but_its_source_key() {
        let mut keys = KeyMap::default();
        let master = Handle { line: 1, id: 1 };
        let call = Tuple { source_id: 77, destination_id: 5, ..tuple(protocol::GRE) };
        assert_eq!(keys.add(master, Original, call), Ok(()));
        assert_eq!(keys.add(master, Original, Tuple { source_id: 78, ..call }), Ok(()));
        let other = Tuple { destination_id: 6, ..call };
        assert_eq!(keys.add(master, Original, other), Err(CallExists));
        assert_eq!(keys.add(master, Reply, call.inverted().unwrap()), Ok(()));

        let mut packet = Tuple { source_id: 0, ..call };
        keys.complete(&mut packet);
        assert_eq!(packet, call);
        let mut unknown = Tuple { source_id: 0, ..other };
        keys.complete(&mut unknown);
        assert_eq!(unknown.source_id, 0);
        keys.remove(master);
        assert!(keys.calls.is_empty());
    }
}
