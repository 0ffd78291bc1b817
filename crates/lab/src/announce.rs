//! FTP sessions that announce a data connection which never comes: each leaves an expectation where
//! a rule gives port 21 to the kernel's `ftp` helper.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::ops::Range;
use std::time::Duration;

use crate::{LabError, check_interrupted};

/// Announcements that there are ports for.
pub(crate) const MOST: u64 = 40_000;
const FIRST_PORT: u64 = 20_000;
const PATIENCE: Duration = Duration::from_secs(3);

/// Opens sessions one after the other, each announcing a port of its own, and closes them; the
/// entries stay for TIME_WAIT, and with them the expectations.
pub(crate) fn announce(target: SocketAddr, numbers: Range<u64>) -> Result<(), LabError> {
    for number in numbers {
        check_interrupted()?;
        session(target, (FIRST_PORT + number % MOST) as u16)
            .map_err(LabError::system("announce a connection to", target.to_string()))?;
    }
    Ok(())
}

fn session(target: SocketAddr, port: u16) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_nodelay(true)?;
    // The helper reads a line only if it saw where the one before it ended
    // (find_nl_seq, net/netfilter/nf_conntrack_ftp.c, Linux 6.12).
    stream.write_all(b"USER lab\r\n")?;
    let IpAddr::V4(own) = stream.local_addr()?.ip() else {
        return Err(std::io::Error::other("PORT is for IPv4; EPRT is not needed here"));
    };
    let [a, b, c, d] = own.octets();
    let [high, low] = port.to_be_bytes();
    stream.write_all(format!("PORT {a},{b},{c},{d},{high},{low}\r\n").as_bytes())
}
