//! A plain HTTP/1.1 client that looks at every answer: what is promised of all
//! answers is checked wherever one arrives.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

/// A gateway that says nothing for this long is broken.
const SILENCE_MAX: Duration = Duration::from_secs(60);

pub(crate) trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The problem's code; panics when the answer is none.
    pub(crate) fn code(&self) -> String {
        assert!(self.status >= 400, "no problem: {} {}", self.status, self.text());
        self.json()["code"].as_str().expect("a code").to_owned()
    }

    /// Status and code in one.
    pub(crate) fn problem(&self) -> (u16, String) {
        (self.status, self.code())
    }

    /// The JSON of a 200 or 201.
    pub(crate) fn good(&self) -> Value {
        assert!(matches!(self.status, 200 | 201), "{} {}", self.status, self.text());
        self.json()
    }

    /// What every answer of every plane promises.
    pub(crate) fn check_promises(&self) {
        let shown = || format!("{} {:?} {}", self.status, self.headers, self.text());
        assert_eq!(self.header("cache-control"), Some("no-store"), "{}", shown());
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"), "{}", shown());
        assert!(self.header("x-request-id").is_some_and(|id| (1..=64).contains(&id.len())), "{}", shown());
        let policy = Some("default-src 'none'; frame-ancestors 'none'");
        assert_eq!(self.header("content-security-policy"), policy, "{}", shown());
        // Operations answers its own JSON while it is not ready.
        let is_readiness = self.text().starts_with(r#"{"ready":"#);
        if self.status < 400 || is_readiness {
            return;
        }
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", shown());
        assert!(longest_digits(&self.body) < 11, "eleven digits in {}", shown());
        if self.body.is_empty() {
            // The answer to HEAD.
            return;
        }
        let problem = self.json();
        let code = problem["code"].as_str().expect("a code");
        assert_eq!(problem["type"], format!("urn:peselgate:problem:{code}"));
        assert_eq!(problem["status"], self.status);
        assert_eq!(problem["request_id"].as_str(), self.header("x-request-id"));
        for field in ["title", "detail"] {
            assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{}", shown());
        }
        let must_wait = matches!(self.status, 429 | 503);
        let wait = self.header("retry-after").map(|text| text.parse::<u64>().expect("seconds"));
        assert_eq!(wait.is_some_and(|wait| wait > 0), must_wait, "{}", shown());
        assert_eq!(self.header("www-authenticate").is_some(), self.status == 401, "{}", shown());
        assert_eq!(self.header("allow").is_some(), self.status == 405, "{}", shown());
    }
}

/// The longest run of ASCII digits.
pub(crate) fn longest_digits(bytes: &[u8]) -> usize {
    bytes.split(|byte| !byte.is_ascii_digit()).map(<[u8]>::len).max().unwrap_or(0)
}

/// A socket from another address of this machine.
pub(crate) fn connect_from(local: Ipv4Addr, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((local, 0)).into())?;
    socket.connect(&address.into())?;
    socket.set_tcp_nodelay(true)?;
    socket.set_read_timeout(Some(SILENCE_MAX))?;
    Ok(TcpStream::from(socket))
}

/// One connection, kept alive.
pub(crate) struct Connection(BufReader<Box<dyn Wire>>);

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        Ok(Self::over(stream))
    }

    /// From another address of this machine.
    pub(crate) fn open_from(local: Ipv4Addr, address: SocketAddr) -> io::Result<Self> {
        connect_from(local, address).map(Self::over)
    }

    pub(crate) fn over(stream: impl Wire + 'static) -> Self {
        Self(BufReader::new(Box::new(stream)))
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream = self.0.get_mut();
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// Head and body of a request in one write.
    pub(crate) fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> io::Result<()> {
        let mut bytes = format!("{method} {path} HTTP/1.1\r\nhost: gateway\r\n").into_bytes();
        for (name, value) in headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if let Some(body) = body {
            bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body.unwrap_or_default());
        self.write(&bytes)
    }

    /// One request and its answer, which is checked.
    pub(crate) fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> io::Result<Reply> {
        self.send(method, path, headers, body)?;
        let reply = self.read(method == "HEAD")?;
        reply.check_promises();
        Ok(reply)
    }

    /// The head of an answer, the body still to come.
    pub(crate) fn read_head(&mut self) -> io::Result<Reply> {
        let status_line = self.line()?;
        let status = status_line.split(' ').nth(1).and_then(|text| text.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status line: {status_line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Reply { status, headers, body: Vec::new() });
            }
            let (name, value) = line.split_once(": ").ok_or_else(|| io::Error::other("no field"))?;
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
    }

    pub(crate) fn read(&mut self, is_head: bool) -> io::Result<Reply> {
        let mut reply = self.read_head()?;
        if is_head {
            return Ok(reply);
        }
        if reply.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.read_chunk()? {
                reply.body.extend_from_slice(&chunk);
            }
        } else if let Some(length) = reply.header("content-length") {
            reply.body = vec![0; length.parse().map_err(io::Error::other)?];
            self.0.read_exact(&mut reply.body)?;
        } else {
            self.0.read_to_end(&mut reply.body)?;
        }
        Ok(reply)
    }

    /// A chunk of a chunked body; `None` at its end.
    pub(crate) fn read_chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let size = usize::from_str_radix(&self.line()?, 16).map_err(io::Error::other)?;
        let mut chunk = vec![0; size + 2];
        self.0.read_exact(&mut chunk)?;
        chunk.truncate(size);
        Ok((size > 0).then_some(chunk))
    }

    /// Whatever comes until the other end closes; an error when it resets.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest)?;
        Ok(rest)
    }

    /// Whether the other end has closed; waits for it.
    pub(crate) fn is_closed(&mut self) -> bool {
        // Asked once: a reset is told once.
        match self.0.fill_buf() {
            Ok(bytes) => bytes.is_empty(),
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}

/// A connection with a credential; broken connections fail the test.
pub(crate) struct Caller {
    pub(crate) connection: Connection,
    pub(crate) bearer: String,
}

impl Caller {
    pub(crate) fn new(address: SocketAddr, credential: &str) -> Self {
        Self::with(Connection::open(address).expect("a connection"), credential)
    }

    pub(crate) fn with(connection: Connection, credential: &str) -> Self {
        Self { connection, bearer: format!("Bearer {credential}") }
    }

    pub(crate) fn call(&mut self, method: &str, path: &str, body: Option<&Value>) -> Reply {
        self.try_call(method, path, &[], body).expect("an answer")
    }

    pub(crate) fn try_call(
        &mut self,
        method: &str,
        path: &str,
        more: &[(&str, &str)],
        body: Option<&Value>,
    ) -> io::Result<Reply> {
        let mut headers = vec![("authorization", self.bearer.as_str())];
        headers.extend_from_slice(more);
        let body = body.map(Value::to_string);
        if body.is_some() {
            headers.push(("content-type", "application/json"));
        }
        self.connection.request(method, path, &headers, body.as_deref().map(str::as_bytes))
    }

    pub(crate) fn get(&mut self, path: &str) -> Reply {
        self.call("GET", path, None)
    }

    pub(crate) fn post(&mut self, path: &str, body: &Value) -> Reply {
        self.call("POST", path, Some(body))
    }

    pub(crate) fn put(&mut self, path: &str, body: &Value) -> Reply {
        self.call("PUT", path, Some(body))
    }

    /// Asks about one number.
    pub(crate) fn verify(&mut self, pesel: &str) -> Reply {
        self.post("/v1/verify", &serde_json::json!({ "pesel": pesel }))
    }

    /// A whole stream at once: every answer line as JSON.
    pub(crate) fn stream(&mut self, lines: &str) -> Vec<Value> {
        let headers = [("authorization", self.bearer.as_str()), ("content-type", "application/x-ndjson")];
        let reply = self
            .connection
            .request("POST", "/v1/verify/batch", &headers, Some(lines.as_bytes()))
            .expect("an answer");
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
        json_lines(&reply.body)
    }
}

pub(crate) fn json_lines(bytes: &[u8]) -> Vec<Value> {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).expect("a line of JSON")).collect()
}

/// Sends a head and a first chunk, then one byte every tenth of a second, until the
/// answer is whole: its last line, and after how long that was.
pub(crate) fn dripped(address: SocketAddr, head: &str, first: &str, drip: &str) -> (Value, Duration) {
    let mut socket = TcpStream::connect(address).expect("a connection");
    let mut reader = Connection::over(socket.try_clone().expect("the other direction"));
    let (told, end) = mpsc::channel();
    let reading = std::thread::spawn(move || {
        let reply = reader.read(false).expect("an answer");
        told.send(()).expect("somebody who drips");
        json_lines(&reply.body).pop().expect("a last line")
    });
    let mut send = |bytes: &str| socket.write_all(bytes.as_bytes());
    send(head).expect("written");
    if !first.is_empty() {
        send(&format!("{:x}\r\n{first}\r\n", first.len())).expect("written");
    }
    let began = Instant::now();
    while end.recv_timeout(Duration::from_millis(100)).is_err() {
        assert!(began.elapsed() < Duration::from_secs(20), "it is held by {drip:?}");
        // It may be closed meanwhile.
        send(&format!("1\r\n{drip}\r\n")).ok();
    }
    (reading.join().expect("no panic"), began.elapsed())
}
