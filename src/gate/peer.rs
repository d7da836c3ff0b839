//! The other end of a connection.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where a connection comes from: as the socket says or, where the socket is a
/// trusted proxy's, its PROXY header. No header of a request is asked.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer {
    address: IpAddr,
}

impl Peer {
    /// The peer of an accepted socket. An IPv4 address that a dual-stack listener
    /// shows as `::ffff:a.b.c.d` is unwrapped first.
    #[must_use]
    pub fn from_socket(socket: SocketAddr) -> Self {
        Self { address: socket.ip().to_canonical() }
    }

    /// The peer that a trusted proxy names; the edge's reader of that header alone
    /// may say so.
    #[must_use]
    pub fn from_proxy_header(named: SocketAddr) -> Self {
        Self::from_socket(named)
    }

    /// The address if it is IPv4. Allow-lists hold IPv4 alone, so an IPv6 peer is
    /// in none of them.
    #[must_use]
    pub const fn ipv4(&self) -> Option<Ipv4Addr> {
        match self.address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    }

    /// What is counted by address is counted by: an IPv4 address, or the /64
    /// network of an IPv6 one, which one host may well own whole.
    pub(crate) fn crowd(&self) -> u64 {
        match self.address {
            IpAddr::V4(address) => u64::from(u32::from(address)),
            IpAddr::V6(address) => (u128::from(address) >> 64) as u64 | 1 << 63,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({})", self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_the_ipv4_address_it_maps() {
        let cases = [
            ("203.0.113.7:1", Some("203.0.113.7"), "203.0.113.7"),
            ("[::ffff:203.0.113.7]:1", Some("203.0.113.7"), "203.0.113.7"),
            ("[2001:db8::1]:1", None, "2001:db8::1"),
            // Not mapped: the compatible form is no IPv4 address.
            ("[::127.0.0.1]:1", None, "::7f00:1"),
            ("[::1]:1", None, "::1"),
            ("[64:ff9b::127.0.0.1]:1", None, "64:ff9b::7f00:1"),
        ];
        for (socket, ipv4, shown) in cases {
            let peer = Peer::from_socket(socket.parse().expect("socket"));
            assert_eq!(peer.ipv4(), ipv4.map(|text| text.parse().expect("address")), "{socket}");
            assert_eq!(peer.to_string(), shown);
        }
    }
}
