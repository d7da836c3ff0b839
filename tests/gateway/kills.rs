//! SIGKILL at random moments of longer work: while a history is imported, while
//! the clock carries out re-reservations. What was confirmed is there, what was
//! due happens, and each of it once.

mod ends;

use std::collections::HashSet;
use std::io::Write as _;
use std::net::TcpStream;
use std::process::{Output, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use rand::RngExt as _;
use serde_json::{Value, json};

use crate::client::{Connection, json_lines};
use crate::harness::{Demo, Home, err, events, program, wait_for};
use crate::history::{assert_ends, compare_answers, moment, text, unix_millis, unknown_numbers, whole};

/// Numbers that tests of this file use.
const NUMBERS_FROM: u32 = 210_000_000;
const IMPORT: &str = "/admin/v1/import?allow_mass_change=true";
/// Lines that are recorded together or not at all.
const CHUNK: usize = 10_000;

const RESERVED: &str = "2024-03-01T00:00:00Z";
const WITHDRAWN: &str = "2024-04-01T00:00:00Z";
const EX_OFFICIO: &str = "2024-04-15T00:00:00Z";
const AGAIN: &str = "2024-05-01T00:00:00Z";
const FAR: &str = "2099-01-01T00:00:00Z";

fn random(below: u64) -> u64 {
    rand::rng().random_range(0..below)
}

/// Lets a random time pass, so that the kill that follows comes at a random moment.
fn linger(millis_max: u64) {
    std::thread::sleep(Duration::from_micros(random(millis_max * 1_000)));
}

/// A line of the e-service, with other fields or more of them.
fn line(pesel: &str, kind: &str, moment: &str, more: Value) -> Value {
    let mut line = json!({"pesel": pesel, "kind": kind, "moment": moment, "channel": "e-service",
        "registrant": "Kancelaria"});
    for (name, value) in more.as_object().expect("an object") {
        line[name] = value.clone();
    }
    line
}

/// A file for an import: the histories of some numbers, their lines strewn over
/// its chunks.
struct File {
    numbers: Vec<String>,
    /// Whose temporary withdrawal is ended by the clock alone.
    ended_by_clock: Vec<String>,
    lines: Vec<Value>,
    text: String,
}

impl File {
    /// A sixth each: reserved; withdrawn; for a time, the end told; the same, the end
    /// left to the clock; the same, reserved ex officio before it; for a time that lasts.
    fn of_histories(known: &[Value], round: u32, count: usize) -> Self {
        let first = NUMBERS_FROM + round * 100_000;
        let numbers: Vec<String> = unknown_numbers(known, first).take(count).collect();
        let some = |kinds: &'static [usize]| {
            let places = numbers.iter().enumerate();
            places.filter(move |(place, _)| kinds.contains(&(place % 6))).map(|(_, pesel)| pesel)
        };
        let mut lines: Vec<Value> =
            some(&[0, 1, 2, 3, 4, 5]).map(|pesel| line(pesel, "reservation", RESERVED, json!({}))).collect();
        lines.extend(some(&[1]).map(|pesel| line(pesel, "withdrawal", WITHDRAWN, json!({}))));
        let until = |end: &str| json!({ "reserve_again_at": end });
        lines.extend(some(&[2, 3, 4]).map(|pesel| line(pesel, "withdrawal", WITHDRAWN, until(AGAIN))));
        lines.extend(some(&[5]).map(|pesel| line(pesel, "withdrawal", WITHDRAWN, until(FAR))));
        lines.extend(some(&[2]).map(|pesel| line(pesel, "reservation", AGAIN, json!({}))));
        let register = json!({ "channel": "id-card-register" });
        lines.extend(some(&[4]).map(|pesel| line(pesel, "reservation", EX_OFFICIO, register.clone())));
        let ended_by_clock = some(&[3]).cloned().collect();
        let text = lines.iter().map(|line| format!("{line}\n")).collect();
        Self { numbers, ended_by_clock, lines, text }
    }

    /// Is what the clock is to end reserved again?
    fn has_ended(&self, demo: &Demo) -> bool {
        let asked = [self.ended_by_clock.first(), self.ended_by_clock.last()];
        let mut caller = demo.caller();
        asked.into_iter().flatten().all(|pesel| caller.verify(pesel).good()["reserved"] == true)
    }
}

/// A file on its way to the gateway.
struct Sending {
    writer: JoinHandle<()>,
    /// Lines of the chunks that were confirmed, added up.
    reader: JoinHandle<usize>,
}

impl Sending {
    fn start(demo: &Demo, file: &File) -> Self {
        let mut stream = TcpStream::connect(demo.instance.admin).expect("a connection");
        let answers = stream.try_clone().expect("the other direction");
        let head = format!(
            "POST {IMPORT} HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {}\r\n\
             content-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n",
            demo.token(),
            file.text.len()
        );
        let request = head + &file.text;
        // Whether it came to an end is told by the answers.
        let writer = std::thread::spawn(move || drop(stream.write_all(request.as_bytes())));
        let reader = std::thread::spawn(move || {
            let mut answers = Connection::over(answers);
            let mut confirmed = 0;
            if answers.read_head().is_err() {
                return confirmed;
            }
            while let Ok(Some(chunk)) = answers.read_chunk() {
                for told in json_lines(&chunk) {
                    let first = told["errors"][0].clone();
                    assert_eq!((&told["error"], &first), (&Value::Null, &Value::Null), "refused");
                    confirmed += told["lines"].as_u64().expect("a count") as usize;
                }
            }
            confirmed
        });
        Self { writer, reader }
    }

    fn confirmed(self) -> usize {
        self.writer.join().expect("a writer");
        self.reader.join().expect("a reader")
    }
}

/// Kills the gateway at a random moment of the import; what was confirmed by then.
fn kill_in_the_middle(demo: Demo, file: &File) -> (Home, usize) {
    let part = Part::of(&demo, file);
    let sending = Sending::start(&demo, file);
    part.wait_for(&demo, || sending.reader.is_finished());
    let home = demo.kill();
    (home, sending.confirmed())
}

/// A random part of an import: up to a number of events.
struct Part(u64);

impl Part {
    fn of(demo: &Demo, file: &File) -> Self {
        Self(last_sequence(demo) + random(file.lines.len() as u64))
    }

    /// Waits until so much is there, or nothing more comes, and a random time more.
    fn wait_for(self, demo: &Demo, is_over: impl Fn() -> bool) {
        wait_for("a part of the file", || (last_sequence(demo) >= self.0 || is_over()).then_some(()));
        linger(150);
    }
}

fn last_sequence(demo: &Demo) -> u64 {
    demo.caller().get("/v1/status").good()["register"]["sequence"].as_u64().expect("a sequence")
}

/// Fails unless the new events are the file's first lines up to the end of a
/// chunk, in their order, and the clock's; and unless all confirmed lines are among
/// them.
fn assert_whole_chunks(new: &[Value], file: &File, confirmed: usize) {
    let by_clock: HashSet<&str> =
        new.iter().filter(|event| event["scheduled"] == true).map(|event| text(event, "pesel")).collect();
    let mut told = new.iter().filter(|event| event["scheduled"] != true);
    let (mut lines, mut lines_min) = (0, 0);
    for (place, line) in file.lines.iter().enumerate() {
        // An end that the clock carried out is not recorded again when a line tells it.
        if line["moment"] != AGAIN || !by_clock.contains(text(line, "pesel")) {
            let Some(event) = told.next() else { break };
            for name in ["pesel", "kind", "moment", "channel", "registrant", "reserve_again_at"] {
                assert_eq!(event[name], line[name], "{name} of line {place}");
            }
            lines_min = place + 1;
        }
        lines = place + 1;
    }
    assert_eq!(told.next(), None, "an event that no line tells");
    assert!(confirmed <= lines, "{confirmed} lines were confirmed, {lines} are there");
    let end = lines_min.next_multiple_of(CHUNK).min(file.lines.len());
    assert!(end <= lines, "a part of a chunk: {lines_min} of {}", file.lines.len());
}

/// Fails unless the new events are those of the file, each once, and answers agree.
fn assert_imported(demo: &Demo, before: &[Value], file: &File) -> Vec<Value> {
    let all = whole(demo, before);
    let new = &all[before.len()..];
    assert_whole_chunks(new, file, file.lines.len());
    let mut events: Vec<(&str, &str)> =
        new.iter().map(|event| (text(event, "pesel"), text(event, "moment"))).collect();
    events.sort_unstable();
    let untold = file.ended_by_clock.iter().map(|pesel| (pesel.as_str(), AGAIN));
    let mut expected: Vec<(&str, &str)> =
        file.lines.iter().map(|line| (text(line, "pesel"), text(line, "moment"))).chain(untold).collect();
    expected.sort_unstable();
    assert!(events == expected, "{} events, expected {}", events.len(), expected.len());
    assert_ends(&all, &moment(unix_millis() / 1_000));
    let numbers: Vec<String> = file.numbers.iter().step_by(37).cloned().collect();
    compare_answers(demo, &all, &numbers);
    all
}

/// An import through the admin plane, killed some times and each time sent again
/// from its beginning, as a user would.
fn import_over_kills(rounds: u32, kills: u32, numbers: usize) {
    let demo = Demo::new(1_000);
    let mut before = events(&mut demo.admin(), 10_000);
    let mut home = Some(demo.stop());
    for round in 0..rounds {
        let file = File::of_histories(&before, round, numbers);
        let mut seen = before.clone();
        for _ in 0..kills {
            let demo = home.take().expect("a directory").start(&[]);
            let (killed, confirmed) = kill_in_the_middle(demo, &file);
            let demo = killed.start(&[]);
            seen = whole(&demo, &seen);
            assert_whole_chunks(&seen[before.len()..], &file, confirmed);
            home = Some(demo.kill());
        }
        let demo = home.take().expect("a directory").start(&[]);
        assert_eq!(Sending::start(&demo, &file).confirmed(), file.lines.len());
        wait_for("the ends", || file.has_ended(&demo).then_some(()));
        before = assert_imported(&demo, &before, &file);
        home = Some(demo.stop());
    }
}

#[test]
fn an_import_over_kills_is_whole_chunks_and_then_all_of_it_once() {
    import_over_kills(1, 3, 15_000);
}

/// The same through the command, which is run again until it says that all is done.
#[test]
fn the_import_command_run_again_after_a_kill_finishes() {
    let demo = Demo::new(1_000);
    let before = events(&mut demo.admin(), 10_000);
    let file = File::of_histories(&before, 0, 12_000);
    let path = demo.home().path().join("lines.ndjson");
    std::fs::write(&path, &file.text).expect("written");
    let command = |demo: &Demo| {
        let mut command = program();
        command.arg("import").arg(&path).args(["--allow-mass-change", "--json"]);
        command.args(["--admin-url", &format!("http://{}", demo.instance.admin), "--admin-token-file"]);
        command.arg(demo.file("demo-admin-token")).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let part = Part::of(&demo, &file);
    let running = command(&demo).spawn().expect("a process");
    // It ends by itself only after all of the file is there.
    part.wait_for(&demo, || false);
    let home = demo.kill();
    let broken = running.wait_with_output().expect("an end");
    let demo = home.start(&[]);
    let there = whole(&demo, &before);
    let told = summary(&broken);
    let confirmed = |told: &Value| told["lines"].as_u64().expect("a count") as usize;
    if let Some(told) = &told {
        assert_whole_chunks(&there[before.len()..], &file, confirmed(told));
    }
    // Whoever was not told that all is there is told to send it again.
    let is_done = told.as_ref().is_some_and(|told| confirmed(told) == file.lines.len());
    assert_eq!(broken.status.code(), Some(if is_done { 0 } else { 2 }), "{}", err(&broken));
    let again = command(&demo).output().expect("an end");
    assert_eq!(again.status.code(), Some(0), "{}", err(&again));
    let told = summary(&again).expect("a summary");
    let count = |name: &str| told[name].as_u64().expect("a count") as usize;
    assert_eq!(count("accepted") + count("already_there"), file.lines.len());
    wait_for("the ends", || file.has_ended(&demo).then_some(()));
    assert_imported(&demo, &before, &file);
}

fn summary(output: &Output) -> Option<Value> {
    serde_json::from_slice(&output.stdout).ok()
}

#[test]
#[ignore = "takes some ten minutes: cargo test --test gateway -- --ignored a_dozen_imports_over_kills"]
fn a_dozen_imports_over_kills() {
    // A directory for some of them only: all events are listed again and again.
    for _ in 0..6 {
        import_over_kills(2, 4, 30_000);
    }
}
