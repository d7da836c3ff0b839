//! Listening sockets: bound before the register is loaded, so that a taken
//! address is told at once; listening only when there is something to answer.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::blueprint::Blueprint;
use super::instance::InstanceError;

/// Connections that the kernel holds for us.
const BACKLOG: i32 = 4096;
/// How long unacknowledged bytes keep a connection alive.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the planes listen.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// The verification plane.
    pub verification: Vec<SocketAddr>,
    /// The admin plane.
    pub admin: Vec<SocketAddr>,
    /// The operations plane.
    pub ops: Vec<SocketAddr>,
}

/// The sockets of all planes, bound.
pub(super) struct Sockets {
    pub(super) verification: Vec<Bound>,
    pub(super) admin: Vec<Bound>,
    pub(super) ops: Vec<Bound>,
}

impl Sockets {
    pub(super) fn bind(blueprint: &Blueprint) -> Result<Self, InstanceError> {
        let bound = |plane, addresses: &[_]| bind(plane, addresses).map_err(InstanceError::plain);
        Ok(Self {
            verification: bound("the verification plane", &blueprint.verification_listen)?,
            admin: bound("the admin plane", &blueprint.admin_listen)?,
            ops: bound("the operations plane", &blueprint.ops_listen)?,
        })
    }

    pub(super) fn addresses(&self) -> Result<Addresses, InstanceError> {
        let of = |sockets: &[Bound]| {
            let addresses = sockets.iter().map(Bound::address).collect::<std::io::Result<Vec<_>>>();
            addresses.map_err(|error| InstanceError::new("sockets", error))
        };
        Ok(Addresses { verification: of(&self.verification)?, admin: of(&self.admin)?, ops: of(&self.ops)? })
    }
}

/// A bound socket that does not listen yet.
#[derive(Debug)]
pub(super) struct Bound(Socket);

/// An address that cannot be had.
#[derive(Debug)]
pub(super) struct BindError {
    plane: &'static str,
    address: SocketAddr,
    error: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot listen on {}: {}", self.plane, self.address, self.error)
    }
}

impl std::error::Error for BindError {}

/// Binds every address of a plane.
fn bind(plane: &'static str, addresses: &[SocketAddr]) -> Result<Vec<Bound>, BindError> {
    addresses
        .iter()
        .map(|address| bind_one(*address).map_err(|error| BindError { plane, address: *address, error }))
        .collect()
}

fn bind_one(address: SocketAddr) -> io::Result<Bound> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Accepted connections inherit it.
    socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
    socket.bind(&address.into())?;
    Ok(Bound(socket))
}

impl Bound {
    /// Where it is bound; tells the port when any was asked for.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// Takes connections from now on.
    pub(super) fn listen(self) -> io::Result<TcpListener> {
        self.0.listen(BACKLOG)?;
        Ok(self.0.into())
    }
}
