//! What the written forms and the filter cost for an entry: `cargo run --release -p ctkeeper-bench --bin forms`.
//!
//! Single-threaded, over entries that differ; the least of several rounds.

use std::hint::black_box;
use std::time::Instant;

use ctkeeper_flow::{
    Counters, Filter, Flow, Mark, Protocol, ProtocolState, Status, TcpState, Tuple, json, text,
};

const ENTRIES: u32 = 100_000;
const ROUNDS: usize = 41;

fn main() -> anyhow::Result<()> {
    let flows: Vec<Flow> = (0..ENTRIES).map(flow).collect();
    let mut out = Vec::with_capacity(1 << 16);
    let options = text::TextOptions::default();
    report("text, written", || {
        for flow in &flows {
            out.clear();
            text::write(flow, &options, &mut out);
            black_box(&out);
        }
    });
    let mut out = Vec::with_capacity(1 << 16);
    report("JSON, written", || {
        for flow in &flows {
            out.clear();
            json::write(flow, &json::JsonOptions::default(), &mut out);
            black_box(&out);
        }
    });
    let lines: Vec<String> = flows.iter().map(|flow| text_of(flow, &options)).collect();
    report("text, read", || {
        for line in &lines {
            black_box(text::parse(line).is_ok());
        }
    });
    let objects: Vec<String> = flows.iter().map(json_of).collect();
    report("JSON, read", || {
        for object in &objects {
            black_box(json::parse(object).is_ok());
        }
    });
    for expression in [
        "tcp dport 443",
        "src 10.0.0.0/8 and not (dport 22 or unreplied)",
        "ipv6 dport 80,443,8000-8100",
        "state TIME_WAIT,CLOSE_WAIT or timeout < 5m or bytes > 1GiB",
    ] {
        let filter = Filter::parse(expression)?;
        report(expression, || {
            for flow in &flows {
                black_box(filter.matches(flow, 0));
            }
        });
    }
    Ok(())
}

/// An established TCP connection, every fourth over IPv6, every second with counters.
fn flow(number: u32) -> Flow {
    let (source, destination) = if number.is_multiple_of(4) {
        let base = 0xfd77_0001_0002_0003_u128 << 64;
        (
            std::net::IpAddr::V6((base | u128::from(number)).into()),
            std::net::IpAddr::V6((base | 0xffff << 32 | u128::from(number % 7)).into()),
        )
    } else {
        (
            std::net::IpAddr::V4((0x0a00_0000 + number).into()),
            std::net::IpAddr::V4((0xac10_0000 + number % 7).into()),
        )
    };
    let port = (number % 60_000 + 1024) as u16;
    let original = Tuple::with_ports(Protocol::TCP, (source, port), (destination, 443));
    let counters = number
        .is_multiple_of(2)
        .then(|| Counters { packets: u64::from(number % 1000), bytes: u64::from(number) * 700 });
    Flow {
        original,
        reply: original.inverted().unwrap_or(original),
        status: Status(0xe) | Status::SRC_NAT_DONE | Status::DST_NAT_DONE,
        state: ProtocolState::tcp(TcpState::Established),
        timeout: Some(432_000 - number % 86_400),
        mark: Some(Mark(0)),
        id: Some(number.wrapping_mul(0x9e37_79b9)),
        use_count: Some(1),
        counters_original: counters,
        counters_reply: counters,
        ..Flow::default()
    }
}

fn text_of(flow: &Flow, options: &text::TextOptions<'_>) -> String {
    let mut out = Vec::new();
    text::write(flow, options, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn json_of(flow: &Flow) -> String {
    let mut out = Vec::new();
    json::write(flow, &json::JsonOptions::default(), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn report(what: &str, mut round: impl FnMut()) {
    let best = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            round();
            begun.elapsed()
        })
        .min()
        .unwrap_or_default();
    let nanoseconds = best.as_nanos() as f64 / f64::from(ENTRIES);
    println!("{what:<60} {nanoseconds:7.1} ns an entry");
}
