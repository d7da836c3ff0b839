//! Long files over many streams, broken off and gone on with.

use super::*;

/// Rows of all kinds: wrong, of wrong length, quoted, with an empty line between.
fn mixed(rows: u64, end: &str) -> String {
    let mut text = format!("nr,pesel,name{end}");
    for row in 0..rows {
        let number = 10_000_000_000 + row * 7;
        match row % 13 {
            3 => write!(text, "{row},x{number},a{end}"),
            5 => write!(text, "{row},{number}{end}"),
            7 => write!(text, "{row},{number},\"a,\"\"b\"\"{end}c\"{end}"),
            11 => write!(text, "{row},{number},a{end}{end}"),
            _ => write!(text, "{row},{number},Żółw{end}"),
        }
        .expect("a string");
    }
    text
}

/// The output without the column `index`, which begins again in every stream.
fn without_index(output: &str) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(output.as_bytes());
    let at = reader.headers().expect("a header").iter().position(|name| name == "index").expect("index");
    let row = |record: csv::StringRecord| {
        record
            .iter()
            .enumerate()
            .filter(|(column, _)| *column != at)
            .map(|(_, field)| field.to_owned())
            .collect()
    };
    reader.records().map(|record| row(record.expect("a record"))).collect()
}

/// The output as bytes, with a `#` for each index.
fn with_blind_index(output: &str) -> String {
    let line = |line: &str| match line.rsplitn(3, ',').collect::<Vec<_>>()[..] {
        [error, index, row] if index.parse::<u64>().is_ok() => format!("{row},#,{error}"),
        _ => line.to_owned(),
    };
    output.split_inclusive('\n').map(line).collect()
}

#[test]
fn long_files_are_split_over_streams() {
    let mut bench = Bench::new();
    let input = mixed(500, "\n");
    let (exit, whole) = bench.check(&input);
    assert_eq!((exit, bench.gateway.seen.streams.load(Ordering::SeqCst)), (Exit::Partly, 1));
    for lines_max in [1, 15, 16, 17, 100, 499] {
        bench.terms.stream_lines_max = lines_max;
        let seen = &bench.gateway.seen;
        seen.longest_stream.store(0, Ordering::SeqCst);
        let (streams, connections) =
            (seen.streams.load(Ordering::SeqCst), seen.connections.load(Ordering::SeqCst));
        let (_, split) = bench.check(&input);
        assert_eq!(without_index(&split), without_index(&whole), "at {lines_max}");
        assert!(seen.longest_stream.load(Ordering::SeqCst) <= lines_max);
        let streams = seen.streams.load(Ordering::SeqCst) - streams;
        assert!(streams >= 461_u64.div_ceil(lines_max), "{streams} streams at {lines_max}");
        // The connection is used again.
        assert_eq!(seen.connections.load(Ordering::SeqCst) - connections, 1);
    }
}

/// Every place of interruption: the next run goes on, and the file is the same.
#[test]
fn an_interrupted_run_is_gone_on_with() {
    let bench = Bench::new();
    for end in ["\n", "\r\n"] {
        let input = mixed(60, end);
        let (_, whole) = bench.check(&input);
        for lines in 0..55 {
            let fault = if lines % 2 == 0 { Fault::Cut(lines) } else { Fault::Stop(lines) };
            bench.gateway.misbehave([fault]);
            assert_eq!(bench.run(), Ok(Exit::Failed), "cut after {lines}");
            let before = std::fs::read(bench.path("out.csv.part")).expect("the work so far");
            assert!(whole.as_bytes().starts_with(&before));
            // What a crash may leave behind the mark does not count.
            std::fs::write(bench.path("out.csv.part"), [&before[..], b"1,2,half a ro"].concat())
                .expect("written");
            let asked = bench.gateway.seen.lines.load(Ordering::SeqCst);
            assert_eq!(bench.run(), Ok(Exit::Partly));
            let asked = bench.gateway.seen.lines.load(Ordering::SeqCst) - asked;
            assert!(lines % 2 == 0 || asked <= 56 - lines, "{asked} asked again, {lines} were done");
            let resumed = bench.read("out.csv");
            assert_eq!(without_index(&resumed), without_index(&whole), "cut after {lines}");
            assert_eq!(with_blind_index(&resumed), with_blind_index(&whole));
        }
    }
}

/// Within one run, a stream that breaks is taken up again.
#[test]
fn broken_streams_are_tried_again() {
    let mut bench = Bench::new();
    let input = mixed(200, "\n");
    let (_, whole) = bench.check(&input);
    bench.terms.attempts_max = 4;
    bench.gateway.misbehave([
        Fault::Cut(0),
        Fault::Refuse(503, r#"{"code":"overloaded","detail":"later"}"#),
        Fault::Cut(50),
        Fault::End(3, r#"{"error":"draining","detail":"later"}"#),
        Fault::End(0, r#"{"error":"audit-unavailable","detail":"disk","retry_after":0}"#),
        Fault::Stop(1),
    ]);
    let (exit, tried) = bench.check(&input);
    assert_eq!(exit, Exit::Partly);
    assert_eq!(without_index(&tried), without_index(&whole));
}

#[test]
fn what_waiting_does_not_cure_is_not_tried_again() {
    let mut bench = Bench::new();
    bench.terms.attempts_max = 4;
    std::fs::write(bench.path("in.csv"), mixed(100, "\n")).expect("written");
    for fault in [
        Fault::Refuse(401, r#"{"code":"unauthenticated","detail":"no"}"#),
        Fault::Refuse(429, r#"{"code":"quota-exceeded","detail":"no"}"#),
        Fault::End(5, r#"{"error":"quota-exceeded","detail":"the day is used up"}"#),
        Fault::Lie(2, r#"{"index":7,"error":"invalid-pesel"}"#),
        Fault::Lie(2, "no JSON"),
        Fault::Lie(
            2,
            r#"{"index":2,"pesel":"22822222220","reserved":false,"verification_id":"01936f5e-7c1a-7e6b-8f00-0123456789ab"}"#,
        ),
    ] {
        let streams = bench.gateway.seen.streams.load(Ordering::SeqCst);
        bench.gateway.misbehave([fault.clone()]);
        assert_eq!(bench.run(), Ok(Exit::Failed), "{fault:?}");
        assert_eq!(bench.gateway.seen.streams.load(Ordering::SeqCst) - streams, 1, "{fault:?}");
    }
    bench.gateway.misbehave(std::iter::repeat_n(Fault::Stop(0), 4));
    assert_eq!(bench.run(), Ok(Exit::Failed));
    assert_eq!(bench.run(), Ok(Exit::Partly));
}

#[test]
fn work_of_another_input_is_not_gone_on_with() {
    let mut bench = Bench::new();
    std::fs::write(bench.path("in.csv"), mixed(60, "\n")).expect("written");
    bench.gateway.misbehave([Fault::Stop(30)]);
    assert_eq!(bench.run(), Ok(Exit::Failed));
    let refused = bench.refusal(mixed(61, "\n"));
    assert!(refused.contains("another input") && refused.contains("--restart"), "{refused}");
    bench.more = vec!["--restart"];
    assert_eq!(bench.run(), Ok(Exit::Partly));
    assert_eq!(without_index(&bench.read("out.csv")).len(), 61);
    bench.more.clear();
    for state in ["", "{}", "[1]"] {
        std::fs::write(bench.path("out.csv.resume"), state).expect("written");
        assert!(bench.run().expect_err("refused").contains("--restart"));
    }
}

/// A result is one gateway's, under one key: a test's answers do not end up in
/// those of production.
#[test]
fn work_with_another_gateway_or_key_is_not_gone_on_with() {
    let mut bench = Bench::new();
    std::fs::write(bench.path("in.csv"), mixed(60, "\n")).expect("written");
    bench.gateway.misbehave([Fault::Stop(30)]);
    assert_eq!(bench.run(), Ok(Exit::Failed));
    let (part, state) = (bench.read("out.csv.part"), bench.read("out.csv.resume"));
    assert!(!state.contains(&bench.key.reveal()[19..]), "the secret is no part of the state");
    let refused = |bench: &Bench, first: &str| {
        let refusal = bench.run().expect_err("refused");
        for says in ["another gateway or key", first, "--restart"] {
            assert!(refusal.contains(says), "{refusal}");
        }
        assert_eq!(bench.gateway.seen.streams.load(Ordering::SeqCst), 0, "nothing is asked");
        // It waits for whoever began it.
        assert_eq!((bench.read("out.csv.part"), bench.read("out.csv.resume")), (part.clone(), state.clone()));
    };
    let name = format!("{} with the key pg_test_{} ", bench.gateway.url(), bench.key.id());
    let gateway = std::mem::replace(&mut bench.gateway, Gateway::start());
    refused(&bench, &name);
    bench.gateway = gateway;
    bench.gateway.seen.streams.store(0, Ordering::SeqCst);
    let first = std::mem::replace(&mut bench.key, key(Environment::Production));
    refused(&bench, &name);
    // A key that was rotated, too.
    bench.key = key(Environment::Test);
    refused(&bench, &name);
    bench.key = first;
    assert_eq!(bench.run(), Ok(Exit::Partly));
    assert_eq!(without_index(&bench.read("out.csv")).len(), 60);
}

/// The state of an older version does not say whose answers the work holds.
#[test]
fn work_of_another_version_is_not_gone_on_with() {
    let mut bench = Bench::new();
    std::fs::write(bench.path("in.csv"), mixed(60, "\n")).expect("written");
    bench.gateway.misbehave([Fault::Stop(30)]);
    assert_eq!(bench.run(), Ok(Exit::Failed));
    let state = bench.read("out.csv.resume");
    let mut older: serde_json::Value = serde_json::from_str(&state).expect("JSON");
    older["version"] = 1.into();
    let with_all = older.to_string();
    for name in ["gateway", "key"] {
        older["task"].as_object_mut().expect("a task").remove(name).expect("a field");
    }
    for state in [with_all, older.to_string()] {
        std::fs::write(bench.path("out.csv.resume"), state).expect("written");
        let refusal = bench.run().expect_err("refused");
        assert!(
            refusal.contains("not written by this version") && refusal.contains("--restart"),
            "{refusal}"
        );
    }
    bench.more = vec!["--restart"];
    assert_eq!(bench.run(), Ok(Exit::Partly));
}

#[test]
fn two_runs_do_not_share_an_output() {
    let bench = Bench::new();
    let held = Files::beside(&bench.path("out.csv")).open_part().expect("free");
    assert!(bench.refusal("pesel\n1\n").contains("in use"));
    drop(held);
    assert_eq!(bench.check("pesel\n22822222220\n").0, Exit::Done);
}

#[test]
fn a_signal_stops_with_the_state_kept() {
    let bench = Bench::new();
    std::fs::write(bench.path("in.csv"), mixed(60, "\n")).expect("written");
    let cli = Cli::try_parse_from([
        "peselgate".as_ref(),
        "bulk".as_ref(),
        bench.path("in.csv").as_os_str(),
        "--output".as_ref(),
        bench.path("out.csv").as_os_str(),
    ])
    .expect("a command line");
    let Command::Bulk(args) = cli.command else { panic!("bulk") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let (_interrupt, interrupted) = watch::channel(true);
    assert_eq!(runtime.block_on(check(&args, bench.client(), TERMS, interrupted)).ok(), Some(Exit::Failed));
    assert!(Path::exists(&bench.path("out.csv.resume")));
    assert_eq!(bench.run(), Ok(Exit::Partly));
}
