//! Going on after an interruption: the work is in `FILE.part`, how much of it is
//! complete in `FILE.resume`, and `FILE` itself appears when all is done.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};

use super::input::Identity;
use super::tally::Tally;
use crate::cli::error::CliError;
use crate::cli::place;
use crate::datadir::sync_name;

/// The format of the state's file.
const VERSION: u32 = 2;

/// How far the work is. Rows behind it in the part file do not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    version: u32,
    pub(super) task: Task,
    pub(super) mark: Mark,
    pub(super) tally: Tally,
}

/// What is done to which file, and who answers: another task does not go on with
/// this work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Task {
    pub(super) input: Identity,
    pub(super) column: String,
    pub(super) delimiter: char,
    /// The gateway's URL, as its client shows it. Answers of two gateways in one
    /// result could not be told apart: those of a test would pass for real ones.
    pub(super) gateway: String,
    /// The key without its secret; it names the environment. A new key of the same
    /// institution is another one, too: only the gateway knows whose keys are.
    pub(super) key: String,
}

impl Task {
    /// Why work of another task is not gone on with; `None` when it is this one's.
    fn refusal(&self, work: &Self) -> Option<String> {
        if (&work.input, &work.column, work.delimiter) != (&self.input, &self.column, self.delimiter) {
            return Some("belongs to another input, or to another --column or --delimiter".to_owned());
        }
        if (&work.gateway, &work.key) != (&self.gateway, &self.key) {
            // What a file says must not steer a terminal.
            let shown = |text: &str| text.replace(char::is_control, " ");
            let (gateway, key) = (shown(&work.gateway), shown(&work.key));
            return Some(format!(
                "belongs to work with another gateway or key; {gateway} with the key {key} goes on with it"
            ));
        }
        None
    }
}

/// A border between two rows, on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mark {
    /// Bytes of the input before it.
    pub(super) input_bytes: u64,
    /// Bytes of the part file before it.
    pub(super) output_bytes: u64,
}

/// The three files beside one another.
#[derive(Debug, Clone)]
pub(super) struct Files {
    done: PathBuf,
    part: PathBuf,
    state: PathBuf,
}

impl Files {
    pub(super) fn beside(output: &Path) -> Self {
        let with = |suffix: &str| {
            let mut name = OsString::from(output);
            name.push(suffix);
            PathBuf::from(name)
        };
        Self { done: output.to_owned(), part: with(".part"), state: with(".resume") }
    }

    /// Opens the part file for this process alone. It holds numbers with what is
    /// said of them: nobody but its owner reads it, nor what becomes of it.
    pub(super) fn open_part(&self) -> Result<File, CliError> {
        for file in [&self.done, &self.part, &self.state] {
            place::takes_a_file(file)?;
        }
        let io = CliError::file(&self.part);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.part)
            .map_err(&io)?;
        match file.try_lock() {
            Ok(()) => {
                // One that was there may be open to others.
                file.set_permissions(Permissions::from_mode(0o600)).map_err(io)?;
                Ok(file)
            }
            Err(TryLockError::WouldBlock) => {
                Err(CliError::Input(format!("{} is in use by another process", self.part.display())))
            }
            Err(TryLockError::Error(error)) => Err(io(error)),
        }
    }

    /// What an interrupted run left; `None` when there is nothing to go on with.
    ///
    /// # Errors
    /// When it belongs to another task, or is not whole: it is not thrown away
    /// without a word.
    pub(super) fn state(&self, task: &Task, part: &File) -> Result<Option<State>, CliError> {
        let text = match std::fs::read(&self.state) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(CliError::file(&self.state)(error)),
        };
        let refused = |why: &str| {
            let (state, part) = (self.state.display(), self.part.display());
            CliError::Input(format!("{state}: {why}; --restart throws it and {part} away and begins anew"))
        };
        let state: State =
            serde_json::from_slice(&text).map_err(|_| refused("not written by this version of peselgate"))?;
        if state.version != VERSION {
            return Err(refused("not written by this version of peselgate"));
        }
        if let Some(why) = task.refusal(&state.task) {
            return Err(refused(&why));
        }
        let length = part.metadata().map_err(CliError::file(&self.part))?.len();
        if length < state.mark.output_bytes {
            return Err(refused("names more than the work that is there"));
        }
        Ok(Some(state))
    }

    /// A pipe is never the same again: there is nothing to go on with.
    ///
    /// # Errors
    /// When there is interrupted work of another input.
    pub(super) fn none_interrupted(&self) -> Result<(), CliError> {
        let is_there = self.state.try_exists().map_err(CliError::file(&self.state))?;
        let (state, part) = (self.state.display(), self.part.display());
        let refused = || {
            CliError::Input(format!(
                "{state}: belongs to another input; --restart throws it and {part} away and begins anew"
            ))
        };
        if is_there { Err(refused()) } else { Ok(()) }
    }

    /// Takes away what an interrupted run left.
    pub(super) fn forget(&self) -> Result<(), CliError> {
        match std::fs::remove_file(&self.state) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(CliError::file(&self.state)(error)),
            _ => Ok(()),
        }
    }

    /// The work is complete: the part becomes the file.
    pub(super) fn complete(&self, part: &File) -> Result<(), CliError> {
        part.sync_all().map_err(CliError::file(&self.part))?;
        let named = std::fs::rename(&self.part, &self.done).and_then(|()| sync_name(&self.done));
        named.map_err(CliError::file(&self.done))?;
        self.forget()
    }

    /// Writes the state after the bytes that it speaks of are on the disk.
    fn save(&self, part: &File, state: &State) -> io::Result<()> {
        part.sync_data()?;
        let mut new = self.state.clone().into_os_string();
        new.push(".new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(state)?)?;
        file.sync_data()?;
        std::fs::rename(&new, &self.state)
    }
}

/// Cuts the part file behind the last complete row, and goes there.
pub(super) fn cut(part: &mut File, mark: u64) -> io::Result<()> {
    part.set_len(mark)?;
    part.seek(SeekFrom::Start(mark)).map(drop)
}

/// Saves states on a thread of its own: the disk may take its time, the
/// connection may not.
pub(super) struct Saver {
    states: SyncSender<State>,
    thread: JoinHandle<io::Result<()>>,
    task: Task,
}

impl Saver {
    pub(super) fn start(files: Files, part: File, task: Task) -> Self {
        let (states, todo) = sync_channel(1);
        let thread = std::thread::spawn(move || save_all(&files, &part, &todo));
        Self { states, thread, task }
    }

    /// Asks for a save; dropped while another one is waiting. `false` when saving
    /// has failed.
    pub(super) fn offer(&self, mark: Mark, tally: Tally) -> bool {
        !matches!(self.states.try_send(self.state(mark, tally)), Err(TrySendError::Disconnected(_)))
    }

    /// Saves a last time and waits for it.
    pub(super) fn finish(self, mark: Mark, tally: Tally) -> io::Result<()> {
        let state = self.state(mark, tally);
        // A failure is the thread's own result.
        self.states.send(state).ok();
        drop(self.states);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("saving the state failed")))
    }

    fn state(&self, mark: Mark, tally: Tally) -> State {
        State { version: VERSION, task: self.task.clone(), mark, tally }
    }
}

fn save_all(files: &Files, part: &File, states: &Receiver<State>) -> io::Result<()> {
    states.iter().try_for_each(|state| files.save(part, &state))
}
