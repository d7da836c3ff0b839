//! `token …`, and the limits of a key.

use super::*;

const RECORD: &str = r#"{"id":"abcdefghij","environment":"test","roles":["official"],"label":"okienko 3","channel":null,"registrant":"Urząd Gminy Przykładów","teryt":"1465011","created_at":"2026-11-21T21:51:42Z","deactivated_at":null}"#;

fn issued() -> String {
    RECORD.replace(r#""id""#, r#""token":"pga_test_the_token","id""#)
}

#[test]
fn an_issued_token_goes_to_a_file_of_its_own() {
    let shell = Shell::new();
    let official = ["token", "issue", "--role", "official", "--label", "okienko 3", "--teryt", "1465011"];
    let issue = |more: &[&str]| {
        let registrant = ["--registrant", "Urząd Gminy Przykładów"];
        shell.administer(&[&official[..], &registrant, more].concat()).output().expect("an end")
    };
    shell.gateway.reply(201, &issued());
    let output = issue(&["--output", "new-token", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(!out(&output).contains("the_token") && out(&output).contains("abcdefghij"));
    assert_eq!(std::fs::read_to_string(shell.path("new-token")).expect("a token"), "pga_test_the_token\n");
    let mode = std::fs::metadata(shell.path("new-token")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (method, path, _, body) = shell.gateway.request(0);
    assert_eq!((method.as_str(), path.as_str()), ("POST", "/admin/v1/tokens"));
    assert_eq!(
        body,
        r#"{"label":"okienko 3","registrant":"Urząd Gminy Przykładów","role":"official","teryt":"1465011"}"#
    );
    // A file that is there is kept, and no token is issued that nobody could keep.
    assert_eq!(issue(&["--output", "new-token"]).status.code(), Some(2));
    assert_eq!(shell.gateway.seen.requests.lock().expect("requests").len(), 1);

    shell.gateway.reply(201, &issued());
    let output = issue(&[]);
    assert_eq!(out(&output), "pga_test_the_token\n");
    assert_eq!(err(&output), "token abcdefghij, shown this once:\n");
}

/// A role without what it is bound to, or with what it is not, is a wrong command line.
#[test]
fn a_role_has_what_it_is_bound_to() {
    let shell = Shell::new();
    for wrong in [
        &["--role", "official", "--registrant", "Urząd"][..],
        &["--role", "official", "--teryt", "1465011"],
        &["--role", "source", "--registrant", "Rejestr"],
        &["--role", "source", "--registrant", "Rejestr", "--channel", "pigeon"],
        &["--role", "auditor", "--teryt", "1465011"],
        &["--role", "operator", "--channel", "gmina"],
        &["--role", "king"],
    ] {
        let output = shell.administer(&[&["token", "issue", "--label", "x"], wrong].concat()).output();
        assert_eq!(output.expect("an end").status.code(), Some(2), "{wrong:?}");
    }
    assert!(shell.gateway.seen.requests.lock().expect("requests").is_empty());
    for (right, expected) in [
        (&["--role", "auditor"][..], r#"{"label":"x","role":"auditor"}"#),
        (
            &["--role", "source", "--registrant", "Rejestr", "--channel", "id-card-register"],
            r#"{"channel":"id-card-register","label":"x","registrant":"Rejestr","role":"source"}"#,
        ),
    ] {
        shell.gateway.reply(201, &issued());
        let issue = [&["token", "issue", "--label", "x"], right].concat();
        shell.administer(&issue).assert().code(0);
        let requests = shell.gateway.seen.requests.lock().expect("requests").len();
        assert_eq!(shell.gateway.request(requests - 1).3, expected);
    }
}

#[test]
fn tokens_are_listed_and_deactivated() {
    let shell = Shell::new();
    let list = format!(r#"{{"tokens":[{RECORD}]}}"#);
    shell.gateway.reply(200, &list);
    let output = shell.administer(&["token", "list"]).output().expect("an end");
    assert_eq!(
        out(&output),
        "ID          STATE   ENVIRONMENT  ROLES     LABEL      REGISTRANT              TERYT    CHANNEL  CREATED\n\
         abcdefghij  active  test         official  okienko 3  Urząd Gminy Przykładów  1465011  -        \
         2026-11-21 22:51:42 (+01:00)\n"
    );
    shell.gateway.reply(200, &list);
    let output = shell.administer(&["token", "list", "--json"]).output().expect("an end");
    assert!(serde_json::from_str::<serde_json::Value>(&out(&output)).expect("JSON")["tokens"].is_array());
    shell.gateway.reply(200, RECORD);
    let output = shell.administer(&["token", "deactivate", "abcdefghij"]).output().expect("an end");
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(0), "abcdefghij is deactivated\n"));
    let (method, path, ..) = shell.gateway.request(2);
    assert_eq!((method.as_str(), path.as_str()), ("POST", "/admin/v1/tokens/abcdefghij/deactivate"));
    for id in ["../keys", "ABCDEFGHIJ", "abc"] {
        shell.administer(&["token", "deactivate", id]).assert().code(2);
    }
    shell.gateway.reply(403, r#"{"code":"forbidden","detail":"this call needs the role operator"}"#);
    shell.administer(&["token", "list"]).assert().code(2);
}

#[test]
fn the_limits_of_a_key_are_replaced() {
    let shell = Shell::new();
    let limits = ["--per-second", "10", "--burst", "20", "--per-day", "3000"];
    shell.gateway.reply(200, "{}");
    let command = [&["key", "limits", "abcdefghij"][..], &limits].concat();
    let output = shell.administer(&command).output().expect("an end");
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(out(&output), "abcdefghij may ask 10/s, 20 at once, 3000/day\n");
    let (method, path, _, body) = shell.gateway.request(0);
    assert_eq!((method.as_str(), path.as_str()), ("PUT", "/admin/v1/keys/abcdefghij/limits"));
    assert_eq!(body, r#"{"burst":20,"per_day":3000,"per_second":10}"#);
    shell.administer(&["key", "limits", "abcdefghij", "--per-second", "10"]).assert().code(2);
    shell.administer(&[&["key", "limits", "../tokens"][..], &limits].concat()).assert().code(2);
}
