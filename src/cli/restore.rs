//! `restore`: a backup into a new data directory, or judged.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::backup_args::RestoreArgs;
use super::console;
use super::error::{CliError, Exit};
use super::progress::Progress;
use crate::backup::Held;

pub(super) fn run(args: &RestoreArgs) -> Result<Exit, CliError> {
    let (input, bytes) = open(&args.file)?;
    let mut progress = Progress::of_bytes(bytes);
    let mut counted = Counted { input, bytes: 0, progress: &mut progress };
    let held = match &args.data_dir {
        Some(data_dir) => crate::app::restore::restore(&mut counted, data_dir),
        None => crate::app::restore::verify(&mut counted),
    };
    progress.clear();
    let held = held?;
    if args.json {
        let text = serde_json::to_string(&held).map_err(|error| CliError::Input(error.to_string()))?;
        console::say(&text)?;
    } else {
        let outcome = match &args.data_dir {
            Some(data_dir) => format!("{}: restored", data_dir.display()),
            None => format!("{}: whole", args.file.display()),
        };
        console::say(&format!("{outcome}: {}", told(&held)))?;
    }
    Ok(Exit::Done)
}

/// What a backup holds, in a line.
fn told(held: &Held) -> String {
    format!(
        "the {} environment as of {}, event {} ({}), {} reserved of {} entries, {} keys, {} tokens, \
         {} verifications in {} records of {} segments, {} bytes",
        held.environment,
        held.made_at.in_poland(),
        held.sequence,
        held.as_of.in_poland(),
        held.reserved,
        held.entries,
        held.keys,
        held.tokens,
        held.verifications,
        held.trail_records,
        held.trail_segments,
        held.bytes
    )
}

fn open(file: &Path) -> Result<(Box<dyn Read>, Option<u64>), CliError> {
    if file == Path::new("-") {
        return Ok((Box::new(io::stdin().lock()), None));
    }
    let opened = File::open(file).map_err(CliError::file(file))?;
    let bytes = opened.metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len());
    Ok((Box::new(BufReader::with_capacity(256 * 1024, opened)), bytes))
}

/// Counts what is read.
struct Counted<'p> {
    input: Box<dyn Read>,
    bytes: u64,
    progress: &'p mut Progress,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.input.read(buffer)?;
        self.bytes += got as u64;
        self.progress.show_bytes(self.bytes);
        Ok(got)
    }
}
