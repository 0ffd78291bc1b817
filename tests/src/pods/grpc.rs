//! One call of gRPC after the other over a unix socket: as much of HTTP/2 (RFC 9113) as a test's own
//! containerd needs to be told something.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const ACKNOWLEDGED: u8 = 1;
const END_OF_STREAM: u8 = 1;
const END_OF_HEADERS: u8 = 4;
/// Pulling up a pod takes a while on a machine that has much to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// Calls a method of a service; its answer comes back.
pub(crate) fn call(socket: &Path, method: &str, request: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)
        .with_context(|| format!("connecting to {}", socket.display()))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
    frame(&mut stream, SETTINGS, 0, 0, &[])?;
    frame(&mut stream, HEADERS, END_OF_HEADERS, 1, &headers(method))?;
    let mut message = vec![0];
    message.extend((request.len() as u32).to_be_bytes());
    message.extend(request);
    frame(&mut stream, DATA, END_OF_STREAM, 1, &message)?;
    answer(&mut stream).with_context(|| method.to_owned())
}

/// Literal fields that nobody remembers, none of them compressed (RFC 7541, 6.2.2).
fn headers(method: &str) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", method),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // Lengths below 127 take one byte.
            block.push(text.len() as u8);
            block.extend(text.as_bytes());
        }
    }
    block
}

fn frame(
    stream: &mut UnixStream,
    kind: u8,
    flags: u8,
    of: u32,
    payload: &[u8],
) -> anyhow::Result<()> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(of.to_be_bytes());
    bytes.extend(payload);
    stream.write_all(&bytes).context("writing to the runtime")
}

fn answer(stream: &mut UnixStream) -> anyhow::Result<Vec<u8>> {
    let (mut message, mut trailers) = (Vec::new(), Vec::new());
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).context("reading the runtime's answer")?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).context("reading the runtime's answer")?;
        let (kind, flags) = (head[3], head[4]);
        match kind {
            SETTINGS if flags & ACKNOWLEDGED == 0 => {
                frame(stream, SETTINGS, ACKNOWLEDGED, 0, &[])?;
            }
            PING if flags & ACKNOWLEDGED == 0 => frame(stream, PING, ACKNOWLEDGED, 0, &payload)?,
            DATA => message.extend(payload),
            HEADERS => trailers = payload,
            RESET | GO_AWAY => bail!("broken off: {}", String::from_utf8_lossy(&payload)),
            _ => {}
        }
        if matches!(kind, DATA | HEADERS) && flags & END_OF_STREAM != 0 {
            break;
        }
    }
    // One that fails has no message, and says why in its trailers (compressed, for the most part).
    let body = message.get(5..);
    ensure!(body.is_some(), "refused: {}", String::from_utf8_lossy(&trailers).escape_debug());
    Ok(body.unwrap_or_default().to_vec())
}
