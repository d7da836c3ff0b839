use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use super::raw::Raw;
use super::*;
use crate::environment::Environment;

const EXAMPLE: &str = include_str!("../../config/peselgate.example.toml");
const MINIMAL: &str = "environment = \"test\"\n";

fn machine() -> Machine {
    Machine { cores: NonZeroUsize::new(3).expect("not zero"), files: Some(1 << 20) }
}

fn variables(pairs: &[(&str, &str)]) -> Variables {
    Variables::new(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

fn judged(text: &str, pairs: &[(&str, &str)]) -> Result<Config, String> {
    judge(Path::new("peselgate.toml"), text, &variables(pairs), &machine()).map_err(|error| error.to_string())
}

fn refused(text: &str, pairs: &[(&str, &str)]) -> String {
    judged(text, pairs).expect_err("refused")
}

/// `table.key` of every leaf.
fn leaves(table: &toml::Table, prefix: &str, into: &mut Vec<String>) {
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => leaves(inner, &format!("{prefix}{key}."), into),
            _ => into.push(format!("{prefix}{key}")),
        }
    }
}

fn every_key() -> Vec<String> {
    let mut keys = Vec::new();
    leaves(&toml::Table::try_from(Raw::every_key()).expect("serialises"), "", &mut keys);
    keys.sort();
    keys
}

/// The example with its `#key = value` lines switched on.
fn whole_example() -> String {
    EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => rest,
            _ => line,
        })
        .fold(String::new(), |text, line| text + line + "\n")
}

#[test]
fn the_example_is_the_defaults() {
    let example: Raw = toml::from_str(EXAMPLE).expect("the example parses");
    assert_eq!(example, Raw { environment: Some("test".into()), ..Raw::default() });
}

#[test]
fn the_example_names_every_key_once() {
    let mut named = Vec::new();
    leaves(&toml::from_str(&whole_example()).expect("parses"), "", &mut named);
    named.sort();
    assert_eq!(named, every_key());
    let resolved = judged(&whole_example(), &[]).expect("the whole example is allowed");
    assert_eq!(resolved.verification.threads.get(), 2);
    assert!(resolved.verification.tls.is_some() && resolved.admin.tls.is_some());
}

#[test]
fn the_example_says_default_and_reload_of_every_key() {
    let (mut comment, mut table, mut keys) = (String::new(), String::new(), 0);
    for line in EXAMPLE.lines() {
        let bare = line.trim_start_matches('#');
        if line.is_empty() {
            comment.clear();
        } else if line.starts_with("# ") || line == "#" {
            comment.push_str(bare);
        } else if let Some(name) = bare.strip_prefix('[') {
            table = format!("{}.", name.trim_end_matches(']'));
            comment.clear();
        } else {
            let (key, value) = bare.split_once(" = ").expect("key = value");
            let key = format!("{table}{key}");
            let reload = if is_reloaded(&key) { "Reload: yes." } else { "Reload: no." };
            assert!(comment.ends_with(reload), "{key}: its comment must end in {reload:?}");
            if !line.starts_with('#') && key != "environment" {
                assert!(comment.contains(&format!("Default {value}.")), "{key}: its default is {value}");
            }
            comment.clear();
            keys += 1;
        }
    }
    assert_eq!(keys, every_key().len());
}

#[test]
fn the_defaults_are_what_the_documents_say() {
    let config = judged(MINIMAL, &[]).expect("allowed");
    assert_eq!(config.environment, Environment::Test);
    assert_eq!(config.verification.threads.get(), 3);
    assert_eq!(config.verification.connections.max.get(), 10_000);
    assert_eq!(config.verification.timeouts.body_read, Duration::from_secs(2));
    assert_eq!(config.verification.timeouts.connection_age, Duration::from_secs(600));
    let admin = Place::Address("127.0.0.1:8081".parse().expect("address"));
    assert_eq!(config.admin.listen.places(), [admin]);
    assert_eq!(config.verification.proxies, []);
    assert_eq!(config.verification.timeouts.proxy_header, Duration::from_secs(5));
    assert_eq!(config.audit.durability, Durability::Flush);
    assert_eq!(config.audit.segment_bytes, 16 << 20);
    assert_eq!(config.default_limits.per_day.get(), 1_000_000);
    assert_eq!(config.log.level.name(), "info");
    assert_eq!(config.warnings, []);
}

#[test]
fn the_environment_must_be_said() {
    assert_eq!(refused("", &[]), "environment must be said: `test` or `production`");
    assert!(judged("", &[("PESELGATE_ENVIRONMENT", "production")]).is_ok());
}

#[test]
fn an_unknown_key_is_named_with_its_table_and_line() {
    let text = "environment = \"test\"\n\n[verification]\nthreads = 1\nlisten_on = \"x\"\n";
    let error = refused(text, &[]);
    assert!(error.starts_with("peselgate.toml, line 5, table [verification]: "), "{error}");
    assert!(error.contains("`listen_on`"), "{error}");
    let error = refused("environment = \"test\"\n[auditt]\n", &[]);
    assert!(error.starts_with("peselgate.toml, line 2: ") && error.contains("`auditt`"), "{error}");
    let error = refused("environment = \"test\"\n[verification.tls]\nkey = \"inline\"\n", &[]);
    assert!(error.contains("line 3, table [verification.tls]") && error.contains("`key`"), "{error}");
}

#[test]
fn a_wrong_type_is_named_with_its_key_and_line() {
    for (table, line, key) in [
        ("verification", "threads = \"two\"", "threads"),
        ("verification", "listen = 8080", "listen"),
        ("audit", "segment_bytes = 1.5", "segment_bytes"),
        ("admin", "allow_plain_remote = 1", "allow_plain_remote"),
        ("log", "level = [\"info\"]", "level"),
    ] {
        let error = refused(&format!("{MINIMAL}[{table}]\n{line}\n"), &[]);
        assert!(error.contains(&format!("line 3, table [{table}]: {key}: ")), "{error}");
    }
    assert!(refused("environment = test\n", &[]).contains("line 1"));
    assert!(refused("environment = \"test\"\nenvironment = \"test\"\n", &[]).contains("line 2"));
}

/// Every key that takes a number, a word or an address, with values it refuses.
#[test]
fn every_value_refused_is_named_with_what_is_allowed() {
    for key in every_key() {
        let wrong: &[&str] = match key.as_str() {
            "environment" => &["\"prod\"", "\"\""],
            "audit.durability" => &["\"often\"", "\"Flush\""],
            "log.level" => &["\"loud\""],
            "log.format" => &["\"xml\""],
            "data.directory" => &["\"\""],
            "data.clock_behind_max_s" => &["0", "-1", "3155760001"],
            "audit.segment_bytes" => &["4194303", "1073741825"],
            "audit.start_check_bytes" => &["-1"],
            "admin.allow_plain_remote" => continue,
            key if key.contains(".tls.") => continue,
            key if key.ends_with("listen") => {
                &["\"localhost:1\"", "\"127.0.0.1\"", "[]", "[\"[::1]:1\", \"[::1]:1\"]", "\"systemd:\""]
            }
            "verification.proxy_protocol_from" => &[
                "[\"10.0.0.0/33\"]",
                "[\"10.0.0.0/08\"]",
                "[\"10.0.0.0/+8\"]",
                "[\"10.0.0.1/8\"]",
                "[\"10.0.0\"]",
                "[\"proxy\"]",
                "[\"10.0.0.0/8\", \"\"]",
                "[\"0.0.0.0/0\"]",
                "[\"::/0\"]",
                "[\"::/1\"]",
                "[\"::ffff:10.0.0.1\"]",
            ],
            _ => &["0", "-1", "9223372036854775807"],
        };
        for value in wrong {
            let text = match key.rsplit_once('.') {
                None => format!("{key} = {value}\n"),
                Some((table, leaf)) => format!("{MINIMAL}[{table}]\n{leaf} = {value}\n"),
            };
            let error = refused(&text, &[]);
            assert!(error.starts_with(&format!("{key} = ")), "{key} = {value} said: {error}");
        }
    }
}

#[test]
fn relations_between_values_are_judged() {
    let burst = refused(&format!("{MINIMAL}[limits]\nburst = 2000\nper_day = 1999\n"), &[]);
    assert_eq!(burst, "limits.per_day = 1999: at least limits.burst, which is 2000");
    let same = refused(&format!("{MINIMAL}[ops]\nlisten = \"127.0.0.1:8080\"\n"), &[]);
    assert_eq!(same, "ops.listen = 127.0.0.1:8080: an address of its own; verification.listen has this one");
    // An unspecified address is every address of its port, and IPv6's is IPv4's too.
    for (verification, ops) in [
        ("0.0.0.0:8090", "127.0.0.1:8090"),
        ("127.0.0.1:8090", "0.0.0.0:8090"),
        ("[::]:8090", "127.0.0.1:8090"),
        ("[::1]:8090", "[::]:8090"),
        ("[::]:8090", "0.0.0.0:8090"),
        ("[::ffff:127.0.0.1]:8090", "127.0.0.1:8090"),
    ] {
        let planes = |ops: &str| {
            format!("{MINIMAL}[verification]\nlisten = \"{verification}\"\n[ops]\nlisten = {ops}\n")
        };
        let shared = refused(&planes(&format!("\"{ops}\"")), &[]);
        let says = format!(
            "ops.listen = {ops}: an address of its own; verification.listen has {verification}, which is no other"
        );
        assert_eq!(shared, says);
        let twice = refused(&planes(&format!("[\"{verification}\", \"{ops}\"]")), &[]);
        assert!(twice.starts_with(&format!("ops.listen = {ops}: each address once")), "{twice}");
    }
    for (verification, ops) in [
        ("0.0.0.0:8090", "127.0.0.1:8091"),
        ("0.0.0.0:8090", "[::1]:8090"),
        ("127.0.0.1:8090", "127.0.0.2:8090"),
        ("0.0.0.0:0", "127.0.0.1:0"),
    ] {
        let planes =
            format!("{MINIMAL}[verification]\nlisten = \"{verification}\"\n[ops]\nlisten = \"{ops}\"\n");
        assert!(judged(&planes, &[]).is_ok(), "{verification} {ops}");
    }
    let half = refused(&format!("{MINIMAL}[verification.tls]\nkey_file = \"k\"\n"), &[]);
    assert!(half.starts_with("verification.tls.certificate_file must be said"), "{half}");
    let half = refused(&format!("{MINIMAL}[admin.tls]\ncertificate_file = \"c\"\n"), &[]);
    assert!(half.starts_with("admin.tls.key_file must be said"), "{half}");
    assert!(refused(&format!("{MINIMAL}[admin.tls]\n"), &[]).contains("or leave the table out"));
}

#[test]
fn the_admin_plane_leaves_the_loopback_only_by_word() {
    let remote = format!("{MINIMAL}[admin]\nlisten = \"0.0.0.0:8081\"\n");
    assert!(refused(&remote, &[]).starts_with("admin.listen = 0.0.0.0:8081: "));
    // An IPv4 address in IPv6 clothes is what it is inside.
    assert!(
        refused(&format!("{MINIMAL}[admin]\nlisten = \"[::ffff:10.0.0.1]:8081\"\n"), &[])
            .contains("[admin.tls]")
    );
    assert!(judged(&format!("{MINIMAL}[admin]\nlisten = \"[::ffff:127.0.0.1]:8081\"\n"), &[]).is_ok());
    let plain = judged(&format!("{remote}allow_plain_remote = true\n"), &[]).expect("by word");
    assert_eq!(plain.warnings[0].key, "admin.allow_plain_remote");
    let tls = format!("{remote}[admin.tls]\ncertificate_file = \"c\"\nkey_file = \"k\"\n");
    assert_eq!(judged(&tls, &[]).expect("with TLS").warnings, []);
}

#[test]
fn what_is_allowed_but_odd_is_warned_of() {
    let warned = |text: &str| judged(&format!("{MINIMAL}{text}"), &[]).expect("allowed").warnings[0].key;
    assert_eq!(warned("[limits]\nburst = 999\n"), "limits.burst");
    assert_eq!(warned("[audit]\ndurability = \"write\"\n"), "audit.durability");
    assert_eq!(warned("[verification]\nlisten = \"0.0.0.0:8080\"\n"), "verification.listen");
    assert_eq!(warned("[ops]\nlisten = \"0.0.0.0:8082\"\n"), "ops.listen");
}

#[test]
fn connections_are_bounded_by_open_files() {
    for (files, max) in
        [(Some(256), 128), (Some(1_024), 512), (Some(4_096), 3_584), (Some(1 << 20), 10_000), (None, 10_000)]
    {
        let machine = Machine { files, ..machine() };
        let config = judge(Path::new("x"), MINIMAL, &Variables::default(), &machine).expect("allowed");
        assert_eq!(config.verification.connections.max.get(), max, "{files:?}");
        assert_eq!(config.warnings.is_empty(), max == 10_000);
    }
}

#[test]
fn variables_override_the_file_and_are_judged_by_the_same_types() {
    let text = format!("{MINIMAL}[audit]\ndurability = \"flush\"\n[verification]\nthreads = 1\n");
    let config = judged(
        &text,
        &[
            ("PESELGATE_AUDIT__DURABILITY", "write"),
            ("PESELGATE_VERIFICATION__THREADS", "4"),
            ("PESELGATE_VERIFICATION__LISTEN", "127.0.0.1:1, 127.0.0.1:2"),
            ("PESELGATE_VERIFICATION__TLS__CERTIFICATE_FILE", "a,b.pem"),
            ("PESELGATE_VERIFICATION__TLS__KEY_FILE", "k.pem"),
            ("PESELGATE_ADMIN__ALLOW_PLAIN_REMOTE", "true"),
            ("PESELGATE_LIMITS__PER_DAY", "2_000_000"),
            ("PESELGATE_VERIFICATION__PROXY_PROTOCOL_FROM", "10.1.0.0/16,2001:db8::7"),
        ],
    )
    .expect("allowed");
    assert_eq!(config.audit.durability, Durability::Write);
    assert_eq!(config.verification.threads.get(), 4);
    assert_eq!(config.verification.listen.places().len(), 2);
    assert_eq!(config.verification.tls.expect("TLS").certificate, Path::new("a,b.pem"));
    assert_eq!(config.default_limits.per_day.get(), 2_000_000);
    let proxies: Vec<_> = config.verification.proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["10.1.0.0/16", "2001:db8::7/128"]);
    let one = [("PESELGATE_VERIFICATION__PROXY_PROTOCOL_FROM", "10.1.0.7")];
    assert_eq!(judged(MINIMAL, &one).expect("allowed").verification.proxies.len(), 1);
    let none = [("PESELGATE_VERIFICATION__PROXY_PROTOCOL_FROM", "")];
    let text = format!("{MINIMAL}[verification]\nproxy_protocol_from = [\"10.1.0.7\"]\n");
    assert_eq!(judged(&text, &none).expect("allowed").verification.proxies, []);
}

#[test]
fn systemds_sockets_are_a_planes_own() {
    let listen = |table: &str, value: &str| format!("{MINIMAL}[{table}]\nlisten = {value}\n");
    let tls = "[verification.tls]\ncertificate_file = \"c\"\nkey_file = \"k\"\n";
    let both = listen("verification", "[\"systemd:verification\", \"127.0.0.1:1\"]") + tls;
    let config = judged(&both, &[]).expect("allowed");
    assert_eq!(config.verification.listen.places()[0], Place::Systemd);
    assert_eq!(config.warnings, []);
    // Where it listens is not known: taken for public.
    let clear = judged(&listen("verification", "\"systemd:verification\""), &[]).expect("allowed");
    assert_eq!(clear.warnings[0].key, "verification.listen");
    let ops = judged(&listen("ops", "\"systemd:ops\""), &[]).expect("allowed");
    assert_eq!(ops.warnings[0].key, "ops.listen");
    assert!(refused(&listen("admin", "\"systemd:admin\""), &[]).contains("admin.allow_plain_remote"));
    for (table, value) in [
        ("verification", "\"systemd:admin\""),
        ("admin", "\"systemd:verification\""),
        ("ops", "\"systemd:peselgate.socket\""),
        ("ops", "[\"systemd:ops\", \"systemd:ops\"]"),
    ] {
        assert!(refused(&listen(table, value), &[]).starts_with(&format!("{table}.listen = systemd:")));
    }
}

#[test]
fn wrong_variables_are_refused_by_name() {
    for (name, value) in [
        ("PESELGATE_AUDIT__DURABLE", "write"),
        ("PESELGATE_AUDITT__DURABILITY", "write"),
        ("PESELGATE_VERIFICATION__TLS", "x"),
        ("PESELGATE_AUDIT__", "x"),
    ] {
        assert_eq!(
            refused(MINIMAL, &[(name, value)]),
            format!("environment variable {name} names no key of the configuration")
        );
    }
    for (name, value) in
        [("PESELGATE_VERIFICATION__THREADS", "two"), ("PESELGATE_ADMIN__ALLOW_PLAIN_REMOTE", "yes")]
    {
        assert!(refused(MINIMAL, &[(name, value)]).starts_with(&format!("environment variable {name}: ")));
    }
    assert_eq!(
        refused(MINIMAL, &[("PESELGATE_VERIFICATION__THREADS", "0")]),
        "verification.threads = 0 (from PESELGATE_VERIFICATION__THREADS): a whole number from 1 to 1024"
    );
}

#[test]
fn variables_of_others_are_left_alone() {
    let others = [("PESELGATE_KEY", "x"), ("PESELGATE_PORT", "tcp://10.0.0.1"), ("HOME__X", "y")];
    assert!(judged(MINIMAL, &others).is_ok());
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = load(Path::new("/nonexistent/peselgate.toml"), &Variables::default()).expect_err("not there");
    assert!(error.to_string().starts_with("/nonexistent/peselgate.toml: "));
}
