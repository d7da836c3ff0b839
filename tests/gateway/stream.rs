//! The NDJSON stream: order, full duplex, bad lines, ends in the middle.

use std::collections::HashSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::client::Connection;
use crate::harness::{Demo, fictional};

/// A stream whose lines are sent one chunk at a time.
pub(crate) struct Stream {
    connection: Connection,
    /// Answer bytes that are no whole line yet.
    rest: Vec<u8>,
}

impl Stream {
    pub(crate) fn open(demo: &Demo, key: &str) -> Self {
        let mut connection = Connection::open(demo.instance.verification).expect("a connection");
        let head = format!(
            "POST /v1/verify/batch HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {key}\r\n\
             content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        connection.write(head.as_bytes()).expect("written");
        let reply = connection.read_head().expect("an answer before the first line");
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
        Self { connection, rest: Vec::new() }
    }

    pub(crate) fn send(&mut self, text: &str) {
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        self.connection.write(chunk.as_bytes()).expect("written");
    }

    fn end(&mut self) {
        self.connection.write(b"0\r\n\r\n").expect("written");
    }

    /// The next answer line; `None` at the end.
    pub(crate) fn line(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("a line of JSON"));
            }
            self.rest.extend(self.connection.read_chunk().expect("a chunk")?);
        }
    }
}

/// What a line says of "at" is what it asked, wherever it stands in its chunk, and what
/// the evidence says.
#[test]
fn a_lines_moment_is_its_own() {
    let demo = Demo::shared();
    let pesel = &demo.numbers("reserved.csv")[9];
    let before = "2001-02-03T04:05:06Z";
    let (now, then) = (json!(pesel).to_string(), json!({"pesel": pesel, "at": before}).to_string());
    for (asked, named) in
        [([&then, &now, &then], [true, false, true]), ([&now, &then, &now], [false, true, false])]
    {
        let text: String = asked.iter().map(|line| format!("{line}\n")).collect();
        let answers = demo.caller().stream(&text);
        for (index, (answer, named)) in answers.iter().zip(named).enumerate() {
            let at = match (named, index) {
                (true, _) => json!(before),
                (false, 0) => answers[0]["answered_at"].clone(),
                (false, _) => Value::Null,
            };
            assert_eq!((&answer["at"], &answer["reserved"]), (&at, &json!(!named)), "{answer}");
        }
        let id = answers[0]["verification_id"].as_str().expect("an identifier");
        let evidence = demo.caller().get(&format!("/v1/verifications/{id}")).good();
        assert_eq!(evidence["results"][0]["at"].as_str(), named[0].then_some(before), "{evidence}");
    }
}

/// Each line is answered before the next one is sent.
#[test]
fn answers_come_before_the_request_has_ended() {
    let demo = Demo::shared();
    let (reserved, free) = (demo.numbers("reserved.csv"), demo.numbers("free.csv"));
    let mut stream = Stream::open(&demo, &demo.key());
    for turn in 0..20_u64 {
        let is_reserved = turn % 2 == 0;
        let pesel = if is_reserved { &reserved[turn as usize] } else { &free[turn as usize] };
        let line = if turn % 3 == 0 { json!(pesel) } else { json!({"pesel": pesel, "reference": "r"}) };
        stream.send(&format!("{line}\n"));
        let answer = stream.line().expect("an answer");
        assert_eq!((&answer["index"], &answer["pesel"]), (&json!(turn), &json!(pesel)));
        assert_eq!(answer["reserved"], is_reserved);
        assert!(answer["register"]["sequence"].is_u64(), "the first line of a chunk says its state");
    }
    stream.end();
    assert_eq!(stream.line(), None);
}

#[test]
fn bad_lines_are_answered_in_their_place() {
    let demo = Demo::shared();
    let pesel = &demo.numbers("reserved.csv")[0];
    let long = format!("{{\"pesel\":\"{pesel}\"{}}}", " ".repeat(6_000));
    let lines = [
        (format!("\"{pesel}\""), None),
        ("\"x\"".to_owned(), Some("invalid-pesel")),
        ("{".to_owned(), Some("malformed-request")),
        (pesel.clone(), Some("malformed-request")),
        (format!("{{\"pesel\":\"{pesel}\",\"x\":1}}"), Some("malformed-request")),
        (format!("{{\"pesel\":\"{pesel}\",\"at\":\"2199-01-01T00:00:00Z\"}}"), Some("future-moment")),
        (long, Some("malformed-request")),
        ("\u{1F600}".to_owned(), Some("malformed-request")),
        (format!("{{\"pesel\":\"{pesel}\",\"at\":\"2010-01-01T00:00:00Z\"}}"), None),
        (format!("\"{pesel}\"\r"), None),
    ];
    // At once, and byte by byte: where the network cuts must not matter.
    let text = lines.iter().fold(String::new(), |text, (line, _)| text + line + "\n\n");
    let at_once = demo.caller().stream(&text);
    let mut dripped = Stream::open(&demo, &demo.key());
    for piece in text.as_bytes().chunks(997) {
        dripped.send_bytes(piece);
    }
    dripped.end();
    let dripped: Vec<Value> = std::iter::from_fn(|| dripped.line()).collect();
    for answers in [at_once, dripped] {
        assert_eq!(answers.len(), lines.len(), "{answers:?}");
        for (index, (answer, (line, error))) in answers.iter().zip(&lines).enumerate() {
            assert_eq!(answer["index"], index);
            assert_eq!(answer["error"].as_str(), *error, "{line}");
            assert_eq!(answer["verification_id"].is_string(), error.is_none());
        }
        assert_eq!(answers[0]["reserved"], true);
        assert_eq!(answers[8]["reserved"], false);
    }
}

impl Stream {
    fn send_bytes(&mut self, bytes: &[u8]) {
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.connection.write(&chunk).expect("written");
    }
}

/// 20 000 lines against a plain set, and a line without an end at the end.
#[test]
fn a_long_stream_is_answered_like_a_plain_set() {
    let demo = Demo::shared();
    let (reserved, free) = (demo.numbers("reserved.csv"), demo.numbers("free.csv"));
    let set: HashSet<&String> = reserved.iter().collect();
    let asked: Vec<&String> = (0..20_000_usize)
        .map(|turn| if turn * 7 % 5 < 2 { &reserved[turn * 13 % 1_000] } else { &free[turn * 17 % 1_000] })
        .collect();
    let mut text = asked.iter().fold(String::new(), |mut text, pesel| {
        writeln!(text, "\"{pesel}\"").expect("a string");
        text
    });
    text.pop();
    let mut caller = demo.caller();
    let answers = caller.stream(&text);
    assert_eq!(answers.len(), asked.len());
    for (index, (answer, pesel)) in answers.iter().zip(&asked).enumerate() {
        assert_eq!(answer["index"], index);
        assert_eq!(answer["pesel"].as_str(), Some(pesel.as_str()));
        assert_eq!(answer["reserved"], set.contains(pesel));
    }
    // The evidence of a chunk is the chunk's answers.
    let id = answers[19_999]["verification_id"].as_str().expect("an identifier");
    let evidence = caller.get(&format!("/v1/verifications/{id}")).good();
    let of_chunk: Vec<&Value> = answers.iter().filter(|answer| answer["verification_id"] == id).collect();
    let results = evidence["results"].as_array().expect("results");
    assert_eq!(results.len(), of_chunk.len());
    for (result, answer) in results.iter().zip(&of_chunk) {
        for name in ["index", "pesel", "reserved", "reserved_at"] {
            assert_eq!(result[name], answer[name], "{name}");
        }
    }
    assert_eq!(evidence["register"], of_chunk[0]["register"]);
    let (_, other) = demo.issue("Bank Cudzy", &["127.0.0.1"], None);
    assert_eq!(demo.caller_with(&other).get(&format!("/v1/verifications/{id}")).status, 404);
}

#[test]
fn a_key_deactivated_in_the_middle_ends_the_stream() {
    let demo = Demo::shared();
    let (id, key) = demo.issue("Bank Urwany", &["127.0.0.1"], None);
    let line = format!("\"{}\"\n", demo.numbers("free.csv")[0]);
    let mut stream = Stream::open(&demo, &key);
    stream.send(&line);
    assert_eq!(stream.line().expect("an answer")["reserved"], false);
    demo.admin().post(&format!("/admin/v1/keys/{id}/deactivate"), &json!({})).good();
    stream.send(&line);
    let last = stream.line().expect("why it ends");
    assert_eq!(last["error"], "unauthenticated");
    assert!(last.get("index").is_none() && last["detail"].is_string());
    assert_eq!(stream.line(), None);
    // And one that cannot begin is refused like any request.
    let headers = [("content-type", "application/x-ndjson")];
    let mut refused = demo.caller_with(&key);
    let reply = refused.try_call("POST", "/v1/verify/batch", &headers, None).expect("an answer");
    assert_eq!(reply.problem(), (401, "unauthenticated".to_owned()));
}

#[test]
fn a_quota_that_runs_out_ends_the_stream_after_its_last_number() {
    let demo = Demo::shared();
    let (_, key) = demo.issue("Bank Oszczędny", &["127.0.0.1"], Some([100_000, 37, 37]));
    let mut caller = demo.caller_with(&key);
    let line = format!("\"{}\"\n", demo.numbers("free.csv")[0]);
    let answers = caller.stream(&line.repeat(100));
    assert_eq!(answers.len(), 38);
    assert!(answers[..37].iter().enumerate().all(|(index, answer)| answer["index"] == index));
    assert!(answers[..37].iter().all(|answer| answer["reserved"] == false));
    assert_eq!(answers[37]["error"], "quota-exceeded");
    // Until the next midnight in Warsaw.
    let seconds = answers[37]["retry_after"].as_u64().expect("when to come again");
    assert!((1..=25 * 3_600).contains(&seconds), "{seconds}");
    assert_eq!(caller.get("/v1/limits").good()["remaining"]["day"], 0);
}

/// A limit per second slows a stream down and does not end it.
#[test]
fn a_rate_limit_paces_a_stream() {
    let demo = Demo::shared();
    let (id, key) = demo.issue("Bank Powolny", &["127.0.0.1"], Some([200, 50, 100_000]));
    let began = std::time::Instant::now();
    let line = format!("\"{}\"\n", demo.numbers("free.csv")[0]);
    let answers = demo.caller_with(&key).stream(&line.repeat(250));
    assert_eq!(answers.len(), 250);
    assert!(answers.iter().all(|answer| answer["reserved"] == false));
    // 50 at once, 200 more at 200 a second.
    assert!(began.elapsed().as_millis() >= 900, "{:?}", began.elapsed());
    // Its pace is no refusal.
    let refusals = format!("peselgate_limiter_refusals_total{{key_id=\"{id}\"}}");
    let metrics = demo.instance.metrics();
    let refused = metrics.lines().filter(|line| line.starts_with(&refusals) && !line.ends_with(" 0"));
    assert_eq!(refused.collect::<Vec<_>>(), [""; 0]);
}

/// Every line of a stream is on record with its own index, moment and reference.
#[test]
fn a_stream_is_on_record_line_by_line() {
    let demo = Demo::new(1_000);
    let pesel = &demo.numbers("reserved.csv")[0];
    let lines = format!(
        "\"{pesel}\"\n{{\"pesel\":\"{pesel}\",\"at\":\"2010-01-01T00:00:00Z\",\"reference\":\"dwa\"}}\nx\n\"{}\"\n",
        fictional(77)
    );
    let answers = demo.caller().stream(&lines);
    let home = demo.stop();
    let dump = home.dump();
    assert_eq!(dump.len(), 3, "the wrong line asked about nobody");
    for line in &dump {
        let index = line["index"].as_u64().expect("an index") as usize;
        assert_eq!(line["verification_id"], answers[index]["verification_id"]);
        assert_eq!(
            (&line["pesel"], &line["reserved"]),
            (&answers[index]["pesel"], &answers[index]["reserved"])
        );
        assert_eq!(line["address"], "127.0.0.1");
    }
    assert_eq!((&dump[1]["at"], &dump[1]["reference"]), (&json!("2010-01-01T00:00:00Z"), &json!("dwa")));
}
