//! Unary gRPC calls over a unix socket, on the calling thread: HTTP/2 by `h2`, all calls of one
//! socket on one connection, each bounded in size, all in time.

use std::future::{Future, poll_fn};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use h2::RecvStream;
use h2::client::{Builder, ResponseFuture, SendRequest};
use http::{HeaderMap, Request};
use tokio::net::UnixStream;
use tokio::runtime;
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use super::{ANSWER, Obstacle, Socket, connection};

/// `UNIMPLEMENTED` (gRPC's status codes).
const UNIMPLEMENTED: u32 = 12;

/// Bytes that the server may send before it is told that they were read.
const WINDOW: u32 = 1 << 20;

/// How a call ended that was not answered.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server does not know the method.
    Unimplemented,
    /// Anything else.
    Other(Obstacle),
}

impl<E: Into<Obstacle>> From<E> for Failure {
    fn from(obstacle: E) -> Self {
        Self::Other(obstacle.into())
    }
}

/// What h2 itself objects to is no HTTP/2.
impl From<h2::Error> for Obstacle {
    fn from(error: h2::Error) -> Self {
        if error.is_library() {
            return Self::OtherProtocol("gRPC");
        }
        let text = error.to_string();
        error.into_io().map_or_else(|| Self::Answer(text), Self::from)
    }
}

/// Calls methods at once: each a path (`/runtime.v1.RuntimeService/Version`) and a message.
pub(super) fn call<const CALLS: usize>(
    socket: &Socket,
    calls: [(String, &'static [u8]); CALLS],
    deadline: Instant,
) -> Result<[Result<Vec<u8>, Failure>; CALLS], Obstacle> {
    let stream = connection::open(socket, deadline)?;
    stream.set_nonblocking(true)?;
    let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    LocalSet::new().block_on(&runtime, async move {
        let stream = UnixStream::from_std(stream)?;
        let mut builder = Builder::new();
        builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW);
        builder.enable_push(false);
        let begun = within(deadline, builder.handshake::<_, Bytes>(stream)).await?;
        let (sender, connection) = begun?;
        let driver = spawn_local(connection);
        let mut begun = Vec::with_capacity(CALLS);
        for (path, message) in calls {
            begun.push(spawn_local(one(sender.clone(), path, message)));
        }
        drop(sender);
        let mut ended = Vec::with_capacity(CALLS);
        for call in begun {
            ended.push(end(call, deadline).await);
        }
        driver.abort();
        let whole = ended.try_into();
        whole.map_err(|_| Obstacle::Answer("a call is missing".to_owned()))
    })
}

async fn end(
    mut call: JoinHandle<Result<Vec<u8>, Failure>>,
    deadline: Instant,
) -> Result<Vec<u8>, Failure> {
    let ended = within(deadline, &mut call).await;
    call.abort();
    ended?.map_err(|_| Obstacle::Answer("its reader has failed".to_owned()))?
}

async fn within<T>(deadline: Instant, work: impl Future<Output = T>) -> Result<T, Obstacle> {
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    tokio::time::timeout(left, work).await.map_err(|_| Obstacle::Silence)
}

async fn one(
    sender: SendRequest<Bytes>,
    path: String,
    message: &'static [u8],
) -> Result<Vec<u8>, Failure> {
    let mut sender = sender.ready().await.map_err(Obstacle::from)?;
    let request = Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "ctkeeper")
        .body(())
        .map_err(|error| Obstacle::Answer(error.to_string()))?;
    let (answer, mut body) = sender.send_request(request, false).map_err(Obstacle::from)?;
    body.send_data(framed(message), true).map_err(Obstacle::from)?;
    receive(answer).await
}

/// A byte that says whether it is compressed, the length, the message.
fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(message);
    frame.freeze()
}

async fn receive(answer: ResponseFuture) -> Result<Vec<u8>, Failure> {
    let answer = answer.await.map_err(Obstacle::from)?;
    let status = answer.status();
    if status != 200 {
        return Err(Obstacle::Answer(format!("HTTP status {status}")).into());
    }
    // A call that fails at once has its status here, and nothing after it.
    judge(answer.headers())?;
    let mut body = answer.into_body();
    let content = content(&mut body).await?;
    let trailers = poll_fn(|context| body.poll_trailers(context)).await;
    if let Some(trailers) = trailers.map_err(Obstacle::from)? {
        judge(&trailers)?;
    }
    unframed(content)
}

async fn content(body: &mut RecvStream) -> Result<Vec<u8>, Failure> {
    let mut content = Vec::new();
    while let Some(piece) = poll_fn(|context| body.poll_data(context)).await {
        let piece = piece.map_err(Obstacle::from)?;
        if content.len() + piece.len() > ANSWER {
            return Err(Obstacle::Answer(format!("more than {} MiB", ANSWER >> 20)).into());
        }
        content.extend_from_slice(&piece);
        body.flow_control().release_capacity(piece.len()).map_err(Obstacle::from)?;
    }
    Ok(content)
}

fn judge(fields: &HeaderMap) -> Result<(), Failure> {
    let Some(status) = fields.get("grpc-status") else { return Ok(()) };
    match status.to_str().ok().and_then(|status| status.parse::<u32>().ok()) {
        Some(0) => Ok(()),
        Some(UNIMPLEMENTED) => Err(Failure::Unimplemented),
        _ => {
            let text = |name| {
                let text = fields.get(name).map(http::HeaderValue::as_bytes).unwrap_or_default();
                String::from_utf8_lossy(text.get(..text.len().min(512)).unwrap_or_default())
                    .into_owned()
            };
            let (status, message) = (text("grpc-status"), text("grpc-message"));
            Err(Obstacle::Answer(format!("gRPC status {status} {message}")).into())
        }
    }
}

fn unframed(mut content: Vec<u8>) -> Result<Vec<u8>, Failure> {
    let broken = || Obstacle::Answer("a broken gRPC answer".to_owned());
    let head: [u8; 5] = content.first_chunk().copied().ok_or_else(broken)?;
    let [compressed, a, b, c, d] = head;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if compressed != 0 || content.len() - 5 != length {
        return Err(broken().into());
    }
    content.drain(..5);
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_opened_as_they_are_closed() {
        assert_eq!(unframed(framed(b"abc").to_vec()).unwrap(), b"abc");
        assert_eq!(unframed(framed(b"").to_vec()).unwrap(), b"");
        for broken in [&b""[..], b"\0\0\0\0", b"\0\0\0\0\x02a", b"\x01\0\0\0\0", b"\0\0\0\0\0a"] {
            assert!(unframed(broken.to_vec()).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn a_status_is_judged() {
        let of = |status: &str| {
            let mut fields = HeaderMap::new();
            fields.insert("grpc-status", status.parse().unwrap());
            judge(&fields)
        };
        assert!(judge(&HeaderMap::new()).is_ok() && of("0").is_ok());
        assert!(matches!(of("12"), Err(Failure::Unimplemented)));
        assert!(matches!(of("7"), Err(Failure::Other(Obstacle::Answer(_)))));
        assert!(matches!(of("x"), Err(Failure::Other(Obstacle::Answer(_)))));
    }
}
