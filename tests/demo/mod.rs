//! A demo gateway as a process of its own, on free ports of the loopback, and a
//! client small enough to send it anything.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// A running demo; ended when dropped.
pub(crate) struct Demo {
    child: Child,
    dir: tempfile::TempDir,
    pub(crate) verification: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) ops: SocketAddr,
}

impl Demo {
    /// Starts one with this many reserved numbers and waits until it is ready.
    pub(crate) fn start(reserved: u32) -> Self {
        Self::start_with(reserved, &[])
    }

    /// The same with these variables in its environment.
    pub(crate) fn start_with(reserved: u32, variables: &[(&str, &str)]) -> Self {
        Self::start_as(reserved, &[], variables)
    }

    /// The same with its verification plane over TLS.
    pub(crate) fn start_tls(reserved: u32) -> Self {
        Self::start_as(reserved, &["--tls"], &[])
    }

    fn start_as(reserved: u32, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut child = Command::new(env!("CARGO_BIN_EXE_peselgate"))
            .args(["demo", "--threads", "2", "--reserved", &reserved.to_string()])
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(dir.path().join("d"))
            .args(arguments)
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a process");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let ready = lines
            .map_while(Result::ok)
            .find(|line| line.starts_with("ready"))
            .expect("a line that says ready");
        let mut addresses = ready
            .split("://")
            .skip(1)
            .map(|rest| rest.split([',', ' ']).next().unwrap_or_default().parse().expect("an address"));
        let mut next = || addresses.next().expect("three addresses");
        Self { child, dir, verification: next(), admin: next(), ops: next() }
    }

    /// The text of a file of the demo's directory, trimmed.
    pub(crate) fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join("d").join(name)).expect(name).trim().to_owned()
    }

    pub(crate) fn key(&self) -> String {
        self.file("demo-key")
    }

    pub(crate) fn token(&self) -> String {
        self.file("demo-admin-token")
    }

    /// Sends a signal to the process.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a process"), signal).expect("a signal");
    }

    /// Waits for the end.
    pub(crate) fn ended(&mut self) -> std::process::ExitStatus {
        self.child.wait().expect("an end")
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What is sent; made by [`request`].
#[derive(Debug, Clone)]
pub(crate) struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

pub(crate) fn request(method: &str, target: &str) -> Request {
    Request { method: method.to_owned(), target: target.to_owned(), headers: Vec::new(), body: Vec::new() }
}

impl Request {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn bearer(self, credential: &str) -> Self {
        self.header("authorization", &format!("Bearer {credential}"))
    }

    pub(crate) fn body(mut self, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header("content-type", media_type)
    }

    pub(crate) fn json(self, value: &Value) -> Self {
        self.body("application/json", value.to_string())
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut head =
            format!("{} {} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n", self.method, self.target);
        if !self.body.is_empty() || self.method != "GET" {
            head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    pub(crate) fn send(&self, to: SocketAddr) -> Answer {
        send_raw(to, &self.bytes())
    }
}

/// An answer, read to the end of its connection.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn media_type(&self) -> &str {
        let value = self.headers.get("content-type").map(String::as_str).unwrap_or_default();
        value.split(';').next().unwrap_or_default()
    }
}

/// Sends these bytes and reads everything that comes back.
pub(crate) fn send_raw(to: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(to).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
    // The gateway may answer and close before it has read everything.
    drop(stream.write_all(bytes));
    let mut received = Vec::new();
    drop(stream.read_to_end(&mut received));
    read_answer(&received)
        .unwrap_or_else(|| panic!("no HTTP answer: {:?}", String::from_utf8_lossy(&received)))
}

fn read_answer(received: &[u8]) -> Option<Answer> {
    let end = received.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&received[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let rest = &received[end + 4..];
    let chunked = headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked");
    let body = if chunked { unchunked(rest)? } else { rest.to_vec() };
    Some(Answer { status, headers, body })
}

fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
        rest = &rest[end + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}
