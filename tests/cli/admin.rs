//! The commands of the admin plane: import, filings, entries, keys.

use super::*;

#[test]
fn import_reports_what_was_refused() {
    let shell = Shell::new();
    shell.gateway.reply(
        200,
        "{\"chunk\":0,\"lines\":2,\"accepted\":1,\"already_there\":1,\"sequence\":7}\n\
         {\"chunk\":1,\"lines\":1,\"accepted\":0,\"errors\":[{\"line\":2,\"error\":\"not-reserved\"}]}\n",
    );
    let lines = format!("{{\"pesel\":\"{NUMBER}\"}}\n").repeat(3);
    let output = fed(&mut shell.administer(&["import", "-", "--json"]), &lines);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(err(&output), "chunk 1 refused, 1 lines\nline 3: not-reserved\n");
    let summary: serde_json::Value = serde_json::from_str(&out(&output)).expect("a summary");
    assert_eq!((&summary["accepted"], &summary["chunks_refused"]), (&1.into(), &1.into()));
    let (_, path, _, body) = shell.gateway.request(0);
    assert_eq!((path.as_str(), body), ("/admin/v1/import", lines.clone()));

    shell.gateway.reply(
        200,
        "{\"chunk\":0,\"lines\":1,\"accepted\":1}\n\
         {\"chunk\":1,\"lines\":2,\"accepted\":0,\"errors\":[{\"line\":2,\"error\":\"not-reserved\"}]}\n",
    );
    let options = ["import", "-", "--allow-mass-change", "--rejected", "rejected.csv"];
    let output = fed(&mut shell.administer(&options), &format!("\n{lines}"));
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    // As an editor counts, here as there.
    assert_eq!(err(&output), "chunk 1 refused, 2 lines\nline 4: not-reserved\n");
    let rejected = std::fs::read_to_string(shell.path("rejected.csv")).expect("written");
    assert_eq!(rejected, "line,code\n3,chunk-refused\n4,not-reserved\n");
    let (_, path, _, _) = shell.gateway.request(1);
    assert_eq!(path, "/admin/v1/import?allow_mass_change=true");

    shell.gateway.reply(200, "{\"chunk\":0,\"lines\":3,\"accepted\":3}\n");
    assert_eq!(fed(&mut shell.administer(&["import", "-"]), &lines).status.code(), Some(0));
    for (status, reply) in [
        (200, "{\"chunk\":0,\"lines\":2,\"accepted\":2}\n"),
        (200, "{\"error\":\"register-unavailable\",\"detail\":\"later\"}\n"),
        (403, "{\"code\":\"forbidden\",\"detail\":\"another role\"}"),
    ] {
        shell.gateway.reply(status, reply);
        let output = fed(&mut shell.administer(&["import", "-"]), &lines);
        assert_eq!(output.status.code(), Some(2));
        assert!(!err(&output).contains(NUMBER));
    }
}

const EVENT: &str = r#"{"event_id":"01936f5e-7c1a-8e6b-8f00-0123456789ab","sequence":12,"pesel":"44851401353","kind":"withdrawal","moment":"2026-11-21T21:51:42Z","channel":"e-service","registrant":"mObywatel","reserve_again_at":"2026-11-21T23:00:00Z"}"#;

#[test]
fn a_withdrawal_for_a_time_says_when_it_ends() {
    let shell = Shell::new();
    let withdraw = |more: &[&str]| {
        let fixed = ["withdraw", "-", "--channel", "e-service", "--registrant", "mObywatel"];
        let until = ["--until", "2026-11-22T00:00:00+01:00"];
        fed(&mut shell.administer(&[&fixed[..], &until[..], more].concat()), NUMBER)
    };
    shell.gateway.reply(201, EVENT);
    let output = withdraw(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(
        out(&output),
        "Cofnięto zastrzeżenie numeru PESEL: 2026-11-21 22:51:42 (+01:00). Ponowne zastrzeżenie nastąpi samo: \
         2026-11-22 00:00:00 (+01:00). Zdarzenie 12 (01936f5e-7c1a-8e6b-8f00-0123456789ab).\n"
    );
    let (method, path, _, body) = shell.gateway.request(0);
    assert_eq!((method.as_str(), path.as_str()), ("POST", "/admin/v1/withdrawals"));
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let expected = serde_json::json!({
        "pesel": NUMBER, "channel": "e-service", "registrant": "mObywatel", "reserve_again_at": "2026-11-21T23:00:00Z",
    });
    assert_eq!(body, expected);
    shell.gateway.reply(201, EVENT);
    let output = withdraw(&["--json"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&out(&output)).expect("JSON")["sequence"], 12);
}

#[test]
fn a_refusal_is_polish_for_people_and_a_code_for_programs() {
    let shell = Shell::new();
    let problem = r#"{"code":"filing-too-soon","detail":"wait","allowed_from":"2026-07-01T10:00:00Z"}"#;
    let reserve = |more: &[&str]| {
        let fixed = ["reserve", NUMBER, "--registrant", "Gmina Wąchock"];
        shell.gateway.reply(409, problem);
        shell.administer(&[&fixed[..], more].concat()).output().expect("an end")
    };
    let output = reserve(&[]);
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(1), ""));
    assert_eq!(
        err(&output),
        "Od cofnięcia zastrzeżenia nie minęło jeszcze 30 minut. Numer PESEL można zastrzec od \
         2026-07-01 12:00:00 (+02:00).\n"
    );
    assert_eq!(
        err(&reserve(&["--lang", "en"])),
        "filing-too-soon: wait; allowed from 2026-07-01 12:00:00 (+02:00)\n"
    );
    let told: serde_json::Value = serde_json::from_str(&out(&reserve(&["--json"]))).expect("JSON");
    assert_eq!(
        (&told["error"], &told["allowed_from"]),
        (&"filing-too-soon".into(), &"2026-07-01T10:00:00Z".into())
    );
    let output = shell.administer(&["reserve", "44851401358", "--registrant", "x"]).output().expect("an end");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        err(&output),
        "peselgate: To nie jest prawidłowy numer PESEL: nie zgadza się cyfra kontrolna.\n"
    );
    shell.gateway.reply(503, r#"{"code":"register-unavailable","detail":"disk"}"#);
    let output = fed(&mut shell.administer(&["reserve", "-", "--registrant", "x"]), NUMBER);
    assert_eq!(output.status.code(), Some(2));
}

/// What can be done about it, and what to name when asking for help.
#[test]
fn a_polish_refusal_names_the_value_the_role_and_the_request() {
    let shell = Shell::new();
    let said = |status: u16, problem: &str, command: &[&str]| {
        shell.gateway.reply(status, problem);
        let output = shell.administer(command).output().expect("an end");
        assert_eq!(output.status.code(), Some(1), "{}", err(&output));
        err(&output)
    };
    let reserve = ["reserve", NUMBER, "--registrant", ""];
    let value =
        r#"{"code":"invalid-value","detail":"registrant: no","field":"registrant","request_id":"r-1"}"#;
    assert_eq!(
        said(422, value, &reserve),
        "Nazwa podmiotu rejestrującego (--registrant) powinna mieć od 1 do 200 bajtów, bez znaków \
         sterujących i bez odstępów na początku i na końcu. Identyfikator żądania: r-1.\n"
    );
    let role = r#"{"code":"forbidden","detail":"no","roles":["official","auditor"],"request_id":"r-2"}"#;
    for command in [&["entry", NUMBER][..], &["feeds"]] {
        assert_eq!(
            said(403, role, command),
            "Ten token nie uprawnia do tej czynności: potrzebny jest token z rolą official albo auditor. \
             Identyfikator żądania: r-2.\n"
        );
    }
    let bound = r#"{"code":"forbidden","detail":"the token is bound to another channel"}"#;
    assert_eq!(
        said(403, bound, &reserve),
        "Ten token nie uprawnia do tej czynności w imieniu podanego podmiotu i kanału.\n"
    );
}

#[test]
fn an_entry_is_shown_with_its_history() {
    let shell = Shell::new();
    let entry = format!(
        r#"{{"pesel":"{NUMBER}","reserved":true,"reserved_at":"2026-11-21T23:00:00Z","withdrawn_at":null,"reserve_again_at":null,"events":[{EVENT},{{"event_id":"x","sequence":13,"pesel":"{NUMBER}","kind":"reservation","moment":"2026-11-21T23:00:00Z","channel":"e-service","registrant":"mObywatel","scheduled":true,"withdrawal_sequence":12}}]}}"#
    );
    shell.gateway.reply(200, &entry);
    let output = fed(&mut shell.administer(&["entry", "-"]), NUMBER);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(
        out(&output),
        "Numer PESEL jest zastrzeżony od 2026-11-22 00:00:00 (+01:00)\n\
         2026-11-21 22:51:42 (+01:00)  cofnięcie zastrzeżenia  usługa elektroniczna, mObywatel \
         [czasowo, do 2026-11-22 00:00:00 (+01:00)]\n\
         2026-11-22 00:00:00 (+01:00)  zastrzeżenie  usługa elektroniczna, mObywatel \
         [samo, po czasowym cofnięciu]\n"
    );
    // Another language, the same time.
    shell.gateway.reply(200, &entry);
    let output = fed(&mut shell.administer(&["entry", "-", "--lang", "en"]), NUMBER);
    assert_eq!(
        out(&output),
        "reserved since 2026-11-22 00:00:00 (+01:00)\n\
         2026-11-21 22:51:42 (+01:00)  withdrawal  e-service, mObywatel [until 2026-11-22 00:00:00 (+01:00)]\n\
         2026-11-22 00:00:00 (+01:00)  reservation  e-service, mObywatel [by the clock]\n"
    );
}

#[test]
fn feeds_are_a_table_for_people_and_the_document_for_programs() {
    let shell = Shell::new();
    let document = r#"{"feeds":[{"channel":"pesel-register","registrant":"Rejestr\u0007PESEL","last_sequence":12345,"moment":"2026-07-01T10:00:00Z"},{"channel":"post","registrant":"Operator pocztowy Łącznik","last_sequence":7,"moment":"2026-11-21T21:51:42Z"}]}"#;
    let feeds = |document: &str, more: &[&str]| {
        shell.gateway.reply(200, document);
        shell.administer(&[&["feeds"], more].concat()).output().expect("an end")
    };
    let output = feeds(document, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(
        out(&output),
        "KANAŁ                    PODMIOT REJESTRUJĄCY       OSTATNIA WIADOMOŚĆ  CHWILA PRZYJĘCIA\n\
         z urzędu: rejestr PESEL  Rejestr PESEL              12345               2026-07-01 12:00:00 (+02:00)\n\
         operator pocztowy        Operator pocztowy Łącznik  7                   2026-11-21 22:51:42 (+01:00)\n"
    );
    let (method, path, ..) = shell.gateway.request(0);
    assert_eq!((method.as_str(), path.as_str()), ("GET", "/admin/v1/feeds"));
    assert_eq!(
        out(&feeds(document, &["--lang", "en"])),
        "CHANNEL         REGISTRANT                 LAST MESSAGE  TAKEN AT\n\
         pesel-register  Rejestr PESEL              12345         2026-07-01 12:00:00 (+02:00)\n\
         post            Operator pocztowy Łącznik  7             2026-11-21 22:51:42 (+01:00)\n"
    );
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    assert_eq!(json(&out(&feeds(document, &["--json"]))), json(document));
    assert_eq!(out(&feeds(r#"{"feeds":[]}"#, &[])), "Żadne źródło nie przysłało jeszcze wiadomości.\n");
    shell.gateway.reply(403, r#"{"code":"forbidden","detail":"another role"}"#);
    let refused = shell.administer(&["feeds", "--json"]).output().expect("an end");
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(json(&out(&refused))["error"], "forbidden");
    assert_eq!(feeds("{}", &[]).status.code(), Some(2));
}

const RECORD: &str = r#"{"id":"abcdefghij","environment":"test","institution":{"name":"Bank Żółty"},"system":"loans","addresses":["192.0.2.7/32"],"limits":{"per_second":1,"burst":2,"per_day":3},"created_at":"2026-11-21T21:51:42Z"}"#;

fn issued() -> String {
    RECORD.replace(r#""id""#, r#""key":"pg_test_the_key","id""#)
}

#[test]
fn an_issued_key_goes_to_a_file_of_its_own() {
    let shell = Shell::new();
    let issue = |more: &[&str]| {
        let fixed =
            ["key", "issue", "--institution", "Bank Żółty", "--system", "loans", "--address", "192.0.2.7"];
        shell.administer(&[&fixed[..], more].concat()).output().expect("an end")
    };
    shell.gateway.reply(201, &issued());
    let output = issue(&["--output", "new-key", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(!out(&output).contains("the_key") && out(&output).contains("abcdefghij"));
    assert_eq!(std::fs::read_to_string(shell.path("new-key")).expect("a key"), "pg_test_the_key\n");
    let mode = std::fs::metadata(shell.path("new-key")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (_, path, _, body) = shell.gateway.request(0);
    assert_eq!(path, "/admin/v1/keys");
    assert_eq!(
        body,
        r#"{"addresses":["192.0.2.7/32"],"institution":{"name":"Bank Żółty"},"system":"loans"}"#
    );

    // A file that is there is kept, and no key is issued that nobody could keep.
    assert_eq!(issue(&["--output", "new-key"]).status.code(), Some(2));
    assert_eq!(shell.gateway.seen.requests.lock().expect("requests").len(), 1);
    shell.gateway.reply(409, r#"{"code":"conflict","detail":"no"}"#);
    assert_eq!(issue(&["--output", "other-key"]).status.code(), Some(2));
    assert!(!shell.path("other-key").exists());

    shell.gateway.reply(201, &issued());
    let output = issue(&["--regon", "123456785", "--per-second", "1", "--burst", "2", "--per-day", "3"]);
    assert_eq!(out(&output), "pg_test_the_key\n");
    assert!(!err(&output).contains("the_key"));
    let (.., body) = shell.gateway.request(2);
    assert!(
        body.contains(r#""limits":{"burst":2,"per_day":3,"per_second":1}"#) && body.contains("123456785"),
        "{body}"
    );
}

#[test]
fn keys_are_listed_deactivated_and_moved() {
    let shell = Shell::new();
    shell.gateway.reply(200, &format!("[{RECORD}]"));
    let output = shell.administer(&["key", "list"]).output().expect("an end");
    let table = out(&output);
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("ID          STATE   ENVIRONMENT"), "{table}");
    assert!(lines[1].contains("abcdefghij  active") && lines[1].contains("1/s 2 3/day"), "{table}");
    assert!(lines[1].ends_with("  2026-11-21 22:51:42 (+01:00)"), "{table}");
    shell.gateway.reply(200, &format!(r#"{{"keys":[{RECORD}]}}"#));
    let output = shell.administer(&["key", "list", "--json"]).output().expect("an end");
    let document: serde_json::Value = serde_json::from_str(&out(&output)).expect("JSON");
    assert_eq!(document["keys"][0]["created_at"], "2026-11-21T21:51:42Z");

    shell.gateway.reply(200, RECORD);
    shell.administer(&["key", "deactivate", "abcdefghij"]).assert().code(0);
    shell.gateway.reply(200, RECORD);
    shell.administer(&["key", "addresses", "abcdefghij", "192.0.2.0/24", "198.51.100.1"]).assert().code(0);
    let (method, path, _, body) = shell.gateway.request(3);
    assert_eq!((method.as_str(), path.as_str()), ("PUT", "/admin/v1/keys/abcdefghij/addresses"));
    assert_eq!(body, r#"{"addresses":["192.0.2.0/24","198.51.100.1/32"]}"#);
    assert_eq!(shell.gateway.request(2).1, "/admin/v1/keys/abcdefghij/deactivate");
    for id in ["../tokens", "ABCDEFGHIJ", "abc"] {
        shell.administer(&["key", "deactivate", id]).assert().code(2);
    }
}
