//! The allow-list of a key: public IPv4 networks its calls come from.
//!
//! An allow-list is judged for an environment when it is made, and keeps that
//! judgement: one judged for test can't be given to a production key.

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::environment::Environment;
use crate::limits::ADDRESSES_PER_KEY_MAX;

/// The networks that may use a key: 1 to [`ADDRESSES_PER_KEY_MAX`] of them,
/// never all of IPv4, in production never a range that is not public.
#[derive(Clone, PartialEq, Eq)]
pub struct AllowList {
    /// In the order they were written, host bits cleared, doubles dropped.
    networks: Box<[Ipv4Net]>,
    /// What `contains` searches.
    ranges: Ranges,
    judged_for: Environment,
}

/// First and last address of each merged range, ascending. Most keys have few:
/// those lie inside the record, since with many keys a look-up costs what it
/// fetches from memory.
#[derive(Clone, PartialEq, Eq)]
enum Ranges {
    /// The unused ones begin after they end, and so hold nothing.
    Few([(u32, u32); FEW]),
    Many(Box<[(u32, u32)]>),
}

const FEW: usize = 12;

impl Ranges {
    fn new(merged: &[(u32, u32)]) -> Self {
        let mut few = [(u32::MAX, 0); FEW];
        match few.get_mut(..merged.len()) {
            Some(used) => {
                used.copy_from_slice(merged);
                Self::Few(few)
            }
            None => Self::Many(merged.into()),
        }
    }

    /// Reads a word of each line, of those inside the record.
    fn touch(&self) -> u32 {
        match self {
            Self::Few(few) => few[0].0 ^ few[FEW / 2].0 ^ few[FEW - 1].1,
            Self::Many(_) => 0,
        }
    }

    fn contains(&self, address: u32) -> bool {
        match self {
            // All of them, without a branch: no load waits for another.
            Self::Few(few) => few
                .iter()
                .fold(false, |within, &(first, last)| within | ((first <= address) & (address <= last))),
            Self::Many(many) => {
                let after = many.partition_point(|&(first, _)| first <= address);
                after > 0 && address <= many[after - 1].1
            }
        }
    }
}

/// Why an allow-list was refused; the caller's fault. `position` counts the
/// networks as written, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllowListError {
    /// No network at all: the key could be used from nowhere.
    Empty,
    /// More networks than [`ADDRESSES_PER_KEY_MAX`].
    TooMany,
    /// Not an IPv4 address or network such as `203.0.113.0/24`.
    NotANetwork {
        /// Which one.
        position: usize,
    },
    /// Together the networks are every address there is.
    Everything,
    /// The network overlaps a range that is not public; production refuses it.
    NotPublic {
        /// Which one.
        position: usize,
        /// The range it overlaps.
        range: SpecialRange,
    },
}

impl fmt::Display for AllowListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("at least one IPv4 network is needed"),
            Self::TooMany => write!(f, "at most {ADDRESSES_PER_KEY_MAX} IPv4 networks are taken"),
            Self::NotANetwork { position } => {
                write!(f, "addresses[{position}] is no IPv4 address or network such as 198.51.100.0/24")
            }
            Self::Everything => f.write_str("the whole of IPv4 is no allow-list"),
            Self::NotPublic { position, range } => write!(
                f,
                "addresses[{position}] overlaps {} ({}), which is not public",
                range.network, range.name
            ),
        }
    }
}

impl std::error::Error for AllowListError {}

/// A range of IPv4 that no institution can call from over the public network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecialRange {
    /// What it is for.
    pub name: &'static str,
    /// Its network.
    pub network: Ipv4Net,
}

const fn special(name: &'static str, [a, b, c, d]: [u8; 4], prefix: u8) -> SpecialRange {
    SpecialRange { name, network: Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix) }
}

/// The ranges that production refuses: the IANA registry of special-purpose
/// IPv4 addresses (RFC 6890) as far as it is not globally reachable, multicast
/// (RFC 5771) and the reserved class E (RFC 1112).
pub const NOT_PUBLIC: [SpecialRange; 15] = [
    special("this network", [0, 0, 0, 0], 8),
    special("private use", [10, 0, 0, 0], 8),
    special("shared address space of carrier-grade NAT", [100, 64, 0, 0], 10),
    special("loopback", [127, 0, 0, 0], 8),
    special("link local", [169, 254, 0, 0], 16),
    special("private use", [172, 16, 0, 0], 12),
    special("protocol assignments", [192, 0, 0, 0], 24),
    special("documentation", [192, 0, 2, 0], 24),
    special("former 6to4 relays", [192, 88, 99, 0], 24),
    special("private use", [192, 168, 0, 0], 16),
    special("benchmarks", [198, 18, 0, 0], 15),
    special("documentation", [198, 51, 100, 0], 24),
    special("documentation", [203, 0, 113, 0], 24),
    special("multicast", [224, 0, 0, 0], 4),
    special("reserved", [240, 0, 0, 0], 4),
];

impl AllowList {
    /// See [`super::directory::KeySlot::fetch`].
    pub(super) fn touch(&self) -> u32 {
        self.ranges.touch()
    }

    /// Reads networks (`198.51.100.0/24`) and single addresses, and judges them
    /// for the environment. Host bits are cleared: what is shown is what is
    /// allowed.
    ///
    /// # Errors
    /// The first rule broken, with the position of the network that broke it.
    pub fn parse<S: AsRef<str>>(
        texts: impl IntoIterator<Item = S>,
        environment: Environment,
    ) -> Result<Self, AllowListError> {
        let mut networks: Vec<Ipv4Net> = Vec::new();
        for (position, text) in texts.into_iter().enumerate() {
            if position >= ADDRESSES_PER_KEY_MAX {
                return Err(AllowListError::TooMany);
            }
            let network = parse_network(text.as_ref()).ok_or(AllowListError::NotANetwork { position })?;
            if environment == Environment::Production
                && let Some(range) = not_public(network)
            {
                return Err(AllowListError::NotPublic { position, range });
            }
            if !networks.contains(&network) {
                networks.push(network);
            }
        }
        let ranges = merge(&networks);
        match ranges.as_slice() {
            [] => Err(AllowListError::Empty),
            [(0, u32::MAX)] => Err(AllowListError::Everything),
            _ => {
                Ok(Self { networks: networks.into(), ranges: Ranges::new(&ranges), judged_for: environment })
            }
        }
    }

    /// Whether a call may come from this address.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        self.ranges.contains(address.into())
    }

    /// The networks in the order they were written.
    pub fn networks(&self) -> impl ExactSizeIterator<Item = Ipv4Net> + '_ {
        self.networks.iter().copied()
    }

    /// Whether the list may belong to a key of this environment: production
    /// takes only what was judged by its rules.
    #[must_use]
    pub fn suits(&self, environment: Environment) -> bool {
        self.judged_for == environment || environment == Environment::Test
    }
}

impl fmt::Debug for AllowList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.networks.iter()).finish()
    }
}

/// As a list of networks in CIDR notation, e.g. `["198.51.100.7/32"]`.
impl serde::Serialize for AllowList {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.networks.iter().map(ToString::to_string))
    }
}

fn parse_network(text: &str) -> Option<Ipv4Net> {
    let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
    // The standard parser takes no leading zeros in an address; a number with
    // a sign or a zero before it is refused here for the same reason: two
    // readers could take it for two networks.
    let plain = prefix.bytes().all(|c| c.is_ascii_digit()) && (prefix.len() == 1 || !prefix.starts_with('0'));
    if !plain {
        return None;
    }
    Ipv4Net::new(address.parse().ok()?, prefix.parse().ok()?).ok().map(|network| network.trunc())
}

fn not_public(network: Ipv4Net) -> Option<SpecialRange> {
    // Two networks overlap only if one holds the other.
    NOT_PUBLIC.into_iter().find(|range| range.network.contains(&network) || network.contains(&range.network))
}

/// Ranges ascending, overlapping and adjacent ones joined.
fn merge(networks: &[Ipv4Net]) -> Vec<(u32, u32)> {
    let mut bounds: Vec<(u32, u32)> =
        networks.iter().map(|network| (network.network().into(), network.broadcast().into())).collect();
    bounds.sort_unstable();
    let mut merged: Vec<(u32, u32)> = Vec::with_capacity(bounds.len());
    for (first, last) in bounds {
        match merged.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

#[cfg(test)]
#[path = "addresses_tests.rs"]
mod tests;
