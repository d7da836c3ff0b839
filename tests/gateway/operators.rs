//! There is always an operator: the last one's token stays, and a lost one is
//! recovered in the directory.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::client::Caller;
use crate::harness::{Demo, Home, err, out, program, run};
use crate::serve::{Served, init};

fn deactivate(admin: &mut Caller, id: &str) -> (u16, String) {
    let reply = admin.post(&format!("/admin/v1/tokens/{id}/deactivate"), &json!({}));
    if reply.status == 200 { (200, String::new()) } else { reply.problem() }
}

/// The tokens on record, oldest first.
fn tokens(admin: &mut Caller) -> Vec<Value> {
    admin.get("/admin/v1/tokens").good()["tokens"].as_array().expect("a list").clone()
}

fn recover(data: &Path, file: &Path) -> Output {
    let (data, file) = (data.to_string_lossy(), file.to_string_lossy());
    run(&["token", "recover", "--data-dir", &data, "--token-file", &file])
}

fn recovered(data: &Path, file: &Path) -> String {
    let output = recover(data, file);
    assert!(output.status.success(), "{}", err(&output));
    let token = fs::read_to_string(file).expect("a token").trim().to_owned();
    assert!(!out(&output).contains(&token) && !err(&output).contains(&token));
    let mode = fs::metadata(file).expect("a token").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    token
}

fn refused(output: &Output, says: &str) {
    assert_eq!(output.status.code(), Some(2), "{}", out(output));
    assert!(err(output).contains(says), "{}", err(output));
}

#[test]
fn one_of_two_operators_may_go_and_the_last_may_not() {
    let served = Served::start("production", "", "");
    let mut first = served.admin();
    let id = |record: &Value| record["id"].as_str().expect("an id").to_owned();
    let first_id = id(&tokens(&mut first)[0]);
    let last = (409, "last-operator".to_owned());
    assert_eq!(deactivate(&mut first, &first_id), last);
    let mut command = program();
    command.args(["token", "deactivate", &first_id, "--admin-url"]);
    command.arg(format!("http://{}", served.instance.admin)).arg("--admin-token-file");
    let output = command.arg(served.data().join("operator-token")).output().expect("an end");
    refused(&output, "last-operator: the last active token with the role operator stays");

    let issued = first.post("/admin/v1/tokens", &json!({"role": "operator", "label": "b"})).good();
    let mut second = Caller::new(served.instance.admin, issued["token"].as_str().expect("a token"));
    assert_eq!(deactivate(&mut first, &first_id).0, 200);
    assert_eq!(first.get("/admin/v1/tokens").status, 401);
    assert_eq!(deactivate(&mut second, &id(&issued)), last);
    assert_eq!(deactivate(&mut second, &first_id).0, 200, "a second time changes nothing");
    assert_eq!(tokens(&mut second).len(), 2);
    served.instance.stop();
}

#[test]
fn a_lost_operator_token_is_recovered_while_nobody_serves() {
    for environment in ["production", "test"] {
        let served = Served::start(environment, "", "");
        let (data, file) = (served.data(), served.dir.path().join("recovered"));
        refused(&recover(&data, &file), "in use");
        assert!(!file.exists());
        let before = tokens(&mut served.admin());
        let Served { instance, dir } = served;
        instance.stop();
        let token = recovered(&data, &file);
        // What is there stays, and no token is issued that nobody could keep.
        refused(&recover(&data, &file), "recovered");
        refused(&recover(&data, &dir.path().join("missing").join("token")), "token");
        assert_eq!(fs::read_to_string(&file).expect("a token").trim(), token);

        let served = Served::start_in(dir, environment, "", "");
        let mut admin = Caller::new(served.instance.admin, &token);
        let listed = tokens(&mut admin);
        // Made within a second, they are listed in any order.
        let (first, other): (Vec<_>, Vec<_>) = listed.iter().partition(|token| **token == before[0]);
        assert_eq!((first.len(), other.len()), (1, 1), "{listed:?}");
        assert_eq!(other[0]["label"], "recovered operator");
        assert_eq!(other[0]["roles"], json!(["operator"]));
        let lost = before[0]["id"].as_str().expect("an id");
        assert_eq!(deactivate(&mut admin, lost).0, 200);
        assert_eq!(served.admin().get("/admin/v1/tokens").status, 401);
        served.instance.stop();
    }
}

#[test]
fn a_restored_directory_gets_an_operator_and_what_is_no_directory_does_not() {
    let demo = Demo::new(100);
    let file = demo.home().path().join("backup");
    fs::write(&file, demo.admin().get("/admin/v1/backup").body).expect("written");
    let original = demo.stop();
    let home = Home::new();
    let (data, token_file) = (home.data(), home.path().join("token"));
    refused(&recover(&data, &token_file), "holds no gateway");
    assert!(!data.exists() && !token_file.exists(), "nothing is made");
    let restored = run(&["restore", &file.to_string_lossy(), "--data-dir", &data.to_string_lossy()]);
    assert!(restored.status.success(), "{}", err(&restored));
    drop(original);
    let token = recovered(&data, &token_file);
    let config = crate::serve::write_config(home.path(), "test", "", "");
    let mut command = program();
    command.arg("serve").arg("--config").arg(config);
    let restored = home.start_command(command);
    assert_eq!(tokens(&mut restored.admin_with(&token)).len(), 2);
    restored.stop();

    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    init(&data, "test");
    fs::remove_file(data.join("access.redb")).expect("removed");
    let token_file = dir.path().join("token");
    refused(&recover(&data, &token_file), "access.redb is missing or empty");
    assert!(!data.join("access.redb").exists() && !token_file.exists(), "nothing is made");
}
