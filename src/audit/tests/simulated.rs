//! A disk in memory that remembers every operation, can fail any of them, and
//! can tell what would be left had the power gone at any moment.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::audit::disk::{Disk, DiskFile};
use crate::audit::exchange::lock;

/// What was asked of the disk, in order. Files are known by the order of their
/// creation: a name may move from one to another.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    Create { file: usize, name: String },
    Write { file: usize, offset: u64, bytes: Vec<u8> },
    Sync { file: usize },
    Rename { from: String, to: String },
    Remove { name: String },
    SyncDirectory,
}

/// Which operation is to fail, and how.
pub(super) type Fault = Box<dyn FnMut(&Operation) -> Option<io::Error> + Send>;

#[derive(Clone)]
pub(super) struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    files: Vec<Vec<u8>>,
    names: BTreeMap<String, usize>,
    log: Vec<Operation>,
    fault: Option<Fault>,
}

/// File contents by name: a disk at rest.
pub(super) type Image = BTreeMap<String, Vec<u8>>;

impl SimulatedDisk {
    pub(super) fn new() -> Self {
        Self::with(Image::new())
    }

    /// A disk that holds this, durably.
    pub(super) fn with(image: Image) -> Self {
        let mut state = State::default();
        for (name, bytes) in image {
            state.names.insert(name, state.files.len());
            state.files.push(bytes);
        }
        Self(Arc::new(Mutex::new(state)))
    }

    /// What it holds now.
    pub(super) fn image(&self) -> Image {
        let state = lock(&self.0);
        state.names.iter().map(|(name, file)| (name.clone(), state.files[*file].clone())).collect()
    }

    /// Changes a file behind the trail's back.
    pub(super) fn tamper(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = lock(&self.0);
        let file = state.names[name];
        change(&mut state.files[file]);
    }

    /// Flips one bit, again to flip it back.
    pub(super) fn flip(&self, name: &str, bit: usize) {
        self.tamper(name, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
    }

    pub(super) fn fail(&self, fault: Fault) {
        lock(&self.0).fault = Some(fault);
    }

    pub(super) fn heal(&self) {
        lock(&self.0).fault = None;
    }

    pub(super) fn log(&self) -> Vec<Operation> {
        lock(&self.0).log.clone()
    }

    pub(super) fn operations(&self) -> usize {
        lock(&self.0).log.len()
    }
}

impl State {
    fn perform(&mut self, operation: Operation) -> io::Result<()> {
        if let Some(error) = self.fault.as_mut().and_then(|fault| fault(&operation)) {
            return Err(error);
        }
        apply(&mut self.files, &mut self.names, &operation);
        self.log.push(operation);
        Ok(())
    }
}

fn apply(files: &mut Vec<Vec<u8>>, names: &mut BTreeMap<String, usize>, operation: &Operation) {
    match operation {
        Operation::Create { file, name } => {
            assert_eq!(*file, files.len());
            files.push(Vec::new());
            names.insert(name.clone(), *file);
        }
        Operation::Write { file, offset, bytes } => write(&mut files[*file], *offset, bytes),
        Operation::Rename { from, to } => {
            let file = names.remove(from).expect("a file to rename");
            names.insert(to.clone(), file);
        }
        Operation::Remove { name } => {
            names.remove(name);
        }
        Operation::Sync { .. } | Operation::SyncDirectory => {}
    }
}

fn write(file: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let end = offset as usize + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset as usize..end].copy_from_slice(bytes);
}

/// What of the unsynced writes reaches the disk when the power goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kept {
    /// Nothing.
    None,
    /// The first sectors, as many as this.
    First(usize),
    /// All but this one.
    AllBut(usize),
    /// Those whose bit is set.
    Mask(u64),
}

impl Kept {
    fn keeps(self, sector: usize) -> bool {
        match self {
            Self::None => false,
            Self::First(count) => sector < count,
            Self::AllBut(lost) => sector != lost,
            Self::Mask(mask) => mask >> (sector % 64) & 1 == 1,
        }
    }
}

/// What is left of a run that began with `start`, had the power gone after its
/// first `operations`; and how many sectors were unsynced then.
///
/// Changes of names that were not synced are lost, or all kept, by
/// `keep_names`. A sector is written as a whole or not at all.
pub(super) fn after_power_cut(
    start: &Image,
    log: &[Operation],
    operations: usize,
    sector_bytes: usize,
    kept: Kept,
    keep_names: bool,
) -> (Image, usize) {
    // `files` is what the programs see; `durable` what surely stays.
    let mut files: Vec<Vec<u8>> = start.values().cloned().collect();
    let mut names: BTreeMap<String, usize> =
        start.keys().enumerate().map(|(file, name)| (name.clone(), file)).collect();
    let mut durable = files.clone();
    let mut durable_names = names.clone();
    let mut unsynced: Vec<(usize, u64, Vec<u8>)> = Vec::new();
    for operation in &log[..operations] {
        apply(&mut files, &mut names, operation);
        match operation {
            Operation::Create { .. } => durable.push(Vec::new()),
            Operation::Write { file, offset, bytes } => {
                unsynced.extend(sectors(*file, *offset, bytes, sector_bytes));
            }
            Operation::Sync { file } => {
                durable[*file].clone_from(&files[*file]);
                unsynced.retain(|(of, ..)| of != file);
            }
            Operation::SyncDirectory => durable_names.clone_from(&names),
            Operation::Rename { .. } | Operation::Remove { .. } => {}
        }
    }
    for (nth, (file, offset, bytes)) in unsynced.iter().enumerate() {
        if kept.keeps(nth) {
            write(&mut durable[*file], *offset, bytes);
        }
    }
    let names = if keep_names { names } else { durable_names };
    let image = names.into_iter().map(|(name, file)| (name, durable[file].clone())).collect();
    (image, unsynced.len())
}

/// Cuts a write at the borders of sectors.
fn sectors(file: usize, offset: u64, bytes: &[u8], sector_bytes: usize) -> Vec<(usize, u64, Vec<u8>)> {
    let mut cut = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let place = offset as usize + at;
        let end = (at + sector_bytes - place % sector_bytes).min(bytes.len());
        cut.push((file, place as u64, bytes[at..end].to_vec()));
        at = end;
    }
    cut
}

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimulatedDisk")
    }
}

struct SimulatedFile {
    disk: SimulatedDisk,
    file: usize,
}

impl Disk for SimulatedDisk {
    fn path(&self) -> &Path {
        Path::new("trail")
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(lock(&self.0).names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = lock(&self.0);
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = state.files.len();
        state.perform(Operation::Create { file, name: name.to_owned() })?;
        Ok(Box::new(SimulatedFile { disk: self.clone(), file }))
    }

    fn open(&self, name: &str, _write: bool) -> io::Result<Box<dyn DiskFile>> {
        let file = *lock(&self.0).names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(SimulatedFile { disk: self.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        lock(&self.0).perform(Operation::Rename { from: from.to_owned(), to: to.to_owned() })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = lock(&self.0);
        if !state.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.perform(Operation::Remove { name: name.to_owned() })
    }

    fn sync_directory(&self) -> io::Result<()> {
        lock(&self.0).perform(Operation::SyncDirectory)
    }
}

impl DiskFile for SimulatedFile {
    fn length(&self) -> io::Result<u64> {
        Ok(lock(&self.disk.0).files[self.file].len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = lock(&self.disk.0);
        let held = state.files[self.file].get(offset as usize..).unwrap_or_default();
        let bytes = held.len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&held[..bytes]);
        Ok(bytes)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        lock(&self.disk.0).perform(Operation::Write { file: self.file, offset, bytes: bytes.to_vec() })
    }

    fn sync(&self) -> io::Result<()> {
        lock(&self.disk.0).perform(Operation::Sync { file: self.file })
    }
}

/// Where the simulated trail lies.
pub(super) fn file_path(name: &str) -> PathBuf {
    Path::new("trail").join(name)
}
