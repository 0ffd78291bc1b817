//! Telling when an answer is whole.

use super::report::ErrorKind;
use super::traffic::{Exchange, Http};

/// The longest head of a response.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

/// What is said on a connection, and how its answer is told.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) bytes: Vec<u8>,
    is_http: bool,
}

impl Question {
    /// An HTTP request; `host` is who is asked unless it says otherwise.
    pub(super) fn http(http: &Http, host: &str) -> Self {
        let host = http.host.as_deref().unwrap_or(host);
        Self::get(&http.path, host, http.connections.is_some())
    }

    /// An exchange on a connection that stays afterwards, or does not.
    pub(super) fn exchange(exchange: &Exchange, host: &str, stays: bool) -> Self {
        match exchange {
            Exchange::Echo { bytes } => Self { bytes: vec![b'.'; *bytes as usize], is_http: false },
            Exchange::Http { path } => Self::get(path, host, stays),
        }
    }

    fn get(path: &str, host: &str, stays: bool) -> Self {
        let close = if stays { "" } else { "Connection: close\r\n" };
        let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{close}\r\n");
        Self { bytes: text.into_bytes(), is_http: true }
    }

    /// A reader for the answer.
    pub(super) const fn answer(&self) -> Answer {
        if self.is_http { Answer::Head(Vec::new()) } else { Answer::Bytes(self.bytes.len() as u64) }
    }
}

/// An answer as far as it has come.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// So many bytes to come, of an echo.
    Bytes(u64),
    /// The head of an HTTP response, as far as it has come in earlier reads.
    Head(Vec<u8>),
    /// So many bytes to come, of an HTTP response.
    Body(Response, u64),
    /// A body in chunks, to its last, empty one.
    Chunks(Response, Chunks),
    /// A body that ends when the peer closes.
    UntilClose(Response),
}

/// What the head of a response said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Response {
    status: u16,
    /// Whether the connection can be used again.
    pub(super) stays: bool,
}

/// What some bytes did to an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// More must come.
    Unfinished,
    /// It is whole; the connection can be used again, or not.
    Whole { stays: bool },
    /// It is whole, and it is a refusal.
    Refusal { stays: bool },
    /// It is none.
    Nonsense,
}

impl Response {
    const fn whole(self) -> Reading {
        let stays = self.stays;
        if self.status >= 400 { Reading::Refusal { stays } } else { Reading::Whole { stays } }
    }
}

impl Reading {
    /// How the arrival ended, if it has.
    pub(super) const fn outcome(self) -> Option<Result<(), ErrorKind>> {
        match self {
            Self::Unfinished => None,
            Self::Whole { .. } => Some(Ok(())),
            Self::Refusal { .. } => Some(Err(ErrorKind::BadStatus)),
            Self::Nonsense => Some(Err(ErrorKind::BadAnswer)),
        }
    }

    /// Whether the connection can be used again.
    pub(super) const fn stays(self) -> bool {
        matches!(self, Self::Whole { stays: true } | Self::Refusal { stays: true })
    }
}

impl Answer {
    /// Takes what came. What comes beyond the end of an answer is nobody's, and makes it none.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Reading {
        match self {
            Self::Bytes(left) => Self::count_down(left, bytes, Reading::Whole { stays: true }),
            Self::Body(response, left) => Self::count_down(left, bytes, response.whole()),
            Self::Chunks(response, chunks) => match chunks.read(bytes) {
                ChunksRead::Unfinished => Reading::Unfinished,
                ChunksRead::Whole => response.whole(),
                ChunksRead::Nonsense => Reading::Nonsense,
            },
            Self::UntilClose(_) => Reading::Unfinished,
            Self::Head(earlier) if earlier.is_empty() => match parse(bytes) {
                Parsed::Partial if bytes.len() < MAX_HEAD => {
                    earlier.extend_from_slice(bytes);
                    Reading::Unfinished
                }
                parsed => self.go_on(parsed, bytes),
            },
            Self::Head(earlier) => {
                let mut all = std::mem::take(earlier);
                all.extend_from_slice(bytes);
                match parse(&all) {
                    Parsed::Partial if all.len() < MAX_HEAD => {
                        *earlier = all;
                        Reading::Unfinished
                    }
                    parsed => self.go_on(parsed, &all),
                }
            }
        }
    }

    /// The peer closed.
    pub(super) const fn close(&self) -> Reading {
        match self {
            Self::UntilClose(response) => response.whole(),
            _ => Reading::Unfinished,
        }
    }

    const fn count_down(left: &mut u64, bytes: &[u8], whole: Reading) -> Reading {
        let came = bytes.len() as u64;
        if came > *left {
            return Reading::Nonsense;
        }
        *left -= came;
        if *left == 0 { whole } else { Reading::Unfinished }
    }

    fn go_on(&mut self, parsed: Parsed, bytes: &[u8]) -> Reading {
        let Parsed::Head { length, body, response } = parsed else { return Reading::Nonsense };
        let rest = bytes.get(length..).unwrap_or_default();
        *self = match body {
            Body::None => Self::Body(response, 0),
            Body::Length(length) => Self::Body(response, length),
            Body::Chunked => Self::Chunks(response, Chunks::default()),
            Body::UntilClose => Self::UntilClose(response),
        };
        self.read(rest)
    }
}

enum Parsed {
    Partial,
    Head { length: usize, body: Body, response: Response },
    Nonsense,
}

enum Body {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

fn parse(bytes: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Parsed::Partial,
        Err(_) => return Parsed::Nonsense,
    };
    let status = head.code.unwrap_or(0);
    let mut stays = head.version == Some(1);
    let mut body = Body::UntilClose;
    for header in head.headers.iter() {
        let value = header.value.trim_ascii();
        if header.name.eq_ignore_ascii_case("content-length") {
            let length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            let Some(length) = length else { return Parsed::Nonsense };
            if !matches!(body, Body::Chunked) {
                body = Body::Length(length);
            }
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            body = Body::Chunked;
        } else if header.name.eq_ignore_ascii_case("connection") {
            stays &= !value.eq_ignore_ascii_case(b"close");
        }
    }
    if matches!(status, 204 | 304) {
        body = Body::None;
    }
    Parsed::Head { length, body, response: Response { status, stays } }
}

/// A body in chunks (RFC 9112, section 7.1); trailers are read over.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chunks {
    state: ChunkState,
    /// Of the size that is being read, then of the chunk's bytes to come.
    left: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ChunkState {
    #[default]
    Size,
    Extension,
    Data,
    DataEnd,
    /// At the beginning of a trailer's line, or the end.
    Trailer,
    TrailerLine,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChunksRead {
    Unfinished,
    Whole,
    Nonsense,
}

impl Chunks {
    fn read(&mut self, mut bytes: &[u8]) -> ChunksRead {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.state == ChunkState::Data {
                let here = self.left.min(bytes.len() as u64);
                bytes = bytes.get(here as usize..).unwrap_or_default();
                self.left -= here;
                if self.left == 0 {
                    self.state = ChunkState::DataEnd;
                }
                continue;
            }
            bytes = rest;
            match self.step(byte) {
                ChunksRead::Unfinished => {}
                ChunksRead::Whole if !bytes.is_empty() => return ChunksRead::Nonsense,
                ended => return ended,
            }
        }
        ChunksRead::Unfinished
    }

    fn step(&mut self, byte: u8) -> ChunksRead {
        use ChunkState::{Data, DataEnd, Extension, Size, Trailer, TrailerLine};
        self.state = match (self.state, byte) {
            (Size | Extension, b'\n') if self.left == 0 => Trailer,
            (Size | Extension, b'\n') => Data,
            (Size, b';') => Extension,
            (Extension, _) | (Size, b'\r' | b' ') | (DataEnd | Trailer, b'\r') => self.state,
            (Size, digit) => {
                let Some(value) = char::from(digit).to_digit(16) else {
                    return ChunksRead::Nonsense;
                };
                let Some(left) = self.left.checked_mul(16) else { return ChunksRead::Nonsense };
                self.left = left + u64::from(value);
                Size
            }
            (DataEnd, b'\n') => Size,
            (Trailer, b'\n') => return ChunksRead::Whole,
            (DataEnd, _) => return ChunksRead::Nonsense,
            (TrailerLine, b'\n') => Trailer,
            (Trailer | TrailerLine | Data, _) => TrailerLine,
        };
        ChunksRead::Unfinished
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::any;

    use super::*;

    const WHOLE: Reading = Reading::Whole { stays: true };

    /// The last reading of an answer that comes in pieces of every size.
    fn in_pieces(text: &str) -> Vec<Reading> {
        let bytes = text.as_bytes();
        let read = |size: usize| {
            let mut answer = Answer::Head(Vec::new());
            let readings: Vec<_> = bytes.chunks(size).map(|piece| answer.read(piece)).collect();
            let (last, before) = readings.split_last().unwrap();
            assert!(before.iter().all(|r| *r == Reading::Unfinished), "{size}: {readings:?}");
            *last
        };
        (1..=bytes.len()).map(read).collect()
    }

    #[test]
    fn bodies_of_every_sort_end_where_they_end() {
        for (text, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", WHOLE),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", WHOLE),
            ("HTTP/1.1 204 No Content\r\n\r\n", WHOLE),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=1\r\nhello\r\nA\r\n0123456789\r\n0\r\nT: 1\r\n\r\n",
                WHOLE,
            ),
            ("HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno", Reading::Refusal { stays: true }),
            (
                "HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 1\r\n\r\n.",
                Reading::Whole { stays: false },
            ),
            ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n.", Reading::Whole { stays: false }),
        ] {
            let readings = in_pieces(text);
            assert!(readings.iter().all(|r| *r == expected), "{text}: {readings:?}");
        }
    }

    #[test]
    fn a_body_without_length_ends_with_the_connection() {
        let mut answer = Answer::Head(Vec::new());
        assert_eq!(answer.close(), Reading::Unfinished);
        assert_eq!(answer.read(b"HTTP/1.1 200 OK\r\n\r\nsome"), Reading::Unfinished);
        assert_eq!(answer.close(), WHOLE);
    }

    #[test]
    fn nonsense_is_told() {
        for text in [
            "SSH-2.0-OpenSSH\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n..".to_owned(),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n".to_owned(),
            format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(MAX_HEAD)),
        ] {
            assert_eq!(
                Answer::Head(Vec::new()).read(text.as_bytes()),
                Reading::Nonsense,
                "{text:.60}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn chunks_may_be_cut_anywhere(sizes in vec(1..300_usize, 0..6), cuts in vec(1..80_usize, 1..9)) {
            let mut text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for size in sizes {
                text.extend(format!("{size:x}\r\n{}\r\n", "\n".repeat(size)).into_bytes());
            }
            text.extend(b"0\r\n\r\n");
            let (mut answer, mut rest, mut cuts) = (Answer::Head(Vec::new()), &text[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                let expected = if later.is_empty() { WHOLE } else { Reading::Unfinished };
                assert_eq!(answer.read(piece), expected);
                rest = later;
            }
        }

        #[test]
        fn whatever_comes_is_read_without_a_panic(pieces in vec(vec(any::<u8>(), 0..40), 0..9), head: bool) {
            let mut answer = Answer::Head(Vec::new());
            if head {
                answer.read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            }
            for piece in pieces {
                answer.read(&piece);
            }
        }
    }

    #[test]
    fn an_echo_is_as_long_as_what_was_said() {
        let mut answer = Answer::Bytes(5);
        assert_eq!(answer.read(b"abc"), Reading::Unfinished);
        assert_eq!(answer.read(b"de"), WHOLE);
        assert_eq!(answer.read(b"f"), Reading::Nonsense);
    }
}
