mod permits;

use std::time::Duration;

use super::credential::HASHES;
use super::*;
use crate::access::testing::{World, cells, limits, moment, test_world, wait};
use crate::access::{AllowList, ChannelName, LimitsView, Name, NewToken, Role, Teryt};
use crate::environment::Environment;
use crate::secret::PlainCredential;

fn peer(address: &str) -> Peer {
    Peer::from_socket(format!("{address}:4711").parse().expect("socket"))
}

fn bearer(plain: &PlainCredential) -> Vec<u8> {
    format!("Bearer {}", plain.reveal()).into_bytes()
}

/// A credential that is well-formed, and wrong for the id it names.
fn with_other_secret(plain: &PlainCredential) -> Vec<u8> {
    use data_encoding::{Encoding, Specification};
    let mut spec = Specification::new();
    spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    let base32: Encoding = spec.encoding().expect("encoding");
    let mut text = plain.reveal()[..71].to_owned().into_bytes();
    text[40] = if text[40] == b'a' { b'b' } else { b'a' };
    let checksum = base32.encode(&crc32c::crc32c(&text).to_be_bytes());
    let header = [b"Bearer ".as_slice(), &text, checksum.as_bytes()].concat();
    assert_eq!(header.len(), plain.reveal().len() + 7);
    header
}

fn gate(world: &World) -> Gate {
    Gate::new(world.reader.clone(), FailureLimits::default())
}

fn identify(gate: &Gate, from: &str, header: &[u8]) -> Result<Identity, Denied> {
    gate.identify(&peer(from), Some(header), &mut IdentityCache::default())
}

#[test]
fn a_key_is_let_in_from_its_addresses() {
    let world = test_world();
    let (record, plain) = world.issue(world.new_key(&["127.0.0.0/8", "10.1.0.0/16"]));
    let gate = gate(&world);
    let identity = identify(&gate, "10.1.2.3", &bearer(&plain)).expect("known");
    assert_eq!(identity.key_id(), record.id());
    let permit = gate.admit(&peer("10.1.2.3"), identity, cells(1)).expect("allowed");
    assert_eq!(permit.key_id(), record.id());
    assert_eq!(permit.institution(), record.institution());
    assert_eq!(permit.address().to_string(), "10.1.2.3");
    assert_eq!(permit.remaining().day_remaining, 9_999);
    for other in ["10.2.0.0", "[2001:db8::1]", "[::1]", "128.0.0.1"] {
        let identity = identify(&gate, other, &bearer(&plain)).expect("known");
        let denied = gate.admit(&peer(other), identity, cells(1)).err();
        assert_eq!(denied, Some(Denied::AddressNotAllowed { address: peer(other) }));
        let identity = identify(&gate, other, &bearer(&plain)).expect("known");
        assert!(gate.visit(&peer(other), identity).is_err());
    }
    let identity = identify(&gate, "[::ffff:10.1.2.3]", &bearer(&plain)).expect("known");
    assert!(gate.admit(&peer("[::ffff:10.1.2.3]"), identity, cells(1)).is_ok());
}

#[test]
fn every_wrong_credential_has_its_name() {
    let world = test_world();
    let (_, plain) = world.issue(world.new_key(&["127.0.0.0/8"]));
    let (_, token) = world.issue_token(NewToken::operator(Name::parse("Anna").expect("name")));
    let gate = gate(&world);
    let generate = |plane, environment| PlainCredential::generate(plane, environment).expect("randomness");
    let production = generate(Plane::Verification, Environment::Production);
    let unknown = generate(Plane::Verification, Environment::Test);
    let mut mistyped = bearer(&plain);
    mistyped[30] = if mistyped[30] == b'a' { b'b' } else { b'a' };
    let cases = [
        (b"Basic eDp5".to_vec(), Denied::MissingCredential),
        (b"Bearer".to_vec(), Denied::MissingCredential),
        (b"Bearer x".to_vec(), Denied::Malformed),
        (mistyped, Denied::Malformed),
        ([bearer(&plain), b" ".to_vec()].concat(), Denied::Malformed),
        (bearer(&token), Denied::Malformed),
        (bearer(&production), Denied::WrongEnvironment),
        (bearer(&unknown), Denied::Unauthenticated),
        (with_other_secret(&plain), Denied::Unauthenticated),
    ];
    for (header, denied) in cases {
        assert_eq!(identify(&gate, "127.0.0.1", &header).err(), Some(denied));
    }
    let nothing = gate.identify(&peer("127.0.0.1"), None, &mut IdentityCache::default());
    assert_eq!(nothing.err(), Some(Denied::MissingCredential));
}

#[test]
fn unknown_wrong_and_deactivated_take_the_same_work() {
    let world = test_world();
    let (_, good) = world.issue(world.new_key(&["127.0.0.0/8"]));
    let (gone, deactivated) = world.issue(world.new_key(&["127.0.0.0/8"]));
    wait(world.writer.deactivate_key(gone.id())).expect("deactivated");
    let unknown = PlainCredential::generate(Plane::Verification, Environment::Test).expect("randomness");
    let gate = gate(&world);
    let headers =
        [bearer(&unknown), with_other_secret(&good), bearer(&deactivated), with_other_secret(&deactivated)];
    for header in headers {
        let before = HASHES.get();
        assert_eq!(identify(&gate, "127.0.0.1", &header).err(), Some(Denied::Unauthenticated));
        assert_eq!(HASHES.get() - before, 1);
    }
    let before = HASHES.get();
    assert!(identify(&gate, "127.0.0.1", &bearer(&good)).is_ok());
    assert_eq!(HASHES.get() - before, 1);
    assert!(identify(&gate, "127.0.0.1", b"Bearer x").is_err());
    assert_eq!(HASHES.get() - before, 1, "a typing error is hashed by nobody");
}

#[test]
fn a_connection_hashes_a_credential_once_and_asks_for_permission_each_time() {
    let world = test_world();
    let (record, plain) = world.issue(world.new_key(&["127.0.0.0/8"]));
    let (_, other) = world.issue(world.new_key(&["127.0.0.0/8"]));
    let (gate, mut cache) = (gate(&world), IdentityCache::default());
    let here = peer("127.0.0.1");
    let mut hashes_of = |header: &[u8]| {
        let before = HASHES.get();
        let identity = gate.identify(&here, Some(header), &mut cache);
        (identity.map(|identity| identity.key_id()), HASHES.get() - before)
    };
    assert_eq!(hashes_of(&bearer(&plain)), (Ok(plain.id()), 1));
    assert_eq!(hashes_of(&bearer(&plain)), (Ok(plain.id()), 0));
    assert_eq!(hashes_of(&bearer(&other)), (Ok(other.id()), 1), "another key on the same connection");
    assert_eq!(hashes_of(&with_other_secret(&other)), (Err(Denied::Unauthenticated), 1));
    assert_eq!(hashes_of(&bearer(&other)), (Ok(other.id()), 0));
    assert_eq!(hashes_of(&bearer(&plain)), (Ok(plain.id()), 1));

    // A new allow-list counts for the very next request.
    let list = AllowList::parse(["10.0.0.0/8"], Environment::Test).expect("list");
    wait(world.writer.set_addresses(record.id(), list)).expect("changed");
    let identity = gate.identify(&here, Some(&bearer(&plain)), &mut cache).expect("known");
    let denied = gate.admit(&here, identity, cells(1)).err();
    assert_eq!(denied, Some(Denied::AddressNotAllowed { address: here }));
    // So does a deactivation.
    wait(world.writer.deactivate_key(record.id())).expect("deactivated");
    for _ in 0..2 {
        let refused = gate.identify(&here, Some(&bearer(&plain)), &mut cache);
        assert_eq!(refused.err(), Some(Denied::Unauthenticated));
    }
}

#[test]
fn too_many_failures_lock_out_strangers_and_no_good_neighbour() {
    let world = test_world();
    let (_, neighbour) = world.issue(world.new_key(&["127.0.0.0/8"]));
    let (_, elsewhere) = world.issue(world.new_key(&["10.0.0.0/8"]));
    let (moving, moved) = world.issue(world.new_key(&["127.0.0.0/8"]));
    let (former, deactivated) = world.issue(world.new_key(&["127.0.0.0/8"]));
    let gate = gate(&world);
    let use_from = |from: &str, plain| {
        let identity = identify(&gate, from, &bearer(plain))?;
        gate.admit(&peer(from), identity, cells(1)).map(drop)
    };
    wait(world.writer.deactivate_key(former.id())).expect("deactivated");
    let mut open_connection = IdentityCache::default();
    let first = gate.identify(&peer("127.0.0.1"), Some(&bearer(&moved)), &mut open_connection);
    assert!(first.is_ok());
    let other = world.new_key(&["10.0.0.0/8"]).addresses;
    wait(world.writer.set_addresses(moving.id(), other)).expect("changed");

    let unknown = PlainCredential::generate(Plane::Verification, Environment::Test).expect("randomness");
    for _ in 0..200 {
        let failure = identify(&gate, "127.0.0.1", &bearer(&unknown)).err();
        assert_eq!(failure, Some(Denied::Unauthenticated));
    }
    let locked = Denied::TooManyFailures { retry_after: Duration::from_millis(50) };
    let before = HASHES.get();
    assert_eq!(identify(&gate, "127.0.0.1", &bearer(&unknown)).err(), Some(locked));
    assert_eq!(use_from("127.0.0.1", &elsewhere).err(), Some(locked), "may not come from here");
    assert_eq!(use_from("127.0.0.1", &moved).err(), Some(locked), "may not any more");
    assert_eq!(use_from("127.0.0.1", &deactivated).err(), Some(locked), "may not come at all");
    assert_eq!(HASHES.get(), before, "nothing is hashed for them");
    use_from("127.0.0.1", &neighbour).expect("may come from here, and never did before");
    // Its id with a wrong secret is still looked at, and still wrong.
    let guess = identify(&gate, "127.0.0.1", &with_other_secret(&neighbour)).err();
    assert_eq!(guess, Some(Denied::Unauthenticated));
    let again = gate.identify(&peer("127.0.0.1"), Some(&bearer(&moved)), &mut open_connection);
    assert!(again.is_ok(), "a connection that has proved itself goes on");
    let stranger = identify(&gate, "127.0.0.2", &bearer(&unknown)).err();
    assert_eq!(stranger, Some(Denied::Unauthenticated), "another address, another bucket");
    // A typing error says so even now.
    assert_eq!(identify(&gate, "127.0.0.1", b"Bearer x").err(), Some(Denied::Malformed));
    world.ticks.advance(Duration::from_millis(50));
    let forgiven = identify(&gate, "127.0.0.1", &bearer(&unknown)).err();
    assert_eq!(forgiven, Some(Denied::Unauthenticated), "one failure is");
}

#[test]
fn a_token_opens_the_admin_plane_in_its_roles_only() {
    let world = test_world();
    let name = |text| Name::parse(text).expect("name");
    let (_, key) = world.issue(world.new_key(&["127.0.0.0/8"]));
    let (auditor, auditor_plain) = world.issue_token(NewToken::auditor(name("NIK")));
    let (_, every) = world.issue_token(NewToken::every_role(name("demo")));
    let teryt = Teryt::parse("1061011").expect("teryt");
    let (_, official) =
        world.issue_token(NewToken::official(name("okno 3"), name("Gmina Łódź"), teryt.clone()));
    let channel = ChannelName::parse("bank").expect("channel");
    let (_, source) = world.issue_token(NewToken::source(name("feed"), channel.clone(), name("Bank")));
    let enter = |plain: &PlainCredential| authenticate_admin(&world.reader, Some(&bearer(plain)));

    let held = |plain| -> Vec<Role> {
        let identity = enter(plain).expect("known");
        Role::ALL.into_iter().filter(|role| identity.require(*role).is_ok()).collect()
    };
    assert_eq!(held(&auditor_plain), [Role::Auditor]);
    assert_eq!(held(&official), [Role::Official]);
    assert_eq!(held(&source), [Role::Source]);
    assert_eq!(held(&every), Role::ALL);
    let officer = enter(&official).expect("known").require(Role::Official).expect("held");
    assert_eq!((officer.teryt(), officer.registrant()), (Some(&teryt), Some(&name("Gmina Łódź"))));
    let officer = enter(&source).expect("known").require_any(&[Role::Official, Role::Source]).expect("held");
    assert_eq!((officer.role(), officer.channel()), (Role::Source, Some(&channel)));
    let forbidden = enter(&auditor_plain).expect("known").require(Role::Operator).err();
    assert_eq!(forbidden, Some(Forbidden { needed: Role::Operator }));

    let unknown = PlainCredential::generate(Plane::Admin, Environment::Test).expect("randomness");
    let production = PlainCredential::generate(Plane::Admin, Environment::Production).expect("randomness");
    assert_eq!(enter(&key).err(), Some(Denied::Malformed), "an API key is no token");
    assert_eq!(enter(&production).err(), Some(Denied::WrongEnvironment));
    assert_eq!(authenticate_admin(&world.reader, None).err(), Some(Denied::MissingCredential));
    wait(world.writer.deactivate_token(auditor.id())).expect("deactivated");
    for plain in [&unknown, &auditor_plain] {
        let before = HASHES.get();
        assert_eq!(enter(plain).err(), Some(Denied::Unauthenticated));
        assert_eq!(HASHES.get() - before, 1);
    }
}

#[test]
fn nothing_secret_is_shown() {
    let world = test_world();
    let (record, plain) = world.issue(world.new_key(&["127.0.0.0/8"]));
    let (gate, mut cache) = (gate(&world), IdentityCache::default());
    let here = peer("127.0.0.1");
    let identity = gate.identify(&here, Some(&bearer(&plain)), &mut cache).expect("known");
    let mut shown = format!("{gate:?} {cache:?} {identity:?} {record:?} {:?}", world.writer);
    let permit = gate.admit(&here, identity, cells(1)).expect("allowed");
    shown.push_str(&format!("{permit:?} {:?}", world.reader.load()));
    assert!(!shown.contains(&plain.reveal()[19..27]), "a secret is shown");
    let hash = record.hash().as_bytes().map(|byte| byte.to_string()).join(", ");
    assert!(!shown.contains(&hash), "a hash is shown");
}
