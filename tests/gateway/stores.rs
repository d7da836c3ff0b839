//! A start on stores that do not belong together, or are not there: it refuses, and
//! never answers "not reserved" from what is left.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use peselgate::clock::{Clock, Moment};
use peselgate::pesel::Ordinal;
use peselgate::register::{Channel, Registrant, bulk_load};
use serde_json::json;

use crate::client::{Caller, Connection, connect_from};
use crate::harness::{Demo, Home, Instance, fictional, filing, issue, program, wait_for};
use crate::serve::{Served, init, write_config};

/// A demo told of one more reservation, and stopped; the register as it was before.
fn with_a_later_reservation() -> (Home, String, Vec<u8>) {
    let demo = Demo::new(100);
    let pesel = demo.numbers("free.csv").remove(0);
    let home = demo.stop();
    let older = fs::read(home.data().join("register.redb")).expect("a register");
    let demo = home.start(&[]);
    demo.admin().post("/admin/v1/reservations", &filing(&pesel)).good();
    assert_eq!(demo.caller().verify(&pesel).good()["reserved"], true);
    (demo.stop(), pesel, older)
}

/// The program does not start, and says this.
fn refused(command: Command, dir: &Path, says: &[&str]) {
    let mut instance = Instance::spawn(command, dir);
    let status = wait_for("a refusal", || {
        assert!(instance.addresses().is_none(), "it has started: {}", instance.stderr());
        instance.try_ended()
    });
    assert_eq!(status.code(), Some(2), "{}", instance.stderr());
    for words in says {
        assert!(instance.stderr().contains(words), "{words}: {}", instance.stderr());
    }
}

fn path_of(home: &Home, name: &str) -> String {
    home.data().join(name).to_string_lossy().into_owned()
}

#[test]
fn an_older_register_is_refused_and_the_newest_goes_on() {
    let (home, pesel, older) = with_a_later_reservation();
    let file = home.data().join("register.redb");
    let newest = fs::read(&file).expect("a register");
    fs::write(&file, older).expect("written");
    let trail = content(&home);
    refused(
        home.command(&[]),
        home.path(),
        &[&path_of(&home, "register.redb"), "ends with event 100", "names event 101"],
    );
    assert_eq!(content(&home), trail, "nothing is written on a trail that does not belong to it");
    fs::write(&file, newest).expect("written");
    let demo = home.start(&[]);
    assert_eq!(demo.caller().verify(&pesel).good()["reserved"], true);
    demo.stop();
}

/// Sound in itself and as long as its trail wants it, but of another directory: of the
/// test environment, say.
#[test]
fn a_register_of_another_directory_is_refused() {
    let (one, other) = (Demo::new(100), Demo::new(200));
    let pesel = one.numbers("reserved.csv").remove(0);
    one.caller().verify(&pesel).good();
    let (one, other) = (one.stop(), other.stop());
    let file = one.data().join("register.redb");
    let own = fs::read(&file).expect("a register");
    fs::copy(other.data().join("register.redb"), &file).expect("copied");
    for _ in 0..2 {
        refused(one.command(&[]), one.path(), &[&path_of(&one, "register.redb"), "are of two directories"]);
    }
    fs::write(&file, own).expect("written");
    let one = one.start(&[]);
    assert_eq!(one.caller().verify(&pesel).good()["reserved"], true);
    one.stop();
}

fn content(home: &Home) -> Vec<u8> {
    fs::read(home.segments().remove(0)).expect("a segment")
}

/// What is missing was lost: none is made in its place. For both who start on a directory.
#[test]
fn a_start_makes_no_store_in_the_place_of_a_lost_one() {
    let demo = Demo::new(100);
    let pesel = demo.numbers("reserved.csv").remove(0);
    let home = demo.stop();
    let config = write_config(home.path(), "test", "", "");
    let serve = || {
        let mut command = program();
        command.arg("serve").arg("--config").arg(&config);
        command
    };
    let aside = home.path().join("aside");
    for name in ["register.redb", "access.redb", "trail"] {
        let store = home.data().join(name);
        let says: [&str; 2] = [&path_of(&home, name), "is missing or empty"];
        fs::rename(&store, &aside).expect("moved");
        for command in [home.command(&[]), serve()] {
            refused(command, home.path(), &says);
        }
        assert!(!store.exists(), "{name}");
        if name == "trail" { fs::create_dir(&store) } else { fs::write(&store, "") }.expect("made");
        for command in [home.command(&[]), serve()] {
            refused(command, home.path(), &says);
        }
        if name == "trail" { fs::remove_dir(&store) } else { fs::remove_file(&store) }.expect("removed");
        fs::rename(&aside, &store).expect("moved back");
    }
    // Nothing has ever been written into it.
    let trail = home.data().join("trail");
    fs::rename(&trail, &aside).expect("moved");
    fs::create_dir(&trail).expect("made");
    fs::write(trail.join("00000000000000000001.seg"), vec![0; 1 << 20]).expect("written");
    refused(home.command(&[]), home.path(), &[&path_of(&home, "trail"), "is missing or empty"]);
    fs::remove_dir_all(&trail).expect("removed");
    fs::rename(&aside, &trail).expect("moved back");

    let demo = home.start(&[]);
    assert_eq!(demo.caller().verify(&pesel).good()["reserved"], true);
    demo.stop();
}

#[test]
fn a_start_on_an_empty_directory_names_init_and_makes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let config = write_config(dir.path(), "test", "", "");
    for _ in 0..2 {
        let mut command = program();
        command.arg("serve").arg("--config").arg(&config);
        refused(command, dir.path(), &[&data.to_string_lossy(), "`peselgate init` makes one"]);
        assert!(fs::read_dir(&data).map_or(true, |mut names| names.next().is_none()));
        fs::create_dir_all(&data).expect("a directory");
    }
    init(&data, "test");
    let served = Served::start_in(dir, "test", "", "");
    assert_eq!(served.instance.ask_ops("/readyz").status, 200);
    served.instance.stop();
}

/// Recorded by a clock that was ahead of this one, which nobody then believes until it
/// has caught up, or an operator says that it is right.
#[test]
fn a_clock_behind_what_is_on_record_answers_nothing_and_takes_nothing() {
    let served = Served::start("test", "", "");
    let (key, token) = (served.key(), served.source_token("bank"));
    let Served { instance, dir } = served;
    instance.stop();
    let register = dir.path().join("data").join("register.redb");
    fs::remove_file(&register).expect("removed");
    let ahead = Moment::from_unix_seconds(Clock::system().now().unix_seconds() + 3_600);
    let reserved = Ordinal::new(81_000_000).expect("an ordinal");
    let registrant = Registrant::new("Kancelaria").expect("a name");
    bulk_load(&register, 1 << 20, ahead, [(reserved, ahead)], Channel::Bank, &registrant).expect("made");
    let pesel = reserved.pesel().digits().to_owned();

    let served = Served::start_in(dir, "test", "", "");
    let ready = served.instance.ask_ops("/readyz");
    assert_eq!(ready.status, 503);
    let says = format!("but something was recorded at {ahead}");
    assert!(ready.text().contains(&says), "{}", ready.text());
    let mut caller = Caller::new(served.instance.verification, &key);
    for (path, body) in [
        ("/v1/verify", json!({"pesel": pesel})),
        ("/v1/verify", json!({"pesel": fictional(81_000_001)})),
        ("/v1/verify/batch", json!({"pesels": [pesel]})),
    ] {
        let reply = caller.post(path, &body);
        assert_eq!(reply.problem(), (503, "register-unavailable".to_owned()));
        assert_eq!(reply.json().get("unavailable_since"), None, "nobody knows since when");
    }
    let stream = caller.stream(&format!("\"{pesel}\"\n"));
    assert_eq!(stream[0]["error"], "register-unavailable");
    let mut source = Caller::new(served.instance.admin, &token);
    let mut filing = filing(&fictional(81_000_001));
    filing["channel"] = json!("bank");
    let refused = source.post("/admin/v1/reservations", &filing);
    assert_eq!(refused.problem(), (503, "register-unavailable".to_owned()));
    assert_eq!(caller.get("/v1/status").good()["register"]["sequence"], 1);
    let Served { instance, dir } = served;
    instance.stop();

    let mut command = program();
    command.arg("serve").arg("--config").arg(write_config(dir.path(), "test", "", ""));
    command.env("PESELGATE_DATA__CLOCK_BEHIND_MAX_S", "7200");
    let instance = Instance::start(command, dir.path());
    assert_eq!(instance.ask_ops("/readyz").status, 200);
    assert_eq!(Caller::new(instance.verification, &key).verify(&pesel).good()["reserved"], true);
    Caller::new(instance.admin, &token).post("/admin/v1/reservations", &filing).good();
    instance.stop();
}

/// "Not reserved" of everybody would be the most dangerous of answers.
#[test]
fn a_production_register_answers_once_somebody_is_reserved() {
    let served = Served::start("production", "proxy_protocol_from = [\"127.0.0.9\"]", "");
    let limits = Some([1_000_000, 1_000_000, 1_000_000_000]);
    let (_, key) = issue(&mut served.admin(), "Bank", &["8.8.8.8"], limits);
    let mut connection =
        connect_from([127, 0, 0, 9].into(), served.instance.verification).expect("a connection");
    connection.write_all(b"PROXY TCP4 8.8.8.8 8.8.4.4 1 443\r\n").expect("written");
    let mut caller = Caller::with(Connection::over(connection), &key);
    let (one, other) = (fictional(82_000_000), fictional(82_000_001));

    let ready = served.instance.ask_ops("/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("nobody has ever been reserved"), "{}", ready.text());
    let log = served.instance.stderr();
    let line = log.lines().find(|line| line.contains(r#""message":"listening""#)).expect("a line");
    assert!(line.contains(r#""not_ready":"register: nobody has ever been reserved"#), "{line}");
    assert!(!log.contains(r#""message":"ready"#), "{log}");
    let mut nobody_is_told = || {
        for (path, body) in [
            ("/v1/verify", json!({"pesel": other})),
            ("/v1/verify", json!({"pesel": other, "at": "2026-11-01T12:00:00Z"})),
            ("/v1/verify/batch", json!({"pesels": [other]})),
        ] {
            let reply = caller.post(path, &body);
            assert_eq!(reply.problem(), (503, "register-unavailable".to_owned()));
            assert!(reply.json()["unavailable_since"].is_string());
        }
    };
    nobody_is_told();
    // An event of the register, and still no word of who is reserved.
    let renumbering =
        json!({"old": fictional(82_000_002), "new": fictional(82_000_003), "moment": "2026-11-01T12:00:00Z"});
    let mut source = Caller::new(served.instance.admin, &served.source_token("pesel-register"));
    source.post("/admin/v1/renumberings", &renumbering).good();
    assert_eq!(served.instance.ask_ops("/readyz").status, 503);
    nobody_is_told();
    let mut filing = filing(&one);
    filing["channel"] = json!("bank");
    Caller::new(served.instance.admin, &served.source_token("bank"))
        .post("/admin/v1/reservations", &filing)
        .good();
    assert_eq!(served.instance.ask_ops("/readyz").status, 200);
    assert_eq!(caller.verify(&one).good()["reserved"], true);
    assert_eq!(caller.verify(&other).good()["reserved"], false);
    served.instance.stop();
}
