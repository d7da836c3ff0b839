//! What is kept and comes back: the set for exchange, archives, rows of stores.

use std::fmt::Debug;

use roaring::RoaringBitmap;
use sha2::{Digest, Sha256};

use crate::access::AccessImport;
use crate::backup::{self, BackupError, Content, Held, Restoring, fuzzed};
use crate::environment::Environment;
use crate::pesel::ORDINALS;
use crate::register::{ExchangedSet, RegisterImport};
use crate::rows::{Chunk, Rows};

/// Whatever is read as a set for exchange is written as the same bytes and holds
/// ordinals alone; so is one whose frame was made to fit.
pub fn snapshot(data: &[u8]) {
    exchanged(data);
    if let Some((sequence_and_moment, set)) = data.split_first_chunk::<16>() {
        let count = RoaringBitmap::deserialize_from(set).map_or(0, |set| set.len());
        exchanged(&framed(sequence_and_moment, count, set));
    }
}

fn exchanged(file: &[u8]) {
    let set = match ExchangedSet::from_bytes(file) {
        Ok(set) => set,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert_eq!(set.to_bytes(), file, "one set, two files");
    assert!(set.ordinals.iter().all(|ordinal| ordinal < ORDINALS));
    assert_eq!(set.ordinals.iter().count() as u64, set.ordinals.len());
    assert!(ExchangedSet::from_bytes(&file[..file.len() - 1]).is_err());
}

/// The frame by its specification.
fn framed(sequence_and_moment: &[u8; 16], count: u64, set: &[u8]) -> Vec<u8> {
    let mut file = b"PESELSET\x01\0\0\0".to_vec();
    file.extend_from_slice(sequence_and_moment);
    file.extend_from_slice(&count.to_le_bytes());
    file.extend_from_slice(&(set.len() as u64).to_le_bytes());
    let sum = Sha256::new().chain_update(&file).chain_update(set).finalize();
    file.extend_from_slice(&sum);
    file.extend_from_slice(set);
    file
}

/// Whatever is read as a whole archive has frames that are written as the same
/// bytes, and is no archive without its last one; what is judged good was whole.
/// The same of an archive whose frames were made to fit: each a kind, a length of
/// two bytes and a content.
pub fn backup(data: &[u8]) {
    archive(data);
    archive(&fuzzed::assembled(Script(data)));
}

struct Script<'a>(&'a [u8]);

impl<'a> Iterator for Script<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let ([kind, low, high], rest) = self.0.split_first_chunk()?;
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (content, rest) = rest.split_at(length);
        self.0 = rest;
        Some((*kind, content))
    }
}

/// Looks at the frames and the digest alone.
struct Nobody;

impl Content for Nobody {}

fn archive(bytes: &[u8]) {
    let received = backup::read(bytes, &mut Nobody);
    match &received {
        Ok(received) => {
            assert_eq!(received.bytes, bytes.len() as u64);
            assert_eq!(fuzzed::reframed(bytes).as_deref(), Some(bytes));
            assert!(backup::read(&bytes[..bytes.len() - 1], &mut Nobody).is_err());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    match judged(bytes) {
        Ok(held) => {
            assert_eq!(received.map(|received| received.bytes).ok(), Some(held.bytes));
            assert!(held.reserved <= held.entries && held.entries <= held.sequence);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn judged(bytes: &[u8]) -> Result<Held, BackupError> {
    let mut restoring = Restoring::judging();
    let received = backup::read(bytes, &mut restoring)?;
    restoring.finish(&received)
}

/// Chunks of rows, each behind a length of two bytes: no store's import panics on
/// them, each judges them twice alike, and a chunk that is read whole is written
/// as the same bytes.
pub fn rows(data: &[u8]) {
    let chunks: Vec<&[u8]> = Chunks(data).collect();
    for chunk in &chunks {
        rewritten(chunk);
    }
    let register = || {
        let mut import = RegisterImport::judging();
        chunks.iter().try_for_each(|chunk| import.chunk(chunk)).and_then(|()| import.finish())
    };
    twice(register);
    for environment in [Environment::Test, Environment::Production] {
        let access = || {
            let mut import = AccessImport::judging(environment);
            chunks.iter().try_for_each(|chunk| import.chunk(chunk)).and_then(|()| import.finish())
        };
        twice(access);
    }
}

struct Chunks<'a>(&'a [u8]);

impl<'a> Iterator for Chunks<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk()?;
        let (chunk, rest) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
        self.0 = rest;
        Some(chunk)
    }
}

fn rewritten(chunk: &[u8]) {
    let Ok(rows) = Rows::of(chunk) else { return };
    let mut again = Chunk::of(rows.table);
    for row in rows {
        let Ok((key, value)) = row else { return };
        assert!(again.push(key, value).is_ok(), "a row that no chunk can hold");
    }
    assert_eq!(again.bytes(), chunk);
}

/// Errors name places and reasons, so they are compared as well.
fn twice<T: Debug, E: Debug + std::fmt::Display>(judge: impl Fn() -> Result<T, E>) {
    let (first, second) = (judge(), judge());
    assert_eq!(format!("{first:?}"), format!("{second:?}"));
    if let Err(error) = first {
        assert!(!error.to_string().is_empty());
    }
}
