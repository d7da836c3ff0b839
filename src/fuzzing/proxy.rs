//! The PROXY header against a slow reader, and headers written here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::http::plane::proxy::{
    HEADER_BYTES_MAX, Header, LINE_BYTES_MAX, Reading, SIGNATURE_V1, SIGNATURE_V2, parse,
};

/// A header is read as a naive reader reads it, from its own bytes alone; less of
/// it is partial, and what is refused stays refused. A header that was written
/// from an address names it, and one with a wrong bit in address or checksum is refused.
pub fn proxy(data: &[u8]) {
    agrees(data);
    let ends = data.first_chunk::<36>().copied().unwrap_or([7; 36]);
    let [first, .., port_high, port_low] = ends;
    let address: IpAddr = match first % 2 {
        0 => Ipv4Addr::from(*ends.first_chunk().unwrap_or(&[1; 4])).into(),
        _ => Ipv6Addr::from(*ends.first_chunk().unwrap_or(&[1; 16])).into(),
    };
    let address = SocketAddr::new(address, u16::from_be_bytes([port_high, port_low]));
    let rest = data.get(36..).unwrap_or_default();
    let with_checksum = written_v2(address, &rest[..rest.len().min(200)]);
    for header in [written_v1(address), with_checksum.clone()] {
        let named = Reading::Whole { header: Header::Named(address), length: header.len() };
        assert_eq!(parse(&header), named);
        let mut followed = header;
        followed.extend_from_slice(data);
        assert_eq!(parse(&followed), named);
        agrees(&followed);
    }
    let mut wrong = with_checksum;
    // A checksum covers neither its own type nor that it is there.
    let at = match usize::from(port_low) % 16 {
        at @ 0..12 => 16 + at,
        at => wrong.len() - 16 + at,
    };
    wrong[at] ^= 1 << (port_high % 8);
    assert!(matches!(parse(&wrong), Reading::Refused(_)), "a wrong bit in byte {at}");
}

fn agrees(bytes: &[u8]) {
    let reading = parse(bytes);
    assert_eq!(matches!(reading, Reading::Whole { .. }), naive(bytes).is_some());
    match reading {
        Reading::Whole { header, length } => {
            assert_eq!(naive(bytes), Some((header, length)));
            assert_eq!(parse(&bytes[..length]), reading);
            for cut in 0..length {
                assert_eq!(parse(&bytes[..cut]), Reading::Partial);
            }
        }
        Reading::Partial => assert!(bytes.len() < HEADER_BYTES_MAX),
        Reading::Refused(_) => {
            for more in [&b"\n"[..], b" 1 1\r\n", &[0; HEADER_BYTES_MAX]] {
                assert_eq!(parse(&[bytes, more].concat()), reading);
            }
        }
    }
}

/// The header at the beginning, if one is complete.
fn naive(bytes: &[u8]) -> Option<(Header, usize)> {
    if bytes.starts_with(SIGNATURE_V2) {
        return naive_v2(bytes);
    }
    let end = bytes.iter().position(|byte| *byte == b'\n')? + 1;
    let line = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let words: Vec<&str> = line.strip_suffix("\r\n")?.split(' ').collect();
    if end > LINE_BYTES_MAX || words[0].as_bytes() != SIGNATURE_V1.trim_ascii_end() || words.len() < 2 {
        return None;
    }
    if line[..end - 2].contains(|c: char| c < ' ' || c == '\x7F') {
        return None;
    }
    if words[1] == "UNKNOWN" {
        return Some((Header::Local, end));
    }
    // Ports, written back, must be what was written.
    let ports =
        words.get(4..6)?.iter().map(|word| word.parse().ok().filter(|p: &u16| p.to_string() == *word));
    let ports: Vec<u16> = ports.collect::<Option<_>>()?;
    let ends: Vec<IpAddr> = words[2..4].iter().map(|word| word.parse().ok()).collect::<Option<_>>()?;
    let fits = ends.iter().all(|end| if words[1] == "TCP4" { end.is_ipv4() } else { end.is_ipv6() });
    let known = words.len() == 6 && ["TCP4", "TCP6"].contains(&words[1]);
    (known && fits).then(|| (Header::Named(SocketAddr::new(ends[0], ports[0])), end))
}

fn naive_v2(bytes: &[u8]) -> Option<(Header, usize)> {
    let number = |at: usize| Some(usize::from(*bytes.get(at)?) * 256 + usize::from(*bytes.get(at + 1)?));
    let length = 16 + number(14)?;
    if length > HEADER_BYTES_MAX || bytes.len() < length {
        return None;
    }
    let address_bytes = match (bytes[12], bytes[13]) {
        (0x20, _) => return Some((Header::Local, length)),
        (0x21, 0) => 0,
        (0x21, 0x11) => 4,
        (0x21, 0x21) => 16,
        _ => return None,
    };
    let after = if address_bytes == 0 { 0 } else { 2 * address_bytes + 4 };
    let mut at = 16 + after;
    let mut checksums = Vec::new();
    while at < length {
        let end = at + 3 + number(at + 1)?;
        if bytes[at] == 3 {
            checksums.push((at + 3, end));
        }
        at = end;
    }
    if at != length || checksums.len() > 1 {
        return None;
    }
    for (from, to) in checksums {
        let mut zeroed = bytes[..length].to_vec();
        zeroed[from..to].fill(0);
        if bytes[from..to] != checksum(&zeroed).to_be_bytes() {
            return None;
        }
    }
    if address_bytes == 0 {
        return Some((Header::Local, length));
    }
    let port = u16::try_from(number(16 + 2 * address_bytes)?).ok()?;
    Some(match address_bytes {
        4 => (Header::Named((Ipv4Addr::from(*bytes[16..].first_chunk::<4>()?), port).into()), length),
        _ => (Header::Named((Ipv6Addr::from(*bytes[16..].first_chunk::<16>()?), port).into()), length),
    })
}

/// CRC-32C, bit by bit.
fn checksum(bytes: &[u8]) -> u32 {
    let mut rest = u32::MAX;
    for byte in bytes {
        rest ^= u32::from(*byte);
        for _ in 0..8 {
            rest = if rest & 1 == 1 { rest >> 1 ^ 0x82F6_3B78 } else { rest >> 1 };
        }
    }
    !rest
}

fn written_v1(address: SocketAddr) -> Vec<u8> {
    let (family, port) = (if address.is_ipv4() { "TCP4" } else { "TCP6" }, address.port());
    let ip = address.ip();
    format!("PROXY {family} {ip} {ip} {port} {port}\r\n").into_bytes()
}

/// With an extension that holds `value`, and a checksum behind it.
fn written_v2(address: SocketAddr, value: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    let (family, ip) = match address.ip() {
        IpAddr::V4(ip) => (0x11, ip.octets().to_vec()),
        IpAddr::V6(ip) => (0x21, ip.octets().to_vec()),
    };
    for part in [&ip, &ip, &address.port().to_be_bytes().to_vec(), &[1, 187].to_vec()] {
        body.extend_from_slice(part);
    }
    body.push(0xEA);
    body.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
    body.extend_from_slice(value);
    body.extend_from_slice(&[3, 0, 4, 0, 0, 0, 0]);
    let mut header = SIGNATURE_V2.to_vec();
    header.extend_from_slice(&[0x21, family]);
    header.extend_from_slice(&u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes());
    header.extend_from_slice(&body);
    let at = header.len() - 4;
    let sum = checksum(&header);
    header[at..].copy_from_slice(&sum.to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_hold(data in proptest::collection::vec(any::<u8>(), 0..600)) {
            proxy(&data);
        }

        #[test]
        fn what_looks_like_version_2_holds(
            command in prop_oneof![Just(0x20), Just(0x21), any::<u8>()],
            family in prop_oneof![Just(0), Just(0x11), Just(0x21), Just(0x31), any::<u8>()],
            length in 0u16..60,
            // Few values, so that types, lengths and ends meet.
            body in proptest::collection::vec(prop_oneof![Just(0u8), Just(3), Just(4), 0u8..12], 0..70),
        ) {
            let mut header = SIGNATURE_V2.to_vec();
            header.extend([command, family]);
            header.extend(length.to_be_bytes());
            header.extend(body);
            proxy(&header);
        }

        #[test]
        fn what_looks_like_version_1_holds(
            line in "(TCP4|TCP6|UNKNOWN|TCP5)?( ?(1\\.2\\.3\\.4|::1|01\\.2\\.3\\.4|0|7|07|65536|x)){0,6} ?(\r\n|\n|\r)x?",
        ) {
            proxy(format!("PROXY {line}").as_bytes());
        }
    }
}
