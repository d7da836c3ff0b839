//! Listening sockets: bound before the register is loaded, so that a taken
//! address is told at once; listening only when there is something to answer.
//! Those that systemd passes listen already: the kernel holds their connections
//! until then, also from one process to the next.

use std::env;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use listenfd::ListenFd;
use rustix::net::sockopt::{socket_acceptconn, socket_protocol};
use socket2::{Domain, Protocol, Socket, Type};

use super::blueprint::Blueprint;
use crate::config::Place;

/// Connections that the kernel holds for us.
const BACKLOG: i32 = 4096;
/// How long unacknowledged bytes keep a connection alive.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);
/// Sockets that a service manager may pass.
const PASSED_MAX: usize = 64;

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
    /// Binds what has an address and takes what was passed, all of it: a socket
    /// that nobody takes would let callers wait for ever.
    pub(super) fn bind(blueprint: &Blueprint, mut passed: Passed) -> Result<Self, SocketError> {
        told_apart(&[
            ("verification", &blueprint.verification_listen),
            ("admin", &blueprint.admin_listen),
            ("ops", &blueprint.ops_listen),
        ])?;
        let sockets = Self {
            verification: bind("verification", &blueprint.verification_listen, &mut passed)?,
            admin: bind("admin", &blueprint.admin_listen, &mut passed)?,
            ops: bind("ops", &blueprint.ops_listen, &mut passed)?,
        };
        match passed.0.pop() {
            Some((name, _)) => Err(SocketError::Unwanted { name }),
            None => Ok(sockets),
        }
    }

    pub(super) fn addresses(&self) -> io::Result<Addresses> {
        let of = |sockets: &[Bound]| sockets.iter().map(Bound::address).collect::<io::Result<_>>();
        Ok(Addresses { verification: of(&self.verification)?, admin: of(&self.admin)?, ops: of(&self.ops)? })
    }
}

/// The kernel binds two sockets to one address, and refuses only when the second is to
/// listen: when everything is loaded.
fn told_apart(planes: &[(&'static str, &Vec<Place>)]) -> Result<(), SocketError> {
    for (at, (plane, places)) in planes.iter().enumerate() {
        for (other_plane, others) in &planes[..at] {
            for place in *places {
                let shared = others.iter().find(|other| place.is_shared_with(other));
                if let (Place::Address(address), Some(Place::Address(other))) = (place, shared) {
                    let (address, other) = (*address, *other);
                    return Err(SocketError::Shared { plane, address, other_plane, other });
                }
            }
        }
    }
    Ok(())
}

fn bind(plane: &'static str, places: &[Place], passed: &mut Passed) -> Result<Vec<Bound>, SocketError> {
    let mut bound = Vec::new();
    for place in places {
        match place {
            Place::Address(address) => {
                let socket = bind_one(*address);
                bound.push(socket.map_err(|error| SocketError::Bind { plane, address: *address, error })?);
            }
            Place::Systemd => {
                let own = passed.take(plane);
                if own.is_empty() {
                    return Err(SocketError::NotPassed { plane });
                }
                bound.extend(own);
            }
        }
    }
    Ok(bound)
}

fn bind_one(address: SocketAddr) -> io::Result<Bound> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Accepted connections inherit it.
    socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
    socket.bind(&address.into())?;
    Ok(Bound { socket, listens: false })
}

/// A bound socket.
#[derive(Debug)]
pub(super) struct Bound {
    socket: Socket,
    /// Whoever passed it has said so, with a backlog of their own.
    listens: bool,
}

impl Bound {
    /// Where it is bound; tells the port when any was asked for.
    fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// Takes connections from now on.
    pub(super) fn listen(self) -> io::Result<TcpListener> {
        if !self.listens {
            self.socket.listen(BACKLOG)?;
        }
        Ok(self.socket.into())
    }
}

/// Listening sockets that the service manager passed, by name (sd_listen_fds(3)).
pub(super) struct Passed(Vec<(String, Bound)>);

impl Passed {
    /// None: this command takes no sockets.
    pub(super) const fn none() -> Self {
        Self(Vec::new())
    }

    /// Those that `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES` tell of, which
    /// are taken out of the environment. To be called while there is one thread.
    pub(super) fn from_environment() -> Result<Self, SocketError> {
        let text = |name| env::var(name).unwrap_or_default();
        // Meant for a process that started this one, if not for us.
        if text("LISTEN_PID") != std::process::id().to_string() {
            return Ok(Self::none());
        }
        let misread = |what: &'static str| SocketError::Misread { what };
        let count: usize = text("LISTEN_FDS").parse().map_err(|_| misread("LISTEN_FDS is no number"))?;
        if count > PASSED_MAX {
            return Err(misread("LISTEN_FDS: too many sockets"));
        }
        // An extension that systemd does not know; descriptors begin at 3.
        if env::var_os("LISTEN_FDS_FIRST_FD").is_some() {
            return Err(misread("LISTEN_FDS_FIRST_FD is not to be set"));
        }
        let names = text("LISTEN_FDNAMES");
        let names: Vec<&str> = names.split(':').collect();
        if count > 0 && (names.len() != count || names.contains(&"")) {
            return Err(misread("LISTEN_FDNAMES must name each socket (FileDescriptorName=)"));
        }
        let mut descriptors = ListenFd::from_env();
        let take = |(at, name): (usize, &str)| {
            let refused = |why: String| SocketError::Unfit { name: name.to_owned(), why };
            let listener = descriptors.take_tcp_listener(at).map_err(|error| refused(error.to_string()))?;
            let listener = listener.ok_or_else(|| refused("not there".to_owned()))?;
            let bound = Bound::of_another(listener).map_err(|error| refused(error.to_string()))?;
            Ok((name.to_owned(), bound))
        };
        names.into_iter().take(count).enumerate().map(take).collect::<Result<_, _>>().map(Self)
    }

    fn take(&mut self, plane: &str) -> Vec<Bound> {
        let own = self.0.extract_if(.., |(name, _)| name == plane);
        own.map(|(_, bound)| bound).collect()
    }
}

impl Bound {
    /// A socket from outside, if it is TCP and listens.
    fn of_another(listener: TcpListener) -> io::Result<Self> {
        if !socket_acceptconn(&listener)? {
            return Err(io::Error::other("it does not listen (Accept=no is needed)"));
        }
        if socket_protocol(&listener)? != Some(rustix::net::ipproto::TCP) {
            return Err(io::Error::other("no TCP socket"));
        }
        let socket = Socket::from(listener);
        socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
        Ok(Self { socket, listens: true })
    }
}

/// A socket that cannot be had.
#[derive(Debug)]
pub(super) enum SocketError {
    /// An address that is taken, or not ours.
    Bind { plane: &'static str, address: SocketAddr, error: io::Error },
    /// Two planes on one address.
    Shared { plane: &'static str, address: SocketAddr, other_plane: &'static str, other: SocketAddr },
    /// The configuration wants what systemd did not pass.
    NotPassed { plane: &'static str },
    /// systemd passed what the configuration does not want.
    Unwanted { name: String },
    /// It was passed, but nobody can connect to it.
    Unfit { name: String, why: String },
    /// The environment tells of sockets in a way that cannot be read.
    Misread { what: &'static str },
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { plane, address, error } => {
                write!(f, "the {plane} plane cannot listen on {address}: {error}")
            }
            Self::Shared { plane, address, other_plane, other } => {
                write!(f, "the {plane} plane cannot listen on {address}: the {other_plane} plane has {other}")
            }
            Self::NotPassed { plane } => write!(
                f,
                "{plane}.listen = systemd:{plane}: systemd passed no socket of this name (FileDescriptorName= of \
                 a .socket unit that is started)"
            ),
            Self::Unwanted { name } => {
                write!(
                    f,
                    "systemd passed a socket named `{name}` that no `listen` of the configuration takes"
                )
            }
            Self::Unfit { name, why } => write!(f, "the socket `{name}` that systemd passed: {why}"),
            Self::Misread { what } => f.write_str(what),
        }
    }
}

impl std::error::Error for SocketError {}
