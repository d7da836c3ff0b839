//! A start on stores that do not belong together, or are not there: it refuses, and
//! never answers "not reserved" from what is left.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::{Demo, Home, Instance, filing, wait_for};

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
        assert!(!instance.answers(), "it has started: {}", instance.stderr());
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

fn content(home: &Home) -> Vec<u8> {
    fs::read(home.segments().remove(0)).expect("a segment")
}
