//! The PROXY protocol, versions 1 and 2 (proxy-protocol.txt of HAProxy): whom a
//! trusted balancer names as the other end of a connection.
//!
//! From a network of [`Proxies`] a header is required, from anywhere else it is
//! no header but the client's own bytes; nothing is guessed from what arrives.
//! One header, strictly read; what follows it stays in the socket.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// What version 2 begins with.
pub(crate) const SIGNATURE_V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// What version 1 begins with.
pub(crate) const SIGNATURE_V1: &[u8; 6] = b"PROXY ";
/// Bytes of a header of version 1, CRLF included: the document's own bound.
pub(crate) const LINE_BYTES_MAX: usize = 107;
/// Bytes of a header of version 2: what the document promises to fit one segment.
pub(crate) const HEADER_BYTES_MAX: usize = 536;
/// Signature, command, family, length.
const FIXED_BYTES: usize = SIGNATURE_V2.len() + 4;
/// The extension that holds a checksum of the header (`PP2_TYPE_CRC32C`).
const CRC32C: u8 = 0x03;

/// The networks whose word about the other end is taken, and must be given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies(Vec<IpNet>);

impl Proxies {
    /// Balancers in these networks, as the configuration has judged them.
    #[must_use]
    pub const fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        // A dual-stack listener shows an IPv4 address in IPv6 clothes.
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a whole header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    /// The balancer speaks for itself (`LOCAL`, `UNKNOWN`): a health check.
    Local,
    /// It passes on a connection from this address.
    Named(SocketAddr),
}

/// Why a connection from a trusted network is closed without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It begins with something else.
    Missing,
    /// It begins like a header and is none, or its checksum is wrong.
    Malformed,
    /// A header about no TCP connection: a UNIX socket, datagrams.
    Unsupported,
    /// It was not complete in time.
    Late,
    /// The other end left before its first byte: nothing was refused.
    Gone,
}

impl Refusal {
    /// The label of those that are counted.
    pub(super) const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Missing => Some("proxy-missing"),
            Self::Malformed => Some("proxy-malformed"),
            Self::Unsupported => Some("proxy-unsupported"),
            Self::Late => Some("proxy-late"),
            Self::Gone => None,
        }
    }

    pub(super) const ALL: [Self; 5] =
        [Self::Missing, Self::Malformed, Self::Unsupported, Self::Late, Self::Gone];
}

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// The beginning of a header; every byte belongs to it.
    Partial,
    /// A header of this many bytes.
    Whole { header: Header, length: usize },
    /// No header, whatever follows.
    Refused(Refusal),
}

/// Reads exactly the header off the socket.
pub(super) async fn read(stream: &mut TcpStream, patience: Duration) -> Result<Header, Refusal> {
    tokio::time::timeout(patience, read_whole(stream)).await.unwrap_or(Err(Refusal::Late))
}

async fn read_whole(stream: &mut TcpStream) -> Result<Header, Refusal> {
    // Whoever breaks off within a header has sent none.
    let broken = |_: io::Error| Refusal::Malformed;
    let mut bytes = [0; HEADER_BYTES_MAX];
    let mut taken = 0;
    loop {
        // Looked at first, taken then: what follows the header is TLS's or HTTP's.
        let seen = match stream.peek(&mut bytes[taken..]).await {
            Ok(seen) if seen > 0 => taken + seen,
            _ if taken == 0 => return Err(Refusal::Gone),
            _ => return Err(Refusal::Malformed),
        };
        let (header, length) = match parse(&bytes[..seen]) {
            Reading::Whole { header, length } => (Some(header), length),
            Reading::Partial => (None, seen),
            Reading::Refused(refusal) => return Err(refusal),
        };
        stream.read_exact(&mut bytes[taken..length]).await.map_err(broken)?;
        taken = length;
        if let Some(header) = header {
            return Ok(header);
        }
    }
}

/// Reads a header at the beginning of these bytes. [`HEADER_BYTES_MAX`] bytes
/// are never [`Reading::Partial`].
pub(crate) fn parse(bytes: &[u8]) -> Reading {
    let begins = |signature: &[u8]| bytes.iter().zip(signature).all(|(byte, expected)| byte == expected);
    if begins(SIGNATURE_V2) {
        version_2(bytes)
    } else if begins(SIGNATURE_V1) {
        version_1(bytes)
    } else {
        Reading::Refused(Refusal::Missing)
    }
}

fn version_1(bytes: &[u8]) -> Reading {
    let bounded = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = memchr::memchr(b'\n', bounded) else {
        return match bounded.len() {
            LINE_BYTES_MAX => Reading::Refused(Refusal::Malformed),
            _ => Reading::Partial,
        };
    };
    let line = bounded[..end].strip_suffix(b"\r").and_then(|line| std::str::from_utf8(line).ok());
    match line.and_then(header_of_line) {
        Some(header) => Reading::Whole { header, length: end + 1 },
        None => Reading::Refused(Refusal::Malformed),
    }
}

fn header_of_line(line: &str) -> Option<Header> {
    if line.bytes().any(|byte| byte.is_ascii_control()) {
        return None;
    }
    // Two spaces make an empty field, which is no address and no port.
    let fields: Vec<&str> = line.split(' ').collect();
    match fields[..] {
        // What else is said about an unknown connection is to be ignored.
        [_, "UNKNOWN", ..] => Some(Header::Local),
        [_, "TCP4", source, destination, source_port, destination_port] => {
            let address: Ipv4Addr = source.parse().ok()?;
            destination.parse::<Ipv4Addr>().ok()?;
            port(destination_port)?;
            Some(Header::Named((address, port(source_port)?).into()))
        }
        [_, "TCP6", source, destination, source_port, destination_port] => {
            let address: Ipv6Addr = source.parse().ok()?;
            destination.parse::<Ipv6Addr>().ok()?;
            port(destination_port)?;
            Some(Header::Named((address, port(source_port)?).into()))
        }
        _ => None,
    }
}

/// No sign, no leading zero: one way to write each.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

fn version_2(bytes: &[u8]) -> Reading {
    let Some(fixed) = bytes.first_chunk::<FIXED_BYTES>() else { return Reading::Partial };
    let [.., command, family, high, low] = *fixed;
    let length = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if length > HEADER_BYTES_MAX {
        return Reading::Refused(Refusal::Malformed);
    }
    let (is_local, address_bytes) = match (command, family) {
        // Whatever else a health check carries is to be discarded.
        (0x20, _) => (true, 0),
        (0x21, 0x00) => (false, 0),
        (0x21, 0x11) => (false, 12),
        (0x21, 0x21) => (false, 36),
        (0x21, 0x12 | 0x22 | 0x31 | 0x32) => return Reading::Refused(Refusal::Unsupported),
        _ => return Reading::Refused(Refusal::Malformed),
    };
    if length < FIXED_BYTES + address_bytes {
        return Reading::Refused(Refusal::Malformed);
    }
    let Some(whole) = bytes.get(..length) else { return Reading::Partial };
    if !is_local && !extensions_hold(whole, FIXED_BYTES + address_bytes) {
        return Reading::Refused(Refusal::Malformed);
    }
    let header = match whole[FIXED_BYTES..][..address_bytes] {
        // Addresses of source and destination, then their ports.
        [a, b, c, d, _, _, _, _, high, low, ..] if address_bytes == 12 => {
            Header::Named((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])).into())
        }
        ref addresses => match (addresses.first_chunk::<16>(), addresses.get(32..34)) {
            (Some(address), Some(&[high, low])) => {
                Header::Named((Ipv6Addr::from(*address), u16::from_be_bytes([high, low])).into())
            }
            _ => Header::Local,
        },
    };
    Reading::Whole { header, length }
}

/// Whether the extensions (type, length, value) from `at` on end where the header
/// ends; what they say is not needed. A checksum, if there is one, must be right.
fn extensions_hold(header: &[u8], mut at: usize) -> bool {
    let mut has_checksum = false;
    while at < header.len() {
        let Some([kind, high, low]) = header[at..].first_chunk().copied() else { return false };
        let value = at + 3;
        let end = value + usize::from(u16::from_be_bytes([high, low]));
        let Some(content) = header.get(value..end) else { return false };
        if kind == CRC32C {
            let Ok(checksum) = <[u8; 4]>::try_from(content) else { return false };
            // Over the whole header, the checksum's own bytes taken for zero.
            let computed = crc32c::crc32c_append(crc32c::crc32c(&header[..value]), &[0; 4]);
            let computed = crc32c::crc32c_append(computed, &header[end..]);
            if has_checksum || u32::from_be_bytes(checksum) != computed {
                return false;
            }
            has_checksum = true;
        }
        at = end;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Header {
        Header::Named(text.parse().expect("an address"))
    }

    const MALFORMED: Reading = Reading::Refused(Refusal::Malformed);

    #[test]
    fn lines_of_version_1() {
        let long = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        let longest = format!("UNKNOWN {long} {long} 65535 65535");
        assert_eq!(longest.len() + 8, LINE_BYTES_MAX);
        let whole = [
            ("TCP4 203.0.113.7 192.0.2.1 56324 443", named("203.0.113.7:56324")),
            ("TCP4 255.255.255.255 0.0.0.0 65535 0", named("255.255.255.255:65535")),
            ("TCP6 2001:db8::7 2001:DB8::1 1 443", named("[2001:db8::7]:1")),
            ("TCP6 ::ffff:203.0.113.7 ::1 1 443", named("[::ffff:203.0.113.7]:1")),
            (&format!("TCP6 {long} {long} 65535 1"), named(&format!("[{long}]:65535"))),
            (&longest, Header::Local),
            ("UNKNOWN", Header::Local),
            ("UNKNOWN ffff::1 anything 0 99999", Header::Local),
        ];
        for (text, header) in whole {
            let line = format!("PROXY {text}\r\n");
            let read = parse(format!("{line}GET / HTTP/1.1\r\n").as_bytes());
            assert_eq!(read, Reading::Whole { header, length: line.len() }, "{text}");
        }
        let bad = [
            "TCP4 203.0.113.7 192.0.2.1 56324",
            "TCP4 203.0.113.7 192.0.2.1 56324 443 ",
            "TCP4 203.0.113.7 192.0.2.1 56324 443 1",
            "TCP4  203.0.113.7 192.0.2.1 56324 443",
            " TCP4 203.0.113.7 192.0.2.1 56324 443",
            "TCP4 203.0.113.7\t192.0.2.1 56324 443",
            "TCP4 203.0.113.07 192.0.2.1 56324 443",
            "TCP4 203.0.113 192.0.2.1 56324 443",
            "TCP4 203.0.113.256 192.0.2.1 56324 443",
            "TCP4 203.0.113.7 x 56324 443",
            "TCP4 203.0.113.7 192.0.2.1 056324 443",
            "TCP4 203.0.113.7 192.0.2.1 +1 443",
            "TCP4 203.0.113.7 192.0.2.1 65536 443",
            "TCP4 203.0.113.7 192.0.2.1 1 65536",
            "TCP4 203.0.113.7 192.0.2.1 1 00",
            "TCP4 2001:db8::7 2001:db8::1 1 443",
            "TCP6 203.0.113.7 192.0.2.1 1 443",
            "TCP6 2001:db8::7%1 2001:db8::1 1 443",
            "TCP6 2001:db8::7 192.0.2.1 1 443",
            "tcp4 203.0.113.7 192.0.2.1 1 443",
            "UDP4 203.0.113.7 192.0.2.1 1 443",
            "UNKNOWN\0",
            "UNKNOWNS",
            "",
        ];
        for text in bad {
            assert_eq!(parse(format!("PROXY {text}\r\n").as_bytes()), MALFORMED, "{text}");
        }
        assert_eq!(parse(b"PROXY UNKNOWN\n"), MALFORMED, "a bare line feed");
        assert_eq!(parse(format!("PROXY UNKNOWN {}\r\n", "x".repeat(92)).as_bytes()), MALFORMED, "too long");
    }

    fn version_2_of(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE_V2.to_vec();
        header.extend([command, family]);
        header.extend(u16::try_from(body.len()).expect("short").to_be_bytes());
        header.extend(body);
        header
    }

    const ENDS_V4: [u8; 12] = [203, 0, 113, 7, 192, 0, 2, 1, 0xDC, 4, 1, 187];

    #[test]
    fn headers_of_version_2() {
        let mut ends_v6 = [0; 36];
        (ends_v6[0], ends_v6[1], ends_v6[15], ends_v6[33]) = (0x20, 1, 7, 9);
        let noise = [&ENDS_V4[..], &[0xEE, 0, 2, 1, 2, 4, 0, 0]].concat();
        let whole: [(u8, u8, &[u8], Header); 7] = [
            (0x21, 0x11, &ENDS_V4, named("203.0.113.7:56324")),
            (0x21, 0x11, &noise, named("203.0.113.7:56324")),
            (0x21, 0x21, &ends_v6, named("[2001::7]:9")),
            (0x21, 0x00, &[], Header::Local),
            (0x20, 0x00, &[], Header::Local),
            (0x20, 0x11, &ENDS_V4, Header::Local),
            (0x20, 0x31, &[1; 520], Header::Local),
        ];
        for (command, family, body, header) in whole {
            let mut bytes = version_2_of(command, family, body);
            let length = bytes.len();
            bytes.extend(b"\x16\x03\x01");
            assert_eq!(parse(&bytes), Reading::Whole { header, length }, "{command:x} {family:x}");
        }
        let (short, cut) = (&ENDS_V4[..11], [&ENDS_V4[..], &[4, 0, 9, 0]].concat());
        let bad: [(u8, u8, &[u8]); 8] = [
            (0x11, 0x11, &ENDS_V4),
            (0x22, 0x11, &ENDS_V4),
            (0x21, 0x13, &ENDS_V4),
            (0x21, 0x41, &ENDS_V4),
            (0x21, 0x11, short),
            (0x21, 0x21, &ENDS_V4),
            (0x21, 0x11, &cut),
            (0x20, 0x00, &[0; 521]),
        ];
        for (command, family, body) in bad {
            assert_eq!(parse(&version_2_of(command, family, body)), MALFORMED, "{command:x} {family:x}");
        }
        for family in [0x12, 0x22, 0x31, 0x32] {
            let bytes = version_2_of(0x21, family, &[0; 216]);
            assert_eq!(parse(&bytes), Reading::Refused(Refusal::Unsupported), "{family:x}");
        }
        assert_eq!(parse(b"\r\n\r\n\r"), Reading::Refused(Refusal::Missing));
        assert_eq!(parse(b"GET / HTTP/1.1\r\n"), Reading::Refused(Refusal::Missing));
    }

    #[test]
    fn trusted_networks_know_an_address_in_other_clothes() {
        let networks = ["10.1.0.0/16", "2001:db8::/32"].map(|text| text.parse().expect("a network"));
        let proxies = Proxies::new(networks.to_vec());
        for (text, trusted) in [
            ("10.1.255.255", true),
            ("::ffff:10.1.0.1", true),
            ("10.2.0.1", false),
            ("::10.1.0.1", false),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(proxies.contains(text.parse().expect("an address")), trusted, "{text}");
        }
        assert!(!Proxies::default().contains(Ipv4Addr::LOCALHOST.into()));
    }
}
