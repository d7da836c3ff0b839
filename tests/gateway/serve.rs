//! `init` and `serve`: the real thing, from an empty directory on.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;

use crate::client::Caller;
use crate::harness::{Instance, err, fictional, filing, out, program, run};

/// A gateway under `serve`, begun with `init`.
pub(crate) struct Served {
    pub(crate) instance: Instance,
    pub(crate) dir: TempDir,
}

impl Served {
    /// `tables` goes into the configuration as it is.
    pub(crate) fn start(environment: &str, verification: &str, tables: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        init(&dir.path().join("data"), environment);
        Self::start_in(dir, environment, verification, tables)
    }

    pub(crate) fn start_in(dir: TempDir, environment: &str, verification: &str, tables: &str) -> Self {
        let file = write_config(dir.path(), environment, verification, tables);
        let mut command = program();
        command.arg("serve").arg("--config").arg(file);
        Self { instance: Instance::start(command, dir.path()), dir }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn token(&self) -> String {
        let file = self.data().join("operator-token");
        fs::read_to_string(file).expect("a token").trim().to_owned()
    }

    pub(crate) fn admin(&self) -> Caller {
        Caller::new(self.instance.admin, &self.token())
    }

    /// A key for this machine.
    pub(crate) fn key(&self) -> String {
        let limits = Some([1_000_000, 1_000_000, 1_000_000_000]);
        crate::harness::issue(&mut self.admin(), "Bank", &["127.0.0.0/8"], limits).1
    }

    /// A token of this role, bound to a channel where the role is.
    pub(crate) fn source_token(&self, channel: &str) -> String {
        let body = json!({"role": "source", "label": "feed", "registrant": "Kancelaria", "channel": channel});
        let issued = self.admin().post("/admin/v1/tokens", &body).good();
        issued["token"].as_str().expect("a token").to_owned()
    }
}

/// Makes a data directory; its token is in `operator-token`.
pub(crate) fn init(data: &Path, environment: &str) {
    let output = run(&["init", "--data-dir", &data.to_string_lossy(), "--environment", environment]);
    assert!(output.status.success(), "{}", err(&output));
    let token = data.join("operator-token");
    let mode = fs::metadata(&token).expect("a token").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let token = fs::read_to_string(token).expect("a token");
    assert!(!out(&output).contains(token.trim()) && !err(&output).contains(token.trim()));
}

pub(crate) fn write_config(dir: &Path, environment: &str, verification: &str, tables: &str) -> PathBuf {
    let file = dir.join("peselgate.toml");
    let text = format!(
        "environment = \"{environment}\"\n[data]\ndirectory = {:?}\n\
         [verification]\nlisten = \"127.0.0.1:0\"\nthreads = 2\n{verification}\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n[ops]\nlisten = \"127.0.0.1:0\"\n{tables}\n",
        dir.join("data"),
    );
    fs::write(&file, text).expect("written");
    file
}

#[test]
fn production_begins_with_init_and_knows_no_test_keys() {
    let served = Served::start("production", "", "");
    let again = run(&["init", "--data-dir", &served.data().to_string_lossy(), "--environment", "production"]);
    assert_eq!(again.status.code(), Some(2), "a directory in use is nobody else's");

    let admin_url = format!("http://{}", served.instance.admin);
    let token_file = served.data().join("operator-token");
    let key_file = served.dir.path().join("key");
    let issue = |address: &str| {
        let mut command = program();
        command.args([
            "key",
            "issue",
            "--institution",
            "Bank Żółty",
            "--system",
            "kredyty",
            "--address",
            address,
        ]);
        command.args(["--admin-url", &admin_url, "--admin-token-file"]).arg(&token_file);
        command.arg("--output").arg(&key_file).output().expect("an end")
    };
    for private in ["127.0.0.1", "10.0.0.0/8", "192.0.2.7", "100.64.0.1"] {
        let refused = issue(private);
        assert_eq!(refused.status.code(), Some(2), "{private} in production");
        assert!(!key_file.exists());
    }
    let issued = issue("8.8.8.8");
    assert!(issued.status.success(), "{}", err(&issued));
    let key = fs::read_to_string(&key_file).expect("a key").trim().to_owned();
    assert!(key.starts_with("pg_prod_"));

    let mut caller = Caller::new(served.instance.verification, &key);
    let refused = caller.verify(&fictional(5));
    assert_eq!(refused.problem(), (403, "address-not-allowed".to_owned()));
    assert_eq!(caller.get("/v1/status").good()["environment"], "production");
    let test_key = peselgate::secret::PlainCredential::generate(
        peselgate::secret::Plane::Verification,
        peselgate::environment::Environment::Test,
    );
    let test_key = test_key.expect("randomness").reveal().to_owned();
    let refused = Caller::new(served.instance.verification, &test_key).verify(&fictional(5));
    assert_eq!(refused.problem(), (401, "wrong-environment".to_owned()));

    // The first token is an operator's: access, not the register.
    let refused = served.admin().post("/admin/v1/reservations", &filing(&fictional(5)));
    assert_eq!(refused.problem(), (403, "forbidden".to_owned()));
    let mut list = program();
    list.args(["key", "list", "--json", "--admin-url", &admin_url, "--admin-token-file"]).arg(&token_file);
    let listed = list.output().expect("an end");
    assert!(out(&listed).contains("Bank Żółty") && !out(&listed).contains(&key));
    served.instance.stop();
}

/// Else a token that nobody knows would be in the way of the next one.
#[test]
fn an_init_that_cannot_write_its_token_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let nowhere = dir.path().join("missing").join("token").to_string_lossy().into_owned();
    let arguments = ["init", "--data-dir", &data.to_string_lossy(), "--environment", "test"];
    let failed = run(&[&arguments[..], &["--token-file", &nowhere]].concat());
    assert!(!failed.status.success());
    init(&data, "test");
}

/// A process that is killed cannot clean up: the next one does.
#[test]
fn an_init_that_was_cut_short_is_begun_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    init(&data, "test");
    let token = data.join("operator-token");
    let config = write_config(dir.path(), "test", "", "");
    for lost in [None, Some("access.redb"), Some("operator-token")] {
        let before = fs::read(&token).expect("a token");
        fs::write(data.join("init.making"), token.as_os_str().as_encoded_bytes()).expect("written");
        if let Some(lost) = lost {
            fs::remove_file(data.join(lost)).expect("removed");
        }
        let refused = run(&["serve", "--config", &config.to_string_lossy()]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(err(&refused).contains("was cut short: run `peselgate init` again"), "{}", err(&refused));
        init(&data, "test");
        assert_ne!(fs::read(&token).expect("a token"), before);
        assert!(!data.join("init.making").exists());
    }
    // What is somebody else's stays as it is.
    let other = dir.path().join("other");
    fs::write(dir.path().join("note"), "mine").expect("written");
    let place = dir.path().join("note").to_string_lossy().into_owned();
    let arguments = ["init", "--data-dir", &other.to_string_lossy(), "--environment", "test", "--token-file"];
    for _ in 0..2 {
        assert_eq!(run(&[&arguments[..], &[&place]].concat()).status.code(), Some(2));
    }
    assert_eq!(fs::read_to_string(dir.path().join("note")).expect("there"), "mine");
}

/// A full disk, wherever it is met: here, files that may not grow beyond a limit.
#[test]
fn an_init_that_runs_out_of_space_can_be_repeated() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, program) = (dir.path().join("data"), crate::harness::binary());
    let mut failed = 0;
    for doubled in 0..16 {
        // The signal that such a write raises is ignored, as the program inherits it.
        let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", (1 << doubled) - 1);
        let mut limited = std::process::Command::new("sh");
        limited.args(["-c", &script, "sh"]).arg(&program).args(["init", "--environment", "test"]);
        let output = limited.arg("--data-dir").arg(&data).output().expect("an end");
        if output.status.success() {
            break;
        }
        failed += 1;
        assert_eq!(output.status.code(), Some(2), "{}", err(&output));
        for left in ["access.redb", "register.redb", "trail", "operator-token"] {
            assert!(!data.join(left).exists(), "{left} is left: {}", err(&output));
        }
    }
    assert!(failed > 0, "no limit was met");
    fs::remove_dir_all(&data).expect("made");
    init(&data, "test");
}

/// A reload takes what it can; what it cannot take is told.
#[test]
fn a_reload_names_what_takes_a_restart() {
    let served = Served::start("test", "", "");
    let tables = "[limits]\nper_second = 199\n[audit]\ndurability = \"write\"\n[log]\nformat = \"text\"\n";
    write_config(served.dir.path(), "test", "connection_age_s = 599", tables);
    served.instance.signal(rustix::process::Signal::HUP);
    let says = || served.instance.stderr().contains("until a restart").then(|| served.instance.stderr());
    let log = crate::harness::wait_for("a word about it", says);
    assert!(log.contains("audit.durability, verification.connection_age_s, log.format"), "{log}");
    assert!(!log.contains("per_second"), "{log}");
    served.instance.stop();
}

/// The environment of a directory is for ever.
#[test]
fn a_directory_of_one_environment_serves_no_other() {
    let dir = tempfile::tempdir().expect("a directory");
    init(&dir.path().join("data"), "test");
    let again =
        run(&["init", "--data-dir", &dir.path().join("data").to_string_lossy(), "--environment", "test"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(err(&again).contains("is there already"), "{}", err(&again));
    let file = write_config(dir.path(), "production", "", "");
    let output = run(&["serve", "--config", &file.to_string_lossy()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("environment"), "{}", err(&output));
}

#[test]
fn the_example_configuration_is_good() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/peselgate.example.toml");
    let check = |file: &Path| run(&["serve", "--check-config", "--config", &file.to_string_lossy()]);
    let output = check(&example);
    assert!(output.status.success(), "{}", err(&output));
    assert!(out(&output).contains("good for the test environment"), "{}", out(&output));

    let dir = tempfile::tempdir().expect("a directory");
    for (wrong, names) in [
        ("[audit]\ndurabilty = \"flush\"", "durabilty"),
        ("[audit]\ndurability = \"maybe\"", "audit.durability"),
        ("[audit]\nsegment_bytes = 1", "audit.segment_bytes"),
        ("[log]\nlevel = \"loud\"", "log.level"),
        ("[limits]\nper_second = 0", "limits.per_second"),
    ] {
        let output = check(&write_config(dir.path(), "test", "", wrong));
        assert_eq!(output.status.code(), Some(2), "{wrong}");
        assert!(err(&output).contains(names), "{}", err(&output));
    }
    assert_eq!(check(&dir.path().join("none.toml")).status.code(), Some(2));
    assert!(!dir.path().join("data").exists(), "a check makes nothing");
}

/// Whoever collects lines of JSON drops any other: the last word of a start that is
/// refused is one of them, once, unless the log is text.
#[test]
fn the_last_word_of_a_refused_start_has_the_form_of_the_log() {
    let dir = tempfile::tempdir().expect("a directory");
    init(&dir.path().join("data"), "test");
    let why = "test environment";
    for format in ["json", "text"] {
        let tables = format!("[log]\nformat = \"{format}\"\nlevel = \"error\"");
        let file = write_config(dir.path(), "production", "", &tables);
        let refused = run(&["serve", "--config", &file.to_string_lossy()]);
        assert_eq!(refused.status.code(), Some(2));
        let told = err(&refused);
        assert_eq!(told.matches(why).count(), 1, "{told}");
        let last = told.lines().last().expect("a last word");
        if format == "text" {
            assert!(last.starts_with("peselgate: ") && last.contains(why), "{last}");
            continue;
        }
        for line in told.lines() {
            serde_json::from_str::<serde_json::Value>(line).expect("JSON");
        }
        let last: serde_json::Value = serde_json::from_str(last).expect("JSON");
        assert_eq!(last["level"], "ERROR");
        assert!(last["error"].as_str().is_some_and(|error| error.contains(why)), "{last}");
    }
}

/// Two planes on one address are told before anything is loaded, by the check and by
/// a start that no configuration was checked for.
#[test]
fn planes_on_one_address_are_told_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    // A port that was free a moment ago; nothing is to listen on it here.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let file = dir.path().join("peselgate.toml");
    let text = format!(
        "environment = \"test\"\n[data]\ndirectory = {:?}\n[verification]\nlisten = \"0.0.0.0:{port}\"\n\
         [admin]\nlisten = \"127.0.0.1:{port}\"\n",
        dir.path().join("data"),
    );
    fs::write(&file, text).expect("written");
    let check = run(&["serve", "--check-config", "--config", &file.to_string_lossy()]);
    assert_eq!(check.status.code(), Some(2), "{}", out(&check));
    let says = format!("admin.listen = 127.0.0.1:{port}: an address of its own");
    assert!(err(&check).contains(&says), "{}", err(&check));

    let mut demo = program();
    demo.args(["demo", "--reserved", "10", "--data-dir"]).arg(dir.path().join("demo"));
    demo.args(["--listen", &format!("0.0.0.0:{port}"), "--admin-listen", &format!("127.0.0.1:{port}")]);
    let demo = demo.args(["--ops-listen", "127.0.0.1:0"]).output().expect("an end");
    assert_eq!(demo.status.code(), Some(2), "{}", err(&demo));
    let says = format!("cannot listen on 127.0.0.1:{port}: the verification plane has 0.0.0.0:{port}");
    assert!(err(&demo).contains(&says), "{}", err(&demo));
}
