//! The SCTP state table (`sctp_conntracks`, `nf_conntrack_proto_sctp.c`, Linux 6.12, the same in
//! 6.1).

use ctkeeper_flow::{Direction, SctpState};

use super::kind;

const CL: u8 = SctpState::Closed.number();
const CW: u8 = SctpState::CookieWait.number();
const CE: u8 = SctpState::CookieEchoed.number();
const ES: u8 = SctpState::Established.number();
const SS: u8 = SctpState::ShutdownSent.number();
const SR: u8 = SctpState::ShutdownRecd.number();
const SA: u8 = SctpState::ShutdownAckSent.number();
const HS: u8 = SctpState::HeartbeatSent.number();
/// No place for the chunk.
const IV: u8 = u8::MAX;

const STATES: usize = 9;

/// By row of the chunk, then by the state before it: none, CL CW CE ES SS SR SA HS.
type Cells = [[u8; STATES]; 11];

const ORIGINAL: Cells = [
    [CL, CL, CW, CE, ES, CL, CL, SA, CW],
    [CL, CL, CW, CE, ES, SS, SR, SA, CL],
    [CL, CL, CL, CL, CL, CL, CL, CL, CL],
    [CL, CL, CW, CE, SS, SS, SR, SA, CL],
    [SA, CL, CW, CE, ES, SA, SA, SA, SA],
    [CL, CL, CW, CE, ES, SS, SR, SA, CL],
    [CL, CL, CE, CE, ES, SS, SR, SA, CL],
    [CL, CL, CW, ES, ES, SS, SR, SA, CL],
    [CL, CL, CW, CE, ES, SS, SR, CL, CL],
    [HS, CL, CW, CE, ES, SS, SR, SA, HS],
    [CL, CL, CW, CE, ES, SS, SR, SA, HS],
];

const REPLY: Cells = [
    [IV, CL, CW, CE, ES, SS, SR, SA, IV],
    [IV, CW, CW, CE, ES, SS, SR, SA, IV],
    [IV, CL, CL, CL, CL, CL, CL, CL, IV],
    [IV, CL, CW, CE, SR, SS, SR, SA, IV],
    [IV, CL, CW, CE, ES, SA, SA, SA, IV],
    [IV, CL, CW, CL, ES, SS, SR, SA, IV],
    [IV, CL, CE, CE, ES, SS, SR, SA, IV],
    [IV, CL, CW, ES, ES, SS, SR, SA, IV],
    [IV, CL, CW, CE, ES, SS, SR, CL, IV],
    [IV, CL, CW, CE, ES, SS, SR, SA, HS],
    [IV, CL, CW, CE, ES, SS, SR, SA, ES],
];

/// The row of a kind of chunk; kinds without one leave the state as it is.
pub(super) const fn row(chunk: u8) -> Option<u8> {
    Some(match chunk {
        kind::INIT => 0,
        kind::INIT_ACK => 1,
        kind::ABORT => 2,
        kind::SHUTDOWN => 3,
        kind::SHUTDOWN_ACK => 4,
        kind::ERROR => 5,
        kind::COOKIE_ECHO => 6,
        kind::COOKIE_ACK => 7,
        kind::SHUTDOWN_COMPLETE => 8,
        kind::HEARTBEAT => 9,
        kind::HEARTBEAT_ACK => 10,
        _ => return None,
    })
}

/// The state behind a cell; `None` where the state has no place for the chunk.
pub(super) fn next(direction: Direction, row: u8, from: u8) -> Option<u8> {
    let cells = match direction {
        Direction::Original => &ORIGINAL,
        Direction::Reply => &REPLY,
    };
    let next = *cells.get(usize::from(row))?.get(usize::from(from))?;
    (next != IV).then_some(next)
}
