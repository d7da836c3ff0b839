//! Connections to the admin and operations planes: few, shared by address.

use std::net::{Ipv4Addr, SocketAddr};

use peselgate::limits::{CONTROL_CONNECTIONS_MAX, CONTROL_CONNECTIONS_PER_ADDRESS_MAX};

use crate::client::Connection;
use crate::harness::{Instance, program, wait_for};
use crate::serve::{Served, init, write_config};

/// Asks something that every plane answers; `false` when the connection is closed.
fn is_answered(connection: &mut Connection) -> bool {
    connection.request("GET", "/nothing", &[], None).is_ok_and(|reply| reply.status == 404)
}

fn open_from(last: u8, plane: SocketAddr) -> Connection {
    Connection::open_from(Ipv4Addr::new(127, 0, 0, last), plane).expect("a connection")
}

#[test]
fn no_address_takes_all_places_of_a_control_plane() {
    let served = Served::start("test", "", "");
    for plane in [served.instance.admin, served.instance.ops] {
        let mut held: Vec<_> =
            (0..CONTROL_CONNECTIONS_PER_ADDRESS_MAX).map(|_| open_from(3, plane)).collect();
        assert!(held.iter_mut().all(is_answered));
        let mut one_more = open_from(3, plane);
        assert!(!is_answered(&mut one_more), "beyond its share");
        assert!(is_answered(&mut open_from(4, plane)), "another address has its own");
        held.pop();
        wait_for("the place given back", || is_answered(&mut open_from(3, plane)).then_some(()));
    }
    let refused = "peselgate_connections_refused_total{reason=\"control-per-address\"}";
    assert!(served.instance.count(refused) >= 2);
    served.instance.stop();
}

/// With few files a stranger fills both planes: verifications find theirs all the same.
#[test]
fn control_planes_leave_files_to_verifications() {
    let dir = tempfile::tempdir().expect("a directory");
    init(&dir.path().join("data"), "test");
    write_config(dir.path(), "test", "connections_max = 200", "");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "ulimit -n 600 && exec \"$0\" serve --config peselgate.toml"]);
    shell.arg(program().get_program()).current_dir(dir.path());
    let instance = Instance::start(crate::harness::clean(shell), dir.path());
    let planes = [instance.admin, instance.ops];
    // What waits in the kernel's queue is no file of the process.
    let strangers: Vec<_> = planes
        .iter()
        .flat_map(|plane| (0..2 * CONTROL_CONNECTIONS_MAX).map(|at| open_from(10 + (at % 10) as u8, *plane)))
        .collect();
    let mut held: Vec<_> =
        (0..200).map(|_| Connection::open(instance.verification).expect("a connection")).collect();
    assert!(held.iter_mut().all(is_answered), "{}", instance.stderr());
    assert!(!instance.stderr().contains("Too many open files"), "{}", instance.stderr());
    drop(strangers);
    instance.stop();
}
