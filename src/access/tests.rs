use std::collections::HashSet;
use std::sync::Arc;

use super::testing::{cells, limits, moment, shown, test_world, wait, world, world_over};
use super::*;
use crate::environment::Environment;
use crate::secret::{KeyId, Plane, Presented};

fn nobody() -> KeyId {
    KeyId::parse(b"aaaaaaaaaa").expect("id")
}

#[test]
fn an_issued_key_is_in_the_directory_when_the_answer_arrives() {
    let world = test_world();
    let (record, plain) = world.issue(world.new_key(&["127.0.0.0/8"]));
    let directory = world.reader.load();
    let found = directory.key(&plain.id()).expect("published");
    assert!(Arc::ptr_eq(found, &record));
    let presented = Presented::parse(Plane::Verification, plain.reveal().as_bytes()).expect("well-formed");
    assert!(presented.hash().matches(found.hash()));
    assert_eq!(record.limits(), &limits(100, 1_000, 10_000), "the defaults");
    assert_eq!(record.created_at(), moment("2026-11-21T11:00:00Z"));
    assert_eq!((directory.key_count(), directory.token_count()), (1, 0));
}

#[test]
fn a_kept_key_is_what_the_directory_holds_now() {
    let world = test_world();
    let (record, _) = world.issue(world.new_key(&["127.0.0.1"]));
    let first = world.reader.load();
    let mut kept = first.keep(first.slot(&record.id()).expect("issued"));
    let recalled = |kept: &mut KeptKey| Arc::clone(world.reader.load().recall(kept).expect("there").record());
    assert!(Arc::ptr_eq(&recalled(&mut kept), &record));
    // Somebody else's change leaves it as it is, its own does not, nor does that of
    // a record that was kept in between.
    world.issue(world.new_key(&["127.0.0.1"]));
    assert!(Arc::ptr_eq(&recalled(&mut kept), &record));
    for n in 1..=3 {
        let changed = wait(world.writer.set_limits(record.id(), limits(n, 1, 1))).expect("changed");
        assert!(Arc::ptr_eq(&recalled(&mut kept), &changed));
    }
    wait(world.writer.deactivate_key(record.id())).expect("deactivated");
    assert!(!recalled(&mut kept).is_active());
    // One of another directory than it was kept of is looked up there.
    assert!(test_world().reader.load().recall(&mut kept).is_none());
}

#[test]
fn what_is_unknown_or_deactivated_is_told_apart() {
    let world = test_world();
    let list = || AllowList::parse(["127.0.0.1"], Environment::Test).expect("list");
    assert_eq!(wait(world.writer.deactivate_key(nobody())).err(), Some(AccessError::NotFound));
    assert_eq!(wait(world.writer.set_addresses(nobody(), list())).err(), Some(AccessError::NotFound));
    assert_eq!(wait(world.writer.set_limits(nobody(), limits(1, 1, 1))).err(), Some(AccessError::NotFound));
    assert_eq!(wait(world.writer.deactivate_token(nobody())).err(), Some(AccessError::NotFound));
    let (record, _) = world.issue(world.new_key(&["127.0.0.1"]));
    world.hand.set(moment("2026-11-21T12:00:00Z"));
    let gone = wait(world.writer.deactivate_key(record.id())).expect("deactivated");
    assert_eq!(gone.deactivated_at(), Some(moment("2026-11-21T12:00:00Z")));
    world.hand.set(moment("2026-11-21T13:00:00Z"));
    let again = wait(world.writer.deactivate_key(record.id())).expect("again");
    assert_eq!(again.deactivated_at(), gone.deactivated_at(), "the first moment stays");
    assert_eq!(wait(world.writer.set_addresses(record.id(), list())).err(), Some(AccessError::Deactivated));
    assert_eq!(
        wait(world.writer.set_limits(record.id(), limits(1, 1, 1))).err(),
        Some(AccessError::Deactivated)
    );
}

#[test]
fn production_takes_no_list_judged_for_test_and_no_token_with_every_role() {
    let world = world(Environment::Production);
    let judged_for_test = AllowList::parse(["10.0.0.0/8"], Environment::Test).expect("list");
    let mut new = world.new_key(&["1.1.1.0/24"]);
    let (record, _) = world.issue(new.clone());
    new.addresses = judged_for_test.clone();
    let refused = Some(AccessError::AddressesOfOtherEnvironment);
    assert_eq!(wait(world.writer.issue_key(new, None)).err(), refused);
    assert_eq!(wait(world.writer.set_addresses(record.id(), judged_for_test)).err(), refused);
    let every = NewToken::every_role(Name::parse("demo").expect("name"));
    assert_eq!(wait(world.writer.issue_token(every, None)).err(), Some(AccessError::EveryRoleInProduction));
    assert_eq!(world.reader.load().key_count(), 1);
}

#[test]
fn budgets_survive_changes_of_addresses_and_limits() {
    let world = test_world();
    let (record, _) = world.issue(world.new_key(&["127.0.0.1"]));
    record.charge(cells(300)).expect("within");
    let list = AllowList::parse(["10.0.0.0/8"], Environment::Test).expect("list");
    let moved = wait(world.writer.set_addresses(record.id(), list.clone())).expect("changed");
    assert_eq!(moved.addresses(), &list);
    assert_eq!(moved.limits_view(), record.limits_view());
    let faster = wait(world.writer.set_limits(record.id(), limits(1_000, 5_000, 20_000))).expect("changed");
    let view = faster.limits_view();
    assert_eq!((view.burst_remaining, view.day_remaining), (4_700, 19_700));
    assert_eq!(faster.addresses(), &list, "the other change stays");
    let directory = world.reader.load();
    assert!(Arc::ptr_eq(directory.key(&record.id()).expect("there"), &faster));
}

#[test]
fn the_days_usage_survives_a_restart() {
    let world = test_world();
    let (first, _) = world.issue(world.new_key(&["127.0.0.1"]));
    let (second, _) = world.issue(world.new_key(&["127.0.0.1"]));
    first.charge(cells(300)).expect("within");
    wait(world.writer.save_usage()).expect("saved");
    first.charge(cells(1)).expect("within");
    second.charge(cells(7)).expect("within");
    let world = world.restart();
    let directory = world.reader.load();
    let left = |id| directory.key(&id).expect("there").limits_view().day_remaining;
    assert_eq!((left(first.id()), left(second.id())), (10_000 - 301, 10_000 - 7));
    world.hand.set(moment("2026-11-21T23:00:00Z"));
    assert_eq!(left(first.id()), 10_000, "a new day");
}

/// What was spent since the last save as well: a restore gives nobody the day back.
#[test]
fn the_days_usage_is_in_a_backup() {
    let world = test_world();
    let (record, _) = world.issue(world.new_key(&["127.0.0.1"]));
    record.charge(cells(300)).expect("within");
    let export = wait(world.writer.export()).expect("readable");
    let place = tempfile::tempdir().expect("temporary directory");
    let imported = place.path().join("access.redb");
    let mut import = AccessImport::into_new(&imported, Environment::Test).expect("new");
    export.each_chunk(&mut |chunk| import.chunk(chunk)).expect("taken");
    assert_eq!(import.finish().expect("whole").keys, 1);
    let restored = world_over(move |_| store::Store::open(&imported, Environment::Test));
    let directory = restored.reader.load();
    let key = directory.key(&record.id()).expect("there");
    assert_eq!(key.limits_view().day_remaining, 10_000 - 300);
}

#[test]
fn ten_thousand_keys_are_the_same_after_a_restart() {
    let world = test_world();
    let mut news = Vec::new();
    for n in 0..10_000u32 {
        let addresses = format!("10.{}.{}.0/24", n / 256, n % 256);
        let mut new = world.new_key(&[&addresses]);
        new.system = Name::parse(&format!("System {n}")).expect("name");
        new.limits = n.is_multiple_of(2).then(|| limits(n + 1, n + 2, u64::from(n) + 3));
        news.push(new);
    }
    let issued = world.issue_many(news);
    let ids: HashSet<_> = issued.iter().map(|(record, _)| record.id()).collect();
    assert_eq!(ids.len(), 10_000);
    wait(async {
        for (record, _) in issued.iter().step_by(1_000) {
            world.writer.deactivate_key(record.id()).await.expect("deactivated");
        }
    });
    world.issue_token(NewToken::operator(Name::parse("Anna").expect("name")));
    world.issue_token(NewToken::every_role(Name::parse("demo").expect("name")));
    let official = NewToken::official(
        Name::parse("okno 3").expect("name"),
        Name::parse("Gmina Łódź").expect("name"),
        Teryt::parse("1061011").expect("teryt"),
    );
    let (official, _) = world.issue_token(official);
    let channel = ChannelName::parse("bank").expect("channel");
    let source =
        NewToken::source(Name::parse("feed").expect("name"), channel, Name::parse("Bank").expect("name"));
    let (source, _) = world.issue_token(source);
    wait(world.writer.deactivate_token(source.id())).expect("deactivated");
    let list = |directory: &Directory| -> Vec<String> {
        let keys = directory.keys().map(|key| shown(key));
        keys.chain(directory.tokens().map(|token| format!("{token:?} {:?}", token.hash().as_bytes())))
            .collect()
    };
    let before = list(&world.reader.load());
    assert_eq!(before.len(), 10_004);
    let world = world.restart();
    let directory = world.reader.load();
    assert_eq!(list(&directory), before);
    assert_eq!(
        directory.token(&official.id()).and_then(|token| token.teryt().cloned()),
        official.teryt().cloned()
    );
    assert!(directory.token(&source.id()).is_some_and(|token| !token.is_active()));
}

#[test]
fn the_same_request_again_issues_nothing_and_shows_no_secret() {
    let world = test_world();
    let officer = nobody();
    let key = |text: &str| Some(IdempotencyKey::parse(officer, text.as_bytes()).expect("key"));
    let new = world.new_key(&["127.0.0.1"]);
    let first = wait(world.writer.issue_key(new.clone(), key("a"))).expect("issued");
    let again = wait(world.writer.issue_key(new.clone(), key("a"))).expect("again");
    assert!(first.plain.is_some() && again.plain.is_none());
    assert!(Arc::ptr_eq(&first.record, &again.record));
    let mut other = new.clone();
    other.system = Name::parse("Windykacja").expect("name");
    let mismatch = Some(AccessError::IdempotencyMismatch);
    assert_eq!(wait(world.writer.issue_key(other, key("a"))).err(), mismatch);
    let token = NewToken::operator(Name::parse("Anna").expect("name"));
    assert_eq!(wait(world.writer.issue_token(token.clone(), key("a"))).err(), mismatch);
    let issued = wait(world.writer.issue_token(token.clone(), key("b"))).expect("issued");
    let same = wait(world.writer.issue_token(token, key("b"))).expect("again");
    assert_eq!((issued.record.id(), same.plain.is_none()), (same.record.id(), true));

    let world = world.restart();
    let after_restart = wait(world.writer.issue_key(new.clone(), key("a"))).expect("again");
    assert_eq!(after_restart.record.id(), first.record.id());
    world.hand.set(moment("2026-11-22T11:00:00Z"));
    let next_day = wait(world.writer.issue_key(new.clone(), key("a"))).expect("forgotten");
    assert_ne!(next_day.record.id(), first.record.id());
    // The second use is remembered in its turn, though the first is swept.
    let again = wait(world.writer.issue_key(new, key("a"))).expect("again");
    assert_eq!((again.record.id(), again.plain.is_none()), (next_day.record.id(), true));
}

#[test]
fn the_same_request_twice_in_one_batch_issues_one_key() {
    let world = test_world();
    let new = world.new_key(&["127.0.0.1"]);
    let key = Some(IdempotencyKey::parse(nobody(), b"a").expect("key"));
    let answers = wait(async {
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let (writer, new) = (world.writer.clone(), new.clone());
                tokio::spawn(async move { writer.issue_key(new, key).await })
            })
            .collect();
        let mut answers = Vec::new();
        for task in tasks {
            answers.push(task.await.expect("no panic").expect("issued"));
        }
        answers
    });
    assert_eq!(answers.iter().filter(|issued| issued.plain.is_some()).count(), 1);
    assert_eq!(world.reader.load().key_count(), 1);
}

#[test]
fn the_last_active_operator_stays() {
    let world = test_world();
    let name = |text| Name::parse(text).expect("name");
    let operator = || world.issue_token(NewToken::operator(name("Anna"))).0.id();
    let deactivated = |id| wait(world.writer.deactivate_token(id)).map(|record| record.is_active());
    let (first, (auditor, _)) = (operator(), world.issue_token(NewToken::auditor(name("Ewa"))));
    assert_eq!(deactivated(first), Err(AccessError::LastOperator));
    assert_eq!(deactivated(auditor.id()), Ok(false), "only operators are held");
    let second = operator();
    assert_eq!(deactivated(second), Ok(false));
    assert_eq!(deactivated(first), Err(AccessError::LastOperator), "one that is deactivated is none");
    assert_eq!(deactivated(second), Ok(false), "a second time changes nothing");
    let (every, _) = world.issue_token(NewToken::every_role(name("demo")));
    assert_eq!(deactivated(first), Ok(false));
    assert_eq!(deactivated(every.id()), Err(AccessError::LastOperator));
}

#[test]
fn of_operators_that_go_at_once_one_stays() {
    let world = test_world();
    let name = Name::parse("Anna").expect("name");
    let ids: Vec<_> = (0..20).map(|_| world.issue_token(NewToken::operator(name.clone())).0.id()).collect();
    let refused = wait(async {
        let leave = |id| {
            let writer = world.writer.clone();
            tokio::spawn(async move { writer.deactivate_token(id).await })
        };
        let tasks: Vec<_> = ids.iter().map(|id| leave(*id)).collect();
        let mut refused = 0;
        for task in tasks {
            refused += usize::from(task.await.expect("no panic").is_err());
        }
        refused
    });
    assert_eq!(refused, 1);
    assert_eq!(world.reader.load().tokens().filter(|token| token.is_active()).count(), 1);
}

#[test]
fn a_closed_writer_answers_unavailable() {
    let mut world = test_world();
    world.thread.take().expect("running").close();
    let closed = wait(world.writer.deactivate_key(nobody()));
    assert!(matches!(closed, Err(AccessError::Unavailable { .. })));
    assert!(world.writer.unavailable_since().is_some());
}
