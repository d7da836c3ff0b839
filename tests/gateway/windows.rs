//! HTTP/2 clients that give no room for their answers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::harness::wait_for;
use crate::serve::Served;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];

/// Names of fields by their places in the static table, the fields themselves not kept.
const AUTHORITY: &[u8] = &[0x01];
const PATH: &[u8] = &[0x04];
const AUTHORIZATION: &[u8] = &[0x0f, 23 - 15];
const CONTENT_TYPE: &[u8] = &[0x0f, 31 - 15];

/// A connection that lives longer than this has outlived every deadline here.
const OPEN_MAX: Duration = Duration::from_secs(40);

/// A connection over HTTP/2, frame by frame, that says what windows it has.
pub(crate) struct RawHttp2 {
    socket: TcpStream,
    next_stream: u32,
    opened: Instant,
}

/// A frame that came.
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// What settings say of the window of each stream.
    pub(crate) fn initial_window(&self) -> Option<usize> {
        let mut settings = self.payload.chunks_exact(6).filter(|_| self.kind == SETTINGS);
        let setting = settings.find(|setting| setting.starts_with(&INITIAL_WINDOW_SIZE))?;
        Some(u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]) as usize)
    }
}

impl RawHttp2 {
    /// With so many bytes of window for each answer.
    pub(crate) fn open(address: SocketAddr, window: u32) -> Self {
        let socket = TcpStream::connect(address).expect("a connection");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
        let mut this = Self { socket, next_stream: 1, opened: Instant::now() };
        this.socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("written");
        let initial_window_size = [&INITIAL_WINDOW_SIZE[..], &window.to_be_bytes()].concat();
        this.send(SETTINGS, 0, 0, &initial_window_size);
        this
    }

    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        // It may be closed already: what is read next tells.
        self.socket.write_all(&frame).ok();
    }

    /// GET without a key; its stream.
    pub(crate) fn ask(&mut self, path: &str) -> u32 {
        // GET by its index.
        self.begin(END_STREAM, 0x82, &[(PATH, path)])
    }

    /// POST whose body is still to come; its stream.
    pub(crate) fn post(&mut self, path: &str, key: &str, content_type: &str) -> u32 {
        let authorization = format!("Bearer {key}");
        // POST by its index.
        self.begin(0, 0x83, &[(PATH, path), (AUTHORIZATION, &authorization), (CONTENT_TYPE, content_type)])
    }

    fn begin(&mut self, flags: u8, method: u8, fields: &[(&[u8], &str)]) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        // The scheme http by its index.
        let mut head = vec![method, 0x86];
        for (name, text) in [&(AUTHORITY, "gateway")].into_iter().chain(fields) {
            head.extend_from_slice(name);
            head.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("short"));
            head.extend_from_slice(text.as_bytes());
        }
        self.send(HEADERS, flags | END_HEADERS, stream, &head);
        stream
    }

    /// The next frame but for those of the connection itself; `None` at the end.
    fn next(&mut self) -> Option<Frame> {
        loop {
            let frame = self.next_of_all()?;
            if frame.stream != 0 {
                return Some(frame);
            }
        }
    }

    /// The next frame; what asks for an answer has one.
    pub(crate) fn next_of_all(&mut self) -> Option<Frame> {
        assert!(self.opened.elapsed() < OPEN_MAX, "still open");
        let mut head = [0; 9];
        self.socket.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length as usize];
        self.socket.read_exact(&mut payload).ok()?;
        let (kind, flags) = (head[3], head[4]);
        match kind {
            SETTINGS if flags & ACK == 0 => self.send(SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => self.send(PING, ACK, 0, &payload),
            _ => {}
        }
        Some(Frame { kind, flags, stream, payload })
    }

    pub(crate) fn wait_for_head(&mut self) {
        let frame = self.next().expect("an answer");
        assert_eq!(frame.kind, HEADERS);
    }
}

/// An answer for which its reader makes no room is unread, whatever the socket takes.
#[test]
fn a_client_without_a_window_is_let_go() {
    let served = Served::start("test", "write_stall_timeout_ms = 800", "");
    let mut client = RawHttp2::open(served.instance.verification, 0);
    for _ in 0..50 {
        client.ask("/nothing");
    }
    let began = Instant::now();
    let kinds: Vec<u8> = std::iter::from_fn(|| client.next()).map(|frame| frame.kind).collect();
    assert_eq!(kinds, [HEADERS; 50], "heads need no window");
    assert!(began.elapsed() >= Duration::from_millis(600), "{:?}", began.elapsed());
    wait_for("a place", || (served.instance.count("peselgate_connections") == 0).then_some(()));
    served.instance.stop();
}

/// One that opens it little by little gets everything.
#[test]
fn a_client_with_a_small_window_gets_everything() {
    let served = Served::start("test", "", "");
    let mut client = RawHttp2::open(served.instance.verification, 3_000);
    let stream = client.ask("/openapi.yaml");
    let (mut bytes, mut ended) = (0, false);
    while !ended {
        let frame = client.next().expect("it goes on");
        assert_eq!(frame.stream, stream);
        ended = frame.flags & END_STREAM != 0;
        if frame.kind == DATA {
            bytes += frame.payload.len();
        }
        let window = u32::try_from(frame.payload.len().max(1)).expect("short").to_be_bytes();
        client.send(WINDOW_UPDATE, 0, 0, &window);
        if !ended {
            client.send(WINDOW_UPDATE, 0, stream, &window);
        }
    }
    assert_eq!(bytes, include_bytes!("../../config/openapi.yaml").len());
    drop(client);
    served.instance.stop();
}

/// Nor is one that lets the last piece of an answer lie behind one byte of window.
#[test]
fn a_client_with_a_byte_of_window_is_let_go() {
    let served = Served::start("test", "write_stall_timeout_ms = 800", "");
    for path in ["/nothing", "/openapi.yaml"] {
        let mut client = RawHttp2::open(served.instance.verification, 1);
        client.ask(path);
        let began = Instant::now();
        let kinds: Vec<u8> = std::iter::from_fn(|| client.next()).map(|frame| frame.kind).collect();
        assert_eq!(kinds, [HEADERS, DATA], "one byte of the body");
        assert!(began.elapsed() >= Duration::from_millis(600), "{:?}", began.elapsed());
    }
    wait_for("a place", || (served.instance.count("peselgate_connections") == 0).then_some(()));
    served.instance.stop();
}

/// A connection that is to end does not wait for what its client lets trickle out of
/// buffers.
#[test]
fn a_retired_connection_is_not_kept_by_a_byte_of_window() {
    let served = Served::start("test", "write_stall_timeout_ms = 800\nconnection_age_s = 1", "");
    let mut client = RawHttp2::open(served.instance.verification, 1);
    client.ask("/nothing");
    let kinds: Vec<u8> = std::iter::from_fn(|| client.next()).map(|frame| frame.kind).collect();
    assert_eq!(kinds, [HEADERS, DATA], "one byte of the body");
    wait_for("a place", || (served.instance.count("peselgate_connections") == 0).then_some(()));
    served.instance.stop();
}

/// A client that asks nothing is let go, though it answers every PING.
#[test]
fn a_client_that_asks_nothing_is_let_go() {
    let served = Served::start("test", "header_read_timeout_ms = 500", "");
    let mut client = RawHttp2::open(served.instance.verification, 65_535);
    let goodbyes: Vec<Vec<u8>> = std::iter::from_fn(|| client.next_of_all())
        .filter(|frame| frame.kind == GOAWAY)
        .map(|frame| frame.payload)
        .collect();
    assert!(!goodbyes.is_empty() && goodbyes.iter().all(|goodbye| goodbye[4..8] == [0; 4]), "{goodbyes:?}");
    served.instance.stop();
}
