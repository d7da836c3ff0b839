//! A disk in memory that can fail, and lose what was not synced.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::{Database, StorageBackend};

use super::super::store::{OpenMode, Opener};

#[derive(Debug, Clone, Default)]
pub(super) struct Disk(Arc<Mutex<Platter>>);

#[derive(Debug, Default)]
struct Platter {
    synced: Vec<u8>,
    /// What was written and not synced, in order.
    unsynced: Vec<Write>,
    /// The same as seen by the process.
    seen: Vec<u8>,
    /// Writing operations done.
    operations: u64,
    /// From this operation on all fail.
    fails_from: Option<u64>,
    /// How often the register was opened.
    openings: u64,
    /// An opening may do so many operations, and what comes after it fails.
    opens_only: Option<u64>,
}

#[derive(Debug, Clone)]
enum Write {
    Bytes(u64, Vec<u8>),
    Length(u64),
}

/// What a loss of power leaves of the writes that were not synced.
#[derive(Debug, Clone, Copy)]
pub(super) enum Left {
    Nothing,
    Everything,
    EverySecond,
}

impl Disk {
    pub(super) fn opener(&self) -> Opener {
        let disk = self.clone();
        Box::new(move |_: OpenMode| {
            disk.opening();
            Ok(Database::builder().create_with_backend(disk.clone())?)
        })
    }

    pub(super) fn operations(&self) -> u64 {
        self.platter().operations
    }

    /// Writes and syncs fail from this operation on.
    pub(super) fn fail_from(&self, operation: u64) {
        self.platter().fails_from = Some(operation);
    }

    /// Everything that goes to the disk waits until this is dropped.
    pub(super) fn hold(&self) -> impl Drop + '_ {
        self.platter()
    }

    /// As a full disk: the register can be opened, in so many operations, and nothing
    /// else.
    pub(super) fn let_itself_be_opened_only(&self, operations: u64) {
        let mut platter = self.platter();
        platter.opens_only = Some(operations);
        platter.fails_from = Some(platter.operations);
    }

    /// How often the register was opened.
    pub(super) fn openings(&self) -> u64 {
        self.platter().openings
    }

    fn opening(&self) {
        let mut platter = self.platter();
        platter.openings += 1;
        if let Some(operations) = platter.opens_only {
            platter.fails_from = Some(platter.operations + operations);
        }
    }

    pub(super) fn heal(&self) {
        let mut platter = self.platter();
        (platter.fails_from, platter.opens_only) = (None, None);
    }

    /// The disk as it is found after a loss of power.
    pub(super) fn after_power_loss(&self, left: Left) -> Self {
        let platter = self.platter();
        let mut bytes = platter.synced.clone();
        for (index, write) in platter.unsynced.iter().enumerate() {
            let survives = match left {
                Left::Nothing => false,
                Left::Everything => true,
                Left::EverySecond => index % 2 == 0,
            };
            if survives {
                write.apply(&mut bytes);
            }
        }
        let synced = bytes.clone();
        Self(Arc::new(Mutex::new(Platter { synced, seen: bytes, ..Platter::default() })))
    }

    /// Holds what the other one holds from now on: the file was exchanged.
    pub(super) fn put_back(&self, other: &Self) {
        let (synced, seen) = {
            let other = other.platter();
            (other.synced.clone(), other.seen.clone())
        };
        let mut platter = self.platter();
        (platter.synced, platter.seen, platter.unsynced) = (synced, seen, Vec::new());
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().expect("no test panics with it")
    }

    fn write(&self, write: Write) -> io::Result<()> {
        let mut platter = self.platter();
        platter.step()?;
        write.apply(&mut platter.seen);
        platter.unsynced.push(write);
        Ok(())
    }
}

impl Platter {
    fn step(&mut self) -> io::Result<()> {
        if self.fails_from.is_some_and(|from| self.operations >= from) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.operations += 1;
        Ok(())
    }
}

impl Write {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Length(length) => bytes.resize(*length as usize, 0),
            Self::Bytes(offset, data) => {
                let end = *offset as usize + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset as usize..end].copy_from_slice(data);
            }
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.platter().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.platter();
        let from = platter.seen.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.write(Write::Length(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.platter();
        platter.step()?;
        let Platter { synced, unsynced, .. } = &mut *platter;
        for write in unsynced.drain(..) {
            write.apply(synced);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        Disk::write(self, Write::Bytes(offset, data.to_vec()))
    }
}
