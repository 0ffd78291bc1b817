//! A sequence about which kernel and engine disagree, made as small as it can be.

use crate::sequence::{Defects, Sequence, Step, Transport};

/// Takes steps away and makes packets plainer as long as `fails` says that the disagreement stays,
/// with at most so many attempts.
pub fn shrink(
    sequence: &Sequence,
    attempts: u32,
    mut fails: impl FnMut(&Sequence) -> bool,
) -> Sequence {
    let mut smallest = sequence.clone();
    let mut left = attempts;
    let mut attempt = |candidate: &Sequence| {
        left = left.saturating_sub(1);
        left > 0 && fails(candidate)
    };
    loop {
        let before = smallest.clone();
        take_steps_away(&mut smallest, &mut attempt);
        make_plainer(&mut smallest, &mut attempt);
        if smallest == before {
            return smallest;
        }
    }
}

/// Halves, quarters and so on, down to single steps, the last ones first.
fn take_steps_away(smallest: &mut Sequence, fails: &mut impl FnMut(&Sequence) -> bool) {
    let mut size = smallest.steps.len().next_power_of_two() / 2;
    while size > 0 {
        let mut end = smallest.steps.len();
        while end > 0 {
            let begin = end.saturating_sub(size);
            let mut candidate = smallest.clone();
            candidate.steps.drain(begin..end);
            if !candidate.steps.is_empty() && fails(&candidate) {
                *smallest = candidate;
            }
            end = begin.min(smallest.steps.len());
        }
        size /= 2;
    }
}

fn make_plainer(smallest: &mut Sequence, fails: &mut impl FnMut(&Sequence) -> bool) {
    for place in 0..smallest.steps.len() {
        for change in PLAINER {
            let mut candidate = smallest.clone();
            change(&mut candidate.steps[place]);
            if candidate != *smallest && fails(&candidate) {
                *smallest = candidate;
            }
        }
    }
}

/// What makes a packet plainer.
const PLAINER: [fn(&mut Step); 5] = [
    |step| {
        if let Step::Send(packet) = step {
            packet.defects = Defects::default();
        }
    },
    |step| {
        if let Step::Send(packet) = step
            && let Transport::Tcp(segment) = &mut packet.transport
        {
            segment.options.clear();
        }
    },
    |step| {
        if let Step::Send(packet) = step
            && let Transport::Tcp(segment) = &mut packet.transport
        {
            segment.payload = 0;
        }
    },
    |step| {
        if let Step::Send(packet) = step
            && let Transport::Sctp(packet) = &mut packet.transport
        {
            packet.chunks.truncate(1);
        }
    },
    |step| {
        if let Step::Pause(slots) = step {
            *slots = 1;
        }
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;
    use crate::generate::{Kind, Wish, sequence};
    use crate::sequence::Treatment;

    #[test]
    fn finds_the_one_step_that_matters() {
        let wish =
            Wish { kind: Kind::TcpSession, timed: true, treatment: Treatment::Plain, number: 0 };
        for seed in 0..50 {
            let whole = sequence(wish, &mut Dice::new(seed));
            let one = whole.steps[seed as usize % whole.steps.len()].clone();
            if let Step::Send(packet) = &one {
                let is_there = |sequence: &Sequence| {
                    sequence.steps.iter().any(|step| match step {
                        Step::Send(other) => other.from == packet.from,
                        Step::Pause(_) => false,
                    })
                };
                let small = shrink(&whole, 10_000, is_there);
                assert_eq!(small.steps.len(), 1);
            }
        }
    }
}
