//! `bulk` over a pipe, through signals, and its speed.

use super::*;

pub(super) fn sample(rows: u64) -> String {
    let mut text = String::from("name,pesel\n");
    for row in 0..rows {
        writeln!(text, "Osoba {row},{}", 10_000_000_000 + row * 3).expect("a string");
    }
    text
}

#[test]
fn bulk_is_a_filter() {
    let shell = Shell::new();
    let output = fed(&mut shell.ask(&["bulk", "-", "--json"]), &sample(20_000));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(out(&output).lines().count(), 20_001);
    assert!(
        out(&output)
            .starts_with("name,pesel,reserved,reserved_at,withdrawn_at,verification_id,index,error\n")
    );
    let summary: serde_json::Value = serde_json::from_str(&err(&output)).expect("a summary as JSON");
    assert_eq!((&summary["rows"], &summary["wrong"]), (&20_000.into(), &0.into()));
    let output = fed(&mut shell.ask(&["bulk", "-"]), "pesel\nx\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).starts_with("1 rows: 0 reserved, 0 not reserved, 1 wrong"));
    shell.ask(&["bulk", "nothing.csv"]).assert().code(2);
    shell.ask(&["bulk", "."]).assert().code(2);
    assert_eq!(
        fed(&mut shell.ask(&["bulk", "-", "--output", "piped.csv"]), "pesel\n1\n").status.code(),
        Some(1)
    );
    assert!(shell.path("piped.csv").exists() && !shell.path("piped.csv.part").exists());
}

/// Ctrl-C or a sudden end in the middle, then the same command: the file is as
/// if nothing had been.
#[test]
fn bulk_goes_on_after_a_signal() {
    use rustix::process::{Pid, Signal, kill_process};
    let shell = Shell::new();
    std::fs::write(shell.path("in.csv"), sample(30_000)).expect("written");
    for (signal, status) in [(Signal::INT, Some(2)), (Signal::TERM, Some(2)), (Signal::KILL, None)] {
        let bulk = || shell.ask(&["bulk", "in.csv", "--output", "out.csv"]);
        shell.gateway.misbehave([Fault::Stall(10_000)]);
        let before = shell.gateway.seen.lines.load(Ordering::SeqCst);
        let mut child = bulk().stderr(Stdio::null()).spawn().expect("a process");
        let is_begun = || shell.gateway.seen.lines.load(Ordering::SeqCst) - before >= 10_000;
        while !is_begun() || !shell.path("out.csv.resume").exists() {
            std::thread::yield_now();
        }
        kill_process(Pid::from_child(&child), signal).expect("a signal");
        assert_eq!(child.wait().expect("an end").code(), status);
        assert!(shell.path("out.csv.part").exists() && !shell.path("out.csv").exists());
        bulk().assert().code(0);
        let output = std::fs::read_to_string(shell.path("out.csv")).expect("the result");
        assert_eq!(output.lines().count(), 30_001);
        let names = output.lines().skip(1).map(|line| line.split(',').next().expect("a name").to_owned());
        assert!(names.eq((0..30_000).map(|row| format!("Osoba {row}"))), "after {signal:?}");
        assert!(!shell.path("out.csv.resume").exists());
        std::fs::remove_file(shell.path("out.csv")).expect("removed");
    }
}

#[test]
fn bulk_says_when_a_used_up_day_may_go_on() {
    let shell = Shell::new();
    std::fs::write(shell.path("in.csv"), sample(20)).expect("written");
    let end = r#"{"error":"quota-exceeded","detail":"the day is used up","retry_after":15000}"#;
    shell.gateway.misbehave([Fault::End(5, end)]);
    let output = shell.ask(&["bulk", "in.csv", "--output", "out.csv"]).output().expect("an end");
    assert_eq!(output.status.code(), Some(2));
    let says = "quota-exceeded: the day is used up; again in 4 h 10 min; the same command goes on from there";
    assert!(err(&output).contains(says), "{}", err(&output));
}

/// Rows a second of `bulk`, end to end against a gateway that does next to
/// nothing.
#[test]
#[expect(clippy::print_stdout, reason = "a measurement is there to be read")]
#[ignore = "a measurement: cargo test --release --test cli -- --ignored --nocapture bulk_speed"]
fn bulk_speed() {
    let shell = Shell::new();
    let rows = 5_000_000;
    let mut plain = String::from("pesel\n");
    for row in 0..rows {
        writeln!(plain, "{}", 10_000_000_000_u64 + row * 3).expect("a string");
    }
    for (name, text) in [("one column", plain), ("with names", sample(rows))] {
        std::fs::write(shell.path("in.csv"), text).expect("written");
        for _ in 0..3 {
            let started = Instant::now();
            // The shell's `time` tells the processor's seconds of the client alone.
            let bulk = shell.ask(&["bulk", "in.csv", "--output", "out.csv"]);
            let mut timed = Command::new("bash");
            timed.current_dir(shell.dir.path()).args(["-c", "TIMEFORMAT='%U %S'; time \"$@\"", "-"]);
            let output = timed.arg(bulk.get_program()).args(bulk.get_args()).output().expect("an end");
            let wall = started.elapsed().as_secs_f64();
            assert_eq!(output.status.code(), Some(0), "{}", err(&output));
            let times = err(&output);
            println!(
                "{name}: {:.2} M rows a second; processor seconds of the client, user and system: {}",
                rows as f64 / wall / 1e6,
                times.lines().last().unwrap_or_default()
            );
        }
    }
}
