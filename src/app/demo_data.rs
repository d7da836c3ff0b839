//! The demo's fictional register and its sample files.
//!
//! Everybody in it is born 1800-1899: such numbers pass every check and belong
//! to nobody alive. The same `--reserved` and `--seed` make the same register.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use rand::rngs::SmallRng;
use rand::seq::{SliceRandom, index};
use rand::{Rng, RngExt, SeedableRng};

use crate::clock::Moment;
use crate::pesel::{Ordinal, SERIALS_PER_DAY};

/// Birth days of 1800-1899: 25 leap years less 1800 itself.
pub(super) const BIRTH_DAYS: u32 = 36_524;
/// Reserved numbers that the demo makes at the most.
pub const RESERVED_MAX: u64 = 50_000_000;
/// Numbers in `reserved.csv` and `free.csv`.
const LISTED: usize = 1_000;
/// Rows of `sample.csv`.
const SAMPLE_ROWS: usize = 10_000;
/// When the real register opened: 2023-11-17T00:00:00+01:00.
const REGISTER_OPENED: i64 = 1_700_175_600;
/// The made reservations end before 2026-01-01.
const MADE_UNTIL: i64 = 1_767_222_000;

/// A made register: which numbers are reserved, in order, and since when.
#[derive(Debug, Clone, Copy)]
pub(super) struct MadeRegister {
    pub(super) reserved: u64,
    pub(super) seed: u64,
}

impl MadeRegister {
    /// Every reservation, in the order of the ordinals.
    pub(super) fn reservations(self) -> impl Iterator<Item = (Ordinal, Moment)> {
        let mut random = SmallRng::seed_from_u64(self.seed);
        let days = u64::from(BIRTH_DAYS);
        (0..BIRTH_DAYS).flat_map(move |day| {
            // The remainder is spread evenly over the days.
            let place = u64::from(day);
            let count = self.reserved * (place + 1) / days - self.reserved * place / days;
            let mut serials = index::sample(&mut random, SERIALS_PER_DAY as usize, count as usize).into_vec();
            serials.sort_unstable();
            let made: Vec<_> = serials
                .into_iter()
                .filter_map(|serial| {
                    let ordinal = Ordinal::new(day * SERIALS_PER_DAY + serial as u32)?;
                    let moment = random.random_range(REGISTER_OPENED..MADE_UNTIL);
                    Some((ordinal, Moment::from_unix_seconds(moment)))
                })
                .collect();
            made
        })
    }

    /// Writes `reserved.csv`, `free.csv` and `sample.csv`.
    pub(super) fn write_samples(self, dir: &Path) -> io::Result<()> {
        let mut random = SmallRng::seed_from_u64(self.seed ^ 0x5A5A);
        let (reserved, free) = self.pick(&mut random);
        write_numbers(&dir.join("reserved.csv"), &reserved)?;
        write_numbers(&dir.join("free.csv"), &free)?;
        write_sample(&dir.join("sample.csv"), &reserved, &free, &mut random)
    }

    /// Numbers of the register, evenly from all of it, and numbers outside of it.
    fn pick(self, random: &mut SmallRng) -> (Vec<Ordinal>, Vec<Ordinal>) {
        let step = (self.reserved / LISTED as u64).max(1) as usize;
        let mut candidates = HashSet::new();
        while candidates.len() < LISTED * 8 {
            candidates.extend(Ordinal::new(random.random_range(0..BIRTH_DAYS * SERIALS_PER_DAY)));
        }
        let mut reserved = Vec::with_capacity(LISTED);
        for (place, (ordinal, _)) in self.reservations().enumerate() {
            candidates.remove(&ordinal);
            if place % step == 0 && reserved.len() < LISTED {
                reserved.push(ordinal);
            }
        }
        let mut free: Vec<_> = candidates.into_iter().collect();
        free.sort_unstable();
        free.shuffle(random);
        free.truncate(LISTED);
        (reserved, free)
    }
}

fn write_numbers(path: &Path, numbers: &[Ordinal]) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "pesel")?;
    for ordinal in numbers {
        writeln!(file, "{}", ordinal.pesel().digits())?;
    }
    file.into_inner()?.sync_all()
}

const FIRST_NAMES: [&str; 12] = [
    "Łucja",
    "Stanisław",
    "Żaneta",
    "Józef",
    "Świętosława",
    "Wincenty",
    "Małgorzata",
    "Ignacy",
    "Róża",
    "Bogumił",
    "Zofia",
    "Kazimierz",
];
const LAST_NAMES: [&str; 12] = [
    "Dąbrowska",
    "Wójcik",
    "Źdźbło",
    "Kręcina",
    "Święcicka",
    "Gołąb",
    "Ćwik",
    "Nowak-Żeleńska",
    "Śliwa",
    "Brzęczyszczykiewicz",
    "Łoś",
    "Mączka",
];

fn write_sample(
    path: &Path,
    reserved: &[Ordinal],
    free: &[Ordinal],
    random: &mut SmallRng,
) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "nazwisko i imię,pesel,umowa")?;
    for row in 0..SAMPLE_ROWS {
        let (first, last) = (FIRST_NAMES[row % 12], LAST_NAMES[row / 12 % 12]);
        // About one in four is a hit; one in a hundred is mistyped.
        let pool = if random.random_ratio(1, 4) && !reserved.is_empty() { reserved } else { free };
        let pesel = pool[random.random_range(0..pool.len())].pesel();
        let mut digits = pesel.digits().to_owned();
        if row % 100 == 57 {
            digits = mistype(&digits, random);
        }
        writeln!(file, "\"{last}, {first}\",{digits},U/{:05}/2026", row + 1)?;
    }
    file.into_inner()?.sync_all()
}

/// One wrong digit, one digit too few, or a letter.
fn mistype(digits: &str, random: &mut SmallRng) -> String {
    match random.next_u32() % 3 {
        0 => {
            let last = (digits.as_bytes()[10] - b'0' + 1) % 10;
            format!("{}{last}", &digits[..10])
        }
        1 => digits[..10].to_owned(),
        _ => format!("{}O{}", &digits[..4], &digits[5..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_register_has_the_wanted_size_in_order_and_is_the_same_again() {
        for reserved in [0, 1, 999, 100_000] {
            let made = MadeRegister { reserved, seed: 7 };
            let all: Vec<_> = made.reservations().collect();
            assert_eq!(all.len() as u64, reserved);
            assert!(all.windows(2).all(|pair| pair[0].0 < pair[1].0));
            assert!(all.iter().all(|(ordinal, _)| ordinal.birth_days() < BIRTH_DAYS));
            assert!(all.iter().eq(made.reservations().collect::<Vec<_>>().iter()));
        }
    }

    #[test]
    fn free_numbers_are_not_in_the_register() {
        let made = MadeRegister { reserved: 50_000, seed: 1 };
        let all: HashSet<_> = made.reservations().map(|(ordinal, _)| ordinal).collect();
        let (reserved, free) = made.pick(&mut SmallRng::seed_from_u64(3));
        assert_eq!((reserved.len(), free.len()), (LISTED, LISTED));
        assert!(reserved.iter().all(|ordinal| all.contains(ordinal)));
        assert!(free.iter().all(|ordinal| !all.contains(ordinal)));
    }

    #[test]
    fn eighteen_hundreds_only() {
        let last = Ordinal::new(BIRTH_DAYS * SERIALS_PER_DAY - 1).expect("in range");
        assert!(last.pesel().digits().starts_with("999231"), "31 December 1899");
    }
}
