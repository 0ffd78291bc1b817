//! Every protocol without a tracker of its own (`generic_packet`, `nf_conntrack_core.c`,
//! Linux 6.12; 6.1 decides alike).

use super::{Context, Judgement};
use crate::time::Ticks;

/// Any packet is part of the connection and keeps it alive; nothing makes it assured.
pub(crate) fn packet(context: &Context<'_>) -> Judgement {
    Judgement::Refresh(Ticks::from_seconds(context.settings.timeouts.generic))
}

#[cfg(test)]
mod tests {
    use ctkeeper_flow::Direction::{Original, Reply};
    use ctkeeper_flow::Status;

    use super::super::testing::Track;
    use super::*;

    #[test]
    fn any_packet_refreshes_and_none_assures() {
        let mut track = Track::new(50, |context, _, _| packet(context));
        for direction in [Original, Reply, Original, Reply] {
            let expected = Judgement::Refresh(Ticks::from_seconds(600));
            assert_eq!(track.packet(direction, &[]), expected);
        }
        assert!(track.entry.has(Status::SEEN_REPLY) && !track.entry.has(Status::ASSURED));
    }
}
