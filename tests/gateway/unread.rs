//! HTTP/2 streams that the gateway does not read for a while: what lies unread may
//! neither end the connection nor keep others on it waiting.

use std::collections::HashMap;

use serde_json::json;

use crate::harness::{fictional, issue};
use crate::serve::Served;
use crate::windows::{DATA, END_STREAM, Frame, GOAWAY, HEADERS, RST_STREAM, RawHttp2, WINDOW_UPDATE};

/// Streams at work on one connection, as many as may lie unread line by line.
const STREAMS: usize = peselgate::limits::HTTP2_STREAMS_BY_LINES as usize;
/// Bytes of a stream's body, of which the last lie unread.
const READ_AHEAD_AND_MORE_BYTES: usize = 260 * 1024;
/// The indexed field `:status: 200`.
const STATUS_200: u8 = 0x88;

/// A client that sends its lines one by one, a frame each, as far as it is let.
struct LineByLine {
    client: RawHttp2,
    key: String,
    line: Vec<u8>,
    /// What may still be sent on each stream.
    windows: HashMap<u32, usize>,
    connection_window: usize,
    sent: usize,
}

impl LineByLine {
    /// Its answers have so many bytes of window.
    fn open(served: &Served, key: &str, streams: usize, answer_window: u32) -> Self {
        let mut client = RawHttp2::open(served.instance.verification, answer_window);
        let windows = (0..streams)
            .map(|_| (client.post("/v1/verify/batch", key, "application/x-ndjson"), 65_535))
            .collect();
        let line = format!("\"{}\"\n", fictional(180_000)).into_bytes();
        let mut this =
            Self { client, key: key.to_owned(), line, windows, connection_window: 65_535, sent: 0 };
        // Every one of them has begun.
        for _ in 0..streams {
            let head = this.until(|frame| frame.kind == HEADERS);
            assert_eq!(head.payload[0], STATUS_200);
        }
        this
    }

    /// Takes note of the frames that come, until one is what is wanted.
    fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let frame = self.client.next_of_all().expect("the connection lives on");
            assert_ne!(frame.kind, GOAWAY, "{:?}", String::from_utf8_lossy(&frame.payload));
            if let Some(window) = frame.initial_window() {
                // The settings come before anything was sent.
                self.windows.values_mut().for_each(|left| *left = window);
            }
            if frame.kind == WINDOW_UPDATE {
                let more = u32::from_be_bytes(frame.payload[..4].try_into().expect("four bytes")) as usize;
                match frame.stream {
                    0 => self.connection_window += more,
                    // Single questions have windows too.
                    stream => {
                        if let Some(window) = self.windows.get_mut(&stream) {
                            *window += more;
                        }
                    }
                }
            }
            if wanted(&frame) {
                return frame;
            }
        }
    }

    /// Sends until no stream may any more; says whether it sent anything.
    fn send(&mut self) -> bool {
        let before = self.sent;
        let mut frames = Vec::new();
        for (stream, window) in &mut self.windows {
            while (*window).min(self.connection_window) >= self.line.len() {
                *window -= self.line.len();
                self.connection_window -= self.line.len();
                self.sent += self.line.len();
                frames.push((*stream, DATA, 0));
            }
        }
        for (stream, kind, flags) in frames {
            self.client.send(kind, flags, stream, &self.line);
        }
        self.sent > before
    }

    /// One verification beside them: the head of its answer.
    fn verify(&mut self) -> Frame {
        let stream = self.client.post("/v1/verify", &self.key, "application/json");
        let body = json!({ "pesel": fictional(180_001) }).to_string();
        assert!(self.connection_window >= body.len(), "the streams keep the window");
        self.connection_window -= body.len();
        self.client.send(DATA, END_STREAM, stream, body.as_bytes());
        self.until(|frame| frame.kind == HEADERS && frame.stream == stream)
    }

    /// Goes on until everything is full: what is read ahead, then the windows.
    fn fill(&mut self) {
        while self.sent < self.windows.len() * READ_AHEAD_AND_MORE_BYTES {
            if self.send() {
                assert_eq!(self.verify().payload[0], STATUS_200);
            } else {
                self.until(|frame| frame.kind == WINDOW_UPDATE && frame.stream != 0);
            }
        }
        self.send();
        for _ in 0..20 {
            assert_eq!(self.verify().payload[0], STATUS_200);
        }
    }
}

/// Lines that wait for their key's rate.
#[test]
fn paced_streams_lie_beside_other_questions() {
    let served = Served::start("test", "", "");
    let unpaced = served.key();
    for streams in [1, STREAMS] {
        // A new one has the number left that a stream needs to begin.
        let limits = Some([1, 1, 1_000_000]);
        let (_, paced) = issue(&mut served.admin(), "Bank Powolny", &["127.0.0.1"], limits);
        let mut client = LineByLine::open(&served, &paced, streams, 65_535);
        client.key.clone_from(&unpaced);
        client.fill();
    }
    served.instance.stop();
}

/// Lines whose answers nobody reads.
#[test]
fn streams_with_unread_answers_lie_beside_other_questions() {
    let served = Served::start("test", "write_stall_timeout_ms = 60000", "");
    let key = served.key();
    for streams in [1, STREAMS] {
        LineByLine::open(&served, &key, streams, 0).fill();
    }
    served.instance.stop();
}

/// A refusal comes before the body. Who then sends the rest of it has neither lost the
/// answer nor the stream: there are clients that take a reset for both.
#[test]
fn a_refusal_is_not_followed_by_a_reset() {
    let served = Served::start("test", "", "");
    let mut client = RawHttp2::open(served.instance.verification, 65_535);
    let stream = client.post("/v1/verify", "no-key", "application/json");
    let mut ended = false;
    while !ended {
        let frame = client.next_of_all().expect("the connection lives on");
        assert_ne!(frame.kind, RST_STREAM);
        ended = frame.stream == stream && frame.flags & END_STREAM != 0;
    }
    client.send(DATA, END_STREAM, stream, b"{}");
    let next = client.post("/v1/verify", &served.key(), "application/json");
    client.send(DATA, END_STREAM, next, json!({ "pesel": fictional(180_001) }).to_string().as_bytes());
    let answer = loop {
        let frame = client.next_of_all().expect("the connection lives on");
        assert_ne!(frame.kind, RST_STREAM);
        if frame.kind == HEADERS {
            break frame;
        }
    };
    assert_eq!((answer.stream, answer.payload[0]), (next, STATUS_200));
    served.instance.stop();
}

/// Before it has our settings a client sends what the protocol allows by default. No
/// stream may be left without a window by that.
#[test]
fn bodies_that_are_sent_before_the_settings_are_known_are_read_whole() {
    let served = Served::start("test", "", "");
    let key = served.key();
    let mut client = RawHttp2::open(served.instance.verification, 65_535);
    let mut body = json!({ "pesels": [fictional(180_001)] }).to_string();
    body.push_str(&" ".repeat(60_000 - body.len()));
    let streams: Vec<u32> =
        (0..3).map(|_| client.post("/v1/verify/batch", &key, "application/json")).collect();
    // The connection's first 65 535 bytes are shared by all of them.
    const FIRST: usize = 20_000;
    for stream in &streams {
        for piece in body.as_bytes()[..FIRST].chunks(10_000) {
            client.send(DATA, 0, *stream, piece);
        }
    }
    let mut windows: HashMap<u32, i64> =
        streams.iter().map(|stream| (*stream, 65_535 - FIRST as i64)).collect();
    let mut connection = 65_535 - (streams.len() * FIRST) as i64;
    let mut sent: HashMap<u32, usize> = streams.iter().map(|stream| (*stream, FIRST)).collect();
    let mut answered = 0;
    while answered < streams.len() {
        let frame = client.next_of_all().expect("the connection lives on");
        if let Some(window) = frame.initial_window() {
            windows.values_mut().for_each(|left| *left += window as i64 - 65_535);
        }
        if frame.kind == WINDOW_UPDATE {
            let more = i64::from(u32::from_be_bytes(frame.payload[..4].try_into().expect("four bytes")));
            *if frame.stream == 0 {
                &mut connection
            } else {
                windows.get_mut(&frame.stream).expect("one of them")
            } += more;
        }
        if frame.kind == HEADERS {
            assert_eq!(frame.payload[0], STATUS_200);
            answered += 1;
        }
        for stream in &streams {
            let (window, sent) =
                (windows.get_mut(stream).expect("there"), sent.get_mut(stream).expect("there"));
            while *sent < body.len() && (*window).min(connection) >= 5_000 {
                let end = if *sent + 5_000 == body.len() { END_STREAM } else { 0 };
                client.send(DATA, end, *stream, &body.as_bytes()[*sent..*sent + 5_000]);
                *sent += 5_000;
                *window -= 5_000;
                connection -= 5_000;
            }
        }
    }
    served.instance.stop();
}
