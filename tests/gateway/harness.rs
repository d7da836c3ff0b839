//! Instances of the real program, in directories of their own.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use peselgate::pesel::Ordinal;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{Caller, Connection, Reply};

/// Long enough for two busy cores; whatever takes longer is broken.
const DEADLINE: Duration = Duration::from_secs(90);

/// Polls until there is a value; fails after [`DEADLINE`].
pub(crate) fn wait_for<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = poll() {
            return value;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Says why a test tries nothing here.
#[expect(clippy::print_stderr, reason = "the note of a skipped test")]
pub(crate) fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

/// The program under test: cargo's, or the one that `PESELGATE_TEST_BINARY`
/// names, a release build say.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("PESELGATE_TEST_BINARY")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_peselgate")), PathBuf::from)
}

/// The program, away from whatever the environment of the test says.
pub(crate) fn program() -> Command {
    clean(Command::new(binary()))
}

pub(crate) fn clean(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PESELGATE_"))
    {
        command.env_remove(name);
    }
    command
}

/// Runs a command to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    program().args(arguments).stdin(Stdio::null()).output().expect("an end")
}

pub(crate) fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A fictional number: nobody alive was born in the 1800s. Each test takes its
/// own range.
pub(crate) fn fictional(ordinal: u32) -> String {
    assert!(ordinal < 365_000_000, "born before 1900");
    Ordinal::new(ordinal).expect("an ordinal").pesel().digits().to_owned()
}

/// A process that runs the program.
pub(crate) struct Instance {
    child: Child,
    pub(crate) stdout: PathBuf,
    pub(crate) stderr: PathBuf,
    pub(crate) verification: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) ops: SocketAddr,
}

impl Instance {
    /// Starts it and waits until it says that all planes answer. Its output goes
    /// to files in `dir`.
    pub(crate) fn start(command: Command, dir: &Path) -> Self {
        let mut instance = Self::spawn(command, dir);
        instance.wait_until_ready();
        instance
    }

    pub(crate) fn spawn(mut command: Command, dir: &Path) -> Self {
        let (stdout, stderr) = (dir.join("stdout"), dir.join("stderr"));
        let file = |path| Stdio::from(File::create(path).expect("a file for the output"));
        command.stdin(Stdio::null()).stdout(file(&stdout)).stderr(file(&stderr));
        let child = command.spawn().expect("a process");
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { child, stdout, stderr, verification: nowhere, admin: nowhere, ops: nowhere }
    }

    /// The same with standard input and output as the command has them.
    pub(crate) fn spawn_with_its_own(mut command: Command, dir: &Path) -> Self {
        let (stdout, stderr) = (dir.join("stdout"), dir.join("stderr"));
        fs::write(&stdout, "").expect("a file for the output");
        command.stderr(File::create(&stderr).expect("a file for the log"));
        let child = command.spawn().expect("a process");
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { child, stdout, stderr, verification: nowhere, admin: nowhere, ops: nowhere }
    }

    pub(crate) fn wait_until_ready(&mut self) {
        wait_for("the planes", || {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("ended before it was ready, {status}: {}", self.stderr());
            }
            let [verification, admin, ops] = self.addresses()?;
            (self.verification, self.admin, self.ops) = (verification, admin, ops);
            Some(())
        });
    }

    /// What the demo prints last, or what the log of `serve` says, once all planes answer.
    pub(crate) fn addresses(&self) -> Option<[SocketAddr; 3]> {
        let printed = fs::read_to_string(&self.stdout).ok()?;
        if let Some(line) =
            printed.lines().find(|line| line.starts_with("ready") && line.contains("operations"))
        {
            let mut found = line.split("://").skip(1).map(|rest| rest.split(',').next()?.trim().parse().ok());
            return Some([found.next()??, found.next()??, found.next()??]);
        }
        let log = self.stderr();
        let line = log.lines().find(|line| line.contains("Addresses {") && line.ends_with(['}', ']']))?;
        let of =
            |plane: &str| line.split(&format!("{plane}: [")).nth(1)?.split([']', ',']).next()?.parse().ok();
        Some([of("verification")?, of("admin")?, of("ops")?])
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("a signal");
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        wait_for("the end of the process", || self.try_ended())
    }

    /// How it ended, if it has.
    pub(crate) fn try_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child")
    }

    /// SIGTERM, and a good end.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.ended();
        assert!(status.success(), "{status}: {}", self.stderr());
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::KILL);
        self.ended();
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    pub(crate) fn ask_ops(&self, path: &str) -> Reply {
        let mut connection = Connection::open(self.ops).expect("the operations plane");
        connection.request("GET", path, &[("connection", "close")], None).expect("an answer")
    }

    /// The sample of this name and labels, which is there from the first scrape on.
    pub(crate) fn count(&self, sample: &str) -> u64 {
        let metrics = self.metrics();
        let value = metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {sample}")).parse().expect("a count")
    }

    /// Connections closed for this reason.
    pub(crate) fn refused(&self, reason: &str) -> u64 {
        self.count(&format!("peselgate_connections_refused_total{{reason=\"{reason}\"}}"))
    }

    pub(crate) fn metrics(&self) -> String {
        self.ask_ops("/metrics").text()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Whoever has ended already cannot be killed.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A demo with its directory.
pub(crate) struct Demo {
    pub(crate) instance: Instance,
    home: Home,
}

/// The directory of a demo; outlives the processes in it.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    pub(crate) fn command(&self, more: &[&str]) -> Command {
        let mut command = program();
        self.arguments(&mut command, more);
        command
    }

    pub(crate) fn arguments(&self, command: &mut Command, more: &[&str]) {
        command.arg("demo").arg("--data-dir").arg(self.data());
        for listen in ["--listen", "--admin-listen", "--ops-listen"] {
            command.args([listen, "127.0.0.1:0"]);
        }
        command.args(["--threads", "2"]).args(more);
    }

    pub(crate) fn start(self, more: &[&str]) -> Demo {
        let command = self.command(more);
        Demo { instance: Instance::start(command, self.0.path()), home: self }
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Starts again on what is there.
    pub(crate) fn start_command(self, command: Command) -> Demo {
        Demo { instance: Instance::start(command, self.0.path()), home: self }
    }

    /// Every verification on the trail.
    pub(crate) fn dump(&self) -> Vec<Value> {
        dump(&self.data())
    }

    /// Status and text of `audit check`.
    pub(crate) fn check(&self) -> (Option<i32>, String) {
        let output = self.audit("check");
        (output.status.code(), out(&output) + &err(&output))
    }

    pub(crate) fn audit(&self, command: &str) -> Output {
        run(&["audit", command, "--data-dir", &self.data().to_string_lossy()])
    }

    /// The segments of the trail, oldest first.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.data().join("trail")).expect("a trail");
        let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "seg"));
        files.sort();
        files
    }
}

pub(crate) fn dump(data: &Path) -> Vec<Value> {
    let output = run(&["audit", "dump", "--data-dir", &data.to_string_lossy()]);
    assert!(output.status.success(), "{}", err(&output));
    crate::client::json_lines(&output.stdout)
}

impl Demo {
    /// A new one with this many reserved numbers.
    pub(crate) fn new(reserved: u32) -> Self {
        Home::new().start(&["--reserved", &reserved.to_string()])
    }

    /// One that tests share; it ends with the last of them. Nobody may stop it,
    /// or change what another test looks at.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Demo>> = Mutex::new(Weak::new());
        // A test that failed while starting it leaves nothing broken behind.
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let demo = Arc::new(Self::new(5_000));
            *shared = Arc::downgrade(&demo);
            demo
        })
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.home.data().join(name)
    }

    pub(crate) fn key(&self) -> String {
        fs::read_to_string(self.file("demo-key")).expect("a key").trim().to_owned()
    }

    pub(crate) fn token(&self) -> String {
        fs::read_to_string(self.file("demo-admin-token")).expect("a token").trim().to_owned()
    }

    /// The numbers of `reserved.csv` or `free.csv`.
    pub(crate) fn numbers(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.file(name)).expect("a list");
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("pesel"));
        lines.map(str::to_owned).collect()
    }

    /// An institution with the demo's key.
    pub(crate) fn caller(&self) -> Caller {
        Caller::new(self.instance.verification, &self.key())
    }

    pub(crate) fn caller_with(&self, key: &str) -> Caller {
        Caller::new(self.instance.verification, key)
    }

    /// An admin with every role.
    pub(crate) fn admin(&self) -> Caller {
        Caller::new(self.instance.admin, &self.token())
    }

    pub(crate) fn admin_with(&self, token: &str) -> Caller {
        Caller::new(self.instance.admin, token)
    }

    /// Issues a key: its id and the key.
    pub(crate) fn issue(&self, name: &str, addresses: &[&str], limits: Option<[u64; 3]>) -> (String, String) {
        issue(&mut self.admin(), name, addresses, limits)
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    pub(crate) fn stop(self) -> Home {
        self.instance.stop();
        self.home
    }

    pub(crate) fn kill(self) -> Home {
        self.instance.kill();
        self.home
    }

    /// Leaves the ending of the process to the caller.
    pub(crate) fn parts(self) -> (Instance, Home) {
        (self.instance, self.home)
    }
}

/// Issues a key; the limits are a second's, a burst's and a day's.
pub(crate) fn issue(
    admin: &mut Caller,
    name: &str,
    addresses: &[&str],
    limits: Option<[u64; 3]>,
) -> (String, String) {
    let mut body = json!({"institution": {"name": name}, "system": "tests", "addresses": addresses});
    if let Some([per_second, burst, per_day]) = limits {
        body["limits"] = json!({"per_second": per_second, "burst": burst, "per_day": per_day});
    }
    let issued = admin.post("/admin/v1/keys", &body).good();
    let text = |name: &str| issued[name].as_str().expect("a text").to_owned();
    (text("id"), text("key"))
}

/// A reservation as the e-service files it.
pub(crate) fn filing(pesel: &str) -> Value {
    json!({"pesel": pesel, "channel": "e-service", "registrant": "Kancelaria"})
}

/// Every event of the register, page by page.
pub(crate) fn events(admin: &mut Caller, page: usize) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let after = all.last().map_or(0, |event| event["sequence"].as_u64().expect("a sequence"));
        let answer = admin.get(&format!("/admin/v1/events?after={after}&limit={page}")).good();
        let events = answer["events"].as_array().expect("events").clone();
        if events.is_empty() {
            assert_eq!(answer["last"], after, "of one state, whatever is recorded meanwhile");
            return all;
        }
        assert!(events.len() <= page);
        all.extend(events);
    }
}
