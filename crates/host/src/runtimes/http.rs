//! One HTTP request over a unix socket, the answer bounded in size and time.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use super::{ANSWER, Obstacle, Socket, connection};

/// Header fields that are read.
const FIELDS: usize = 64;

/// Bytes before the body, at most.
const HEAD: usize = 64 << 10;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Its status.
    pub(super) status: u16,
    /// What the server calls itself: `Docker/20.10.24 (linux)`.
    pub(super) server: Option<String>,
    /// What it says.
    pub(super) body: Vec<u8>,
}

/// Asks for a path. HTTP/1.0: the server closes when it has said everything.
pub(super) fn get(socket: &Socket, path: &str, deadline: Instant) -> Result<Answer, Obstacle> {
    let mut stream = connection::open(socket, deadline)?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nUser-Agent: ctkeeper\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    parse(&read(&mut stream, deadline)?)
}

fn read(stream: &mut UnixStream, deadline: Instant) -> Result<Vec<u8>, Obstacle> {
    let mut answer = Vec::new();
    let mut piece = vec![0; 64 << 10];
    loop {
        stream.set_read_timeout(Some(connection::left(deadline)?))?;
        let length = match stream.read(&mut piece) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            length => length?,
        };
        if length == 0 {
            return Ok(answer);
        }
        answer.extend_from_slice(piece.get(..length).unwrap_or_default());
        if !begins_like_http(&answer) {
            return Err(Obstacle::OtherProtocol("HTTP"));
        }
        if answer.len() > ANSWER {
            return Err(Obstacle::Answer(format!("more than {} MiB", ANSWER >> 20)));
        }
    }
}

fn begins_like_http(answer: &[u8]) -> bool {
    let expected = b"HTTP/1.";
    let length = answer.len().min(expected.len());
    answer.get(..length) == expected.get(..length)
}

fn parse(answer: &[u8]) -> Result<Answer, Obstacle> {
    let broken = |problem: String| Obstacle::Answer(format!("a broken HTTP answer ({problem})"));
    if answer.is_empty() || !begins_like_http(answer) {
        return Err(Obstacle::OtherProtocol("HTTP"));
    }
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let head = answer.get(..answer.len().min(HEAD)).unwrap_or(answer);
    let length = match response.parse(head) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Err(broken("it ends early".to_owned())),
        Err(error) => return Err(broken(error.to_string())),
    };
    let field = |name: &str| {
        let found = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        found.map(|field| String::from_utf8_lossy(field.value).trim().to_owned())
    };
    let body = answer.get(length..).unwrap_or_default();
    let coding = field("transfer-encoding").unwrap_or_default();
    let body = if coding.to_ascii_lowercase().ends_with("chunked") {
        unchunked(body).ok_or_else(|| broken("a bad chunk".to_owned()))?
    } else {
        let length = field("content-length").and_then(|length| length.parse::<usize>().ok());
        let whole = body.get(..length.unwrap_or(body.len()));
        whole.ok_or_else(|| broken("it ends early".to_owned()))?.to_vec()
    };
    Ok(Answer { status: response.code.unwrap_or_default(), server: field("server"), body })
}

/// The content of chunks (RFC 9112 §7.1); `None` when they are broken or end early.
fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let Ok(httparse::Status::Complete((begin, length))) = httparse::parse_chunk_size(rest)
        else {
            return None;
        };
        if length == 0 {
            return Some(content);
        }
        let end = begin.checked_add(usize::try_from(length).ok()?)?;
        content.extend_from_slice(rest.get(begin..end)?);
        rest = rest.get(end..)?.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(answer: &[u8]) -> Result<Vec<u8>, Obstacle> {
        parse(answer).map(|answer| answer.body)
    }

    #[test]
    fn answers_are_read_in_every_form() {
        let plain = b"HTTP/1.0 200 OK\r\nServer: Docker/20.10.24 (linux)\r\n\r\n[]";
        let answer = parse(plain).unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b"[]"[..]));
        assert_eq!(answer.server.as_deref(), Some("Docker/20.10.24 (linux)"));
        let counted = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]more";
        assert_eq!(body(counted).unwrap(), b"[]");
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                        1;x=y\r\n[\r\n1\r\n]\r\n0\r\n\r\n";
        assert_eq!(body(chunked).unwrap(), b"[]");
    }

    #[test]
    fn broken_answers_are_told_from_other_protocols() {
        for broken in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n[]"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[]",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n[]",
            b"HTTP/1.1 200 OK\r\nServer: x",
            b"HTTP/1.1 2",
        ] {
            assert!(matches!(body(broken), Err(Obstacle::Answer(_))), "{broken:?}");
        }
        for other in [&b""[..], b"\x00\x00\x12\x04", b"SSH-2.0"] {
            assert!(matches!(body(other), Err(Obstacle::OtherProtocol(_))), "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn junk_does_no_harm(junk in prop::collection::vec(any::<u8>(), 0..300), chunked in any::<bool>()) {
            let head = if chunked { "Transfer-Encoding: chunked\r\n" } else { "" };
            let mut answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n").into_bytes();
            answer.extend_from_slice(&junk);
            let _ = (parse(&junk), parse(&answer));
        }
    }
}
