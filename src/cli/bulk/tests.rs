mod long;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use clap::Parser as _;

use super::*;
use crate::cli::args::{Cli, Command};
use crate::cli::credential::{Bearer, KEY};
use crate::cli::testing::{Fault, Gateway};
use crate::environment::Environment;
use crate::secret::{PlainCredential, Plane};

const TERMS: Terms = Terms {
    stream_lines_max: 1_000_000,
    batch_rows: 16,
    window_batches: 4,
    attempts_max: 1,
    pause: Duration::from_millis(1),
    silence_max: Duration::from_secs(60),
    idle_max: Duration::from_secs(60),
    tick: Duration::from_millis(5),
};

struct Bench {
    dir: tempfile::TempDir,
    gateway: Gateway,
    key: PlainCredential,
    terms: Terms,
    more: Vec<&'static str>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let key = key(Environment::Test);
        Self { dir, gateway: Gateway::start(), key, terms: TERMS, more: Vec::new() }
    }

    fn client(&self) -> Client {
        let bearer = Bearer::read(KEY, None, &|_| Some(self.key.reveal().to_owned())).expect("a key");
        Client::new(&self.gateway.url(), None, bearer).expect("a client")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("a file")
    }

    /// `bulk in.csv --output out.csv`
    fn run(&self) -> Result<Exit, String> {
        let (input, output) = (self.path("in.csv"), self.path("out.csv"));
        let fixed = [
            "peselgate".as_ref(),
            "bulk".as_ref(),
            input.as_os_str(),
            "--output".as_ref(),
            output.as_os_str(),
        ];
        let more = self.more.iter().map(std::ffi::OsStr::new);
        let cli = Cli::try_parse_from(fixed.into_iter().chain(more)).expect("a command line");
        let Command::Bulk(args) = cli.command else { panic!("bulk") };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let (_interrupt, interrupted) = watch::channel(false);
        runtime
            .block_on(check(&args, self.client(), self.terms, interrupted))
            .map_err(|error| error.to_string())
    }

    /// The output for this input.
    fn check(&self, input: impl AsRef<[u8]>) -> (Exit, String) {
        std::fs::write(self.path("in.csv"), input).expect("written");
        let exit = self.run().expect("a result");
        assert!(!self.path("out.csv.part").exists() && !self.path("out.csv.resume").exists());
        (exit, self.read("out.csv"))
    }

    fn refusal(&self, input: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path("in.csv"), input).expect("written");
        self.run().expect_err("refused")
    }
}

fn key(environment: Environment) -> PlainCredential {
    PlainCredential::generate(Plane::Verification, environment).expect("randomness")
}

const HEAD: &str = "reserved,reserved_at,withdrawn_at,verification_id,index,error";

/// What the test gateway says of a number at this place of a stream.
fn said(pesel: &str, index: u64) -> String {
    let id = format!("01936f5e-7c1a-7e6b-8f00-0{pesel}");
    match pesel.as_bytes()[10] {
        last if last % 2 == 0 => format!("true,2026-10-02T08:15:3{}Z,,{id},{index},", char::from(last)),
        b'5' => format!("false,2026-10-02T08:15:35Z,2026-11-02T08:15:30Z,{id},{index},"),
        _ => format!("false,,,{id},{index},"),
    }
}

#[test]
fn rows_come_back_with_what_is_known_of_them() {
    let input = "name,pesel\nA,44851401353\nB,22822222220\nC,75920804335\n";
    let expected = format!(
        "name,pesel,{HEAD}\nA,44851401353,{}\nB,22822222220,{}\nC,75920804335,{}\n",
        said("44851401353", 0),
        said("22822222220", 1),
        said("75920804335", 2),
    );
    assert_eq!(Bench::new().check(input), (Exit::Done, expected));
}

#[test]
fn a_wrong_number_is_one_wrong_row() {
    let (exit, output) = Bench::new().check("pesel\nx\n22822222220\n\"\"\n");
    let wrong = |index| format!(",,,,{index},invalid-pesel");
    let expected =
        format!("pesel,{HEAD}\nx,{}\n22822222220,{}\n,{}\n", wrong(0), said("22822222220", 1), wrong(2));
    assert_eq!((exit, output), (Exit::Partly, expected));
}

/// It holds numbers and what is said of them.
#[test]
fn the_result_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = Bench::new();
    bench.gateway.misbehave([Fault::Cut(32)]);
    let mode = |name| std::fs::metadata(bench.path(name)).expect(name).permissions().mode() & 0o777;
    std::fs::write(bench.path("in.csv"), format!("pesel\n{}", "22822222220\n".repeat(64))).expect("written");
    assert_eq!(bench.run().expect("a result"), Exit::Failed);
    assert_eq!(mode("out.csv.part"), 0o600);
    assert_eq!(bench.run().expect("a result"), Exit::Done);
    assert_eq!(mode("out.csv"), 0o600);
}

#[test]
fn a_result_takes_the_place_of_nothing_but_a_file() {
    let bench = Bench::new();
    std::fs::write(bench.path("mine"), "mine").expect("written");
    for name in ["out.csv", "out.csv.part", "out.csv.resume"] {
        std::os::unix::fs::symlink(bench.path("mine"), bench.path(name)).expect("made");
        let refusal = bench.refusal("pesel\n22822222220\n");
        assert!(refusal.contains(&format!("{name} is a symbolic link")), "{refusal}");
        std::fs::remove_file(bench.path(name)).expect("removed");
    }
    assert_eq!(bench.read("mine"), "mine");
    assert!(!bench.path("out.csv.part").exists());
}

#[test]
fn quotes_ends_of_line_and_marks_are_kept() {
    let bench = Bench::new();
    let input = "\u{feff}\"na\"\"me\",pesel,\"a,b\"\r\n\"Żó\r\nł\",\"22822222220\",\"x,y\"\r\n\r\nplain,22822222220,\"\"\"\"";
    let answered = |index| said("22822222220", index);
    let expected = format!(
        "\u{feff}\"na\"\"me\",pesel,\"a,b\",{HEAD}\r\n\"Żó\r\nł\",22822222220,\"x,y\",{}\r\nplain,22822222220,\"\"\"\",{}\r\n",
        answered(0),
        answered(1)
    );
    assert_eq!(bench.check(input), (Exit::Done, expected));
}

#[test]
fn bytes_that_are_no_unicode_are_kept() {
    let bench = Bench::new();
    std::fs::write(bench.path("in.csv"), b"pesel,name\n22822222220,Z\xBF\xB3\n\xFF,\xFE\n").expect("written");
    assert_eq!(bench.run(), Ok(Exit::Partly));
    let output = std::fs::read(bench.path("out.csv")).expect("a file");
    assert!(memchr::memmem::find(&output, b"\n22822222220,Z\xBF\xB3,true,").is_some());
    assert!(output.ends_with(b"\xFF,\xFE,,,,,1,invalid-pesel\n"));
}

#[test]
fn another_delimiter_and_column_may_be_named() {
    let mut bench = Bench::new();
    bench.more = vec!["--delimiter", ";", "--column", "numer"];
    let (exit, output) = bench.check("numer;x\n22822222220;a,b\n");
    let said = said("22822222220", 0).replace(',', ";");
    assert_eq!(
        (exit, output),
        (Exit::Done, format!("numer;x;{}\n22822222220;a,b;{said}\n", HEAD.replace(',', ";")))
    );
    bench.more = vec!["--delimiter", "-"];
    let (_, output) = bench.check("pesel\n22822222220\n");
    assert!(output.contains("\"2026-10-02T08:15:30Z\""), "{output}");
}

#[test]
fn headers_without_the_column_are_refused() {
    let bench = Bench::new();
    assert_eq!(bench.refusal("name,number\nA,1\n"), "the header has no column `pesel`");
    assert!(bench.refusal("name;pesel\nA;1\n").contains("--delimiter"));
    assert_eq!(bench.refusal("pesel,pesel\n1,2\n"), "the header has the column `pesel` more than once");
    assert!(bench.refusal("").contains("empty"));
    assert!(bench.refusal("\n\r\n").contains("empty"));
    assert_eq!(bench.gateway.seen.streams.load(Ordering::SeqCst), 0);
}

#[test]
fn doubled_names_of_other_columns_are_kept() {
    let (exit, output) = Bench::new().check("x,pesel,x,index\n1,22822222220,2,3\n");
    let expected = format!("x,pesel,x,index,{HEAD}\n1,22822222220,2,3,{}\n", said("22822222220", 0));
    assert_eq!((exit, output), (Exit::Done, expected));
}

#[test]
fn a_file_of_a_header_alone_asks_nothing() {
    let bench = Bench::new();
    assert_eq!(bench.check("pesel\n"), (Exit::Done, format!("pesel,{HEAD}\n")));
    assert_eq!(bench.gateway.seen.connections.load(Ordering::SeqCst), 0);
}

#[test]
fn rows_of_another_length_are_not_asked() {
    let bench = Bench::new();
    let input = "a,pesel,b\n1,22822222220\n1,22822222220,2,\"3,\",4\n1,22822222220,2\nx\n";
    let expected = format!(
        "a,pesel,b,{HEAD}\n1,22822222220,,,,,,,row-length\n1,22822222220,2,,,,,,row-length,\"3,\",4\n1,22822222220,2,{}\nx,,,,,,,,row-length\n",
        said("22822222220", 0)
    );
    assert_eq!(bench.check(input), (Exit::Partly, expected));
    assert_eq!(bench.gateway.seen.lines.load(Ordering::SeqCst), 1);
    // None at all: nothing to ask.
    assert_eq!(bench.check("a,pesel\n1\n2\n").0, Exit::Partly);
    assert_eq!(bench.gateway.seen.streams.load(Ordering::SeqCst), 1);
}

#[test]
fn a_quote_that_is_not_closed_does_not_fill_the_memory() {
    let bench = Bench::new();
    let mut input = b"pesel\n22822222220\n\"".to_vec();
    input.resize(20 << 20, b'x');
    std::fs::write(bench.path("in.csv"), input).expect("written");
    assert_eq!(bench.run(), Ok(Exit::Failed));
    assert!(!bench.path("out.csv").exists());
}

/// People behind a quote that is not closed would be part of a name, and nobody would
/// have asked about them.
#[test]
fn a_quote_that_is_not_closed_swallows_nobody_without_a_word() {
    let person = "22822222220,Piotr\n".repeat(40);
    for input in [
        format!("pesel,name\n22822222220,\"Anna\n{person}"),
        format!("pesel,name\n22822222220,\"Anna\n{person}22822222220,\"Ewa\"\n{person}"),
    ] {
        let bench = Bench::new();
        std::fs::write(bench.path("in.csv"), input).expect("written");
        let told = bench.run();
        assert!(matches!(told, Err(_) | Ok(Exit::Failed)), "{told:?}");
        assert!(!bench.path("out.csv").exists());
    }
}

#[test]
fn rows_are_read_as_the_csv_crate_reads_them() {
    // The output, read back, has every field of the input, whatever it holds.
    let bench = Bench::new();
    let mut writer = csv::Writer::from_writer(Vec::new());
    let fields = ["", " ", "a", "\"", "\"\"", ",", "\n", "\r\n", "a\"b,c\nd", "'", "\\", "=1+1", "ż"];
    writer.write_record(["pesel", "a", "b"]).expect("written");
    for a in fields {
        for b in fields {
            writer.write_record(["22822222220", a, b]).expect("written");
        }
    }
    let (_, output) = bench.check(writer.into_inner().expect("bytes"));
    let mut reader = csv::Reader::from_reader(output.as_bytes());
    let read: Vec<_> = reader.records().map(|record| record.expect("a record")).collect();
    let mut expected = fields.iter().flat_map(|a| fields.iter().map(move |b| (a, b)));
    assert_eq!(read.len(), fields.len() * fields.len());
    for record in read {
        assert_eq!(expected.next(), Some((&&record[1], &&record[2])));
        assert_eq!(&record[3], "true");
    }
}
