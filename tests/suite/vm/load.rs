//! Load for a guest, which has no network but its loopback and no other tools:
//! `guest-load datagrams COUNT PER_SECOND` and `guest-load established COUNT`.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ctkeeper_netlink::Conntrack;
use ctkeeper_tests::{Filling, filled};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        ["datagrams", count, rate] => datagrams(count, rate),
        ["established", count] => established(count),
        _ => Err(anyhow::anyhow!("guest-load datagrams COUNT PER_SECOND | established COUNT")),
    };
    match result {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("guest-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Real packets: datagrams over loopback, each to an address and port that had none before, so that
/// each asks for a new entry. A refused one fails with EPERM.
fn datagrams(count: &str, rate: &str) -> anyhow::Result<String> {
    let (count, rate): (u32, u32) = (count.parse()?, rate.parse()?);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("binding a socket")?;
    let (start, mut refused) = (Instant::now(), 0_u32);
    let mark = u32::from(socket.local_addr()?.port());
    for number in 0..count {
        // 50,000 ports of one address after the other; a base of its own for every run.
        let [.., high, low] = (mark * 16 + number / 50_000).to_be_bytes();
        let address = Ipv4Addr::new(127, 77, high, low);
        let target = SocketAddr::from((address, 10_000 + (number % 50_000) as u16));
        refused += u32::from(socket.send_to(b"new", target).is_err());
        let due = start + Duration::from_secs(1) * number / rate.max(1);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(format!("{count} sent, {refused} refused"))
}

/// Entries made by netlink: established, assured connections, which nothing evicts.
fn established(count: &str) -> anyhow::Result<String> {
    let count: u64 = count.parse()?;
    let mut table = Conntrack::open()?;
    let flows = (0..count).map(|n| filled(n, Filling::Established { timeout: 431_990 }));
    let batch = table.create_batch(flows, |_, _| ControlFlow::Continue(()))?;
    if batch.failed == count {
        bail!("every one of {count} entries was refused");
    }
    Ok(format!("{} made, {} refused", count - batch.failed, batch.failed))
}
