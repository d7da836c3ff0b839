//! `import`: register events, streamed to the admin plane.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::args::ImportArgs;
use super::client::{Client, ClientError, Upload};
use super::console;
use super::error::{CliError, Exit};
use super::lines::{LineTooLong, Lines};
use super::progress::{Progress, rate};
use super::rejected::{Blanks, RejectedFile};

const PATH: &str = "/admin/v1/import";
const PATH_MASS_CHANGE: &str = "/admin/v1/import?allow_mass_change=true";
/// Refused lines of one chunk that are named on standard error.
const NOTES_MAX: usize = 100;

/// Bytes of a block of the file.
const BLOCK_BYTES: usize = 256 * 1024;
/// Silence of the gateway, once it has everything, after which it is given up.
const SILENCE_MAX: Duration = Duration::from_secs(300);
/// Bytes of an answer's line: a chunk in which every line is refused.
const ANSWER_LINE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The answer to one chunk, or what ended the stream.
#[derive(Deserialize)]
struct ChunkAnswer {
    chunk: Option<u64>,
    #[serde(default)]
    lines: u64,
    #[serde(default)]
    accepted: u64,
    #[serde(default)]
    already_there: u64,
    #[serde(default)]
    errors: Vec<LineError>,
    error: Option<String>,
    detail: Option<String>,
}

#[derive(Deserialize)]
struct LineError {
    /// Counts lines with content from 0; people are told the number that an editor shows.
    line: u64,
    error: String,
    reason: Option<String>,
}

#[derive(Debug, Default, Serialize)]
struct Summary {
    lines: u64,
    accepted: u64,
    already_there: u64,
    chunks: u64,
    chunks_refused: u64,
    seconds: f64,
}

pub(super) async fn run(args: &ImportArgs, client: &Client) -> Result<Exit, CliError> {
    let (mut blocks, bytes) = read(&args.file)?;
    let mut progress = Progress::new(bytes, 0);
    let rejected = args.rejected.as_deref().map(RejectedFile::create).transpose()?;
    let mut taken = Taken { rejected, ..Taken::default() };
    let mut connection = client.connect().await?;
    let mut upload =
        client.upload(&mut connection, if args.allow_mass_change { PATH_MASS_CHANGE } else { PATH }).await?;
    let sent = exchange(&mut upload, &mut blocks, &mut taken, &mut progress).await;
    progress.clear();
    let Taken { mut summary, rejected, .. } = taken;
    rejected.map_or(Ok(()), RejectedFile::finish)?;
    summary.seconds = progress.elapsed().as_secs_f64();
    report(args, &summary, &progress)?;
    let lines = sent.map_err(|error| {
        CliError::Input(format!(
            "{error}; what is counted above is in the register, send the file again for the rest"
        ))
    })?;
    if summary.lines < lines {
        return Err(CliError::Input(format!("{} of {lines} lines were not answered", lines - summary.lines)));
    }
    Ok(if summary.chunks_refused == 0 { Exit::Done } else { Exit::Partly })
}

/// Sends blocks while answers come; gives the number of lines sent.
async fn exchange(
    upload: &mut Upload,
    blocks: &mut mpsc::Receiver<io::Result<Bytes>>,
    taken: &mut Taken,
    progress: &mut Progress,
) -> Result<u64, CliError> {
    let mut bytes = 0;
    let mut answers = Lines::new(ANSWER_LINE_BYTES_MAX);
    loop {
        let (lines, mut answer) = upload.split();
        let next = async {
            let Some(lines) = lines else { return std::future::pending().await };
            // A closed body means that the gateway has said its last word.
            let Ok(permit) = lines.reserve().await else { return std::future::pending().await };
            let block = blocks.recv().await.transpose()?;
            let is_finished = block.is_none();
            if let Some(block) = block {
                taken.counter.count(&block);
                bytes += block.len() as u64;
                permit.send(block);
            }
            Ok::<_, io::Error>(is_finished)
        };
        let is_sent = lines.is_none();
        tokio::select! {
            is_finished = next => match is_finished {
                Ok(true) => upload.finish(),
                Ok(false) => {}
                Err(error) => return Err(CliError::Input(format!("the input cannot be read: {error}"))),
            },
            frame = answer.next() => match frame? {
                Some(frame) => {
                    answers.feed(&frame, |line| taken.take(line))?;
                    progress.show(bytes, taken.summary.lines);
                }
                None if upload.lines().is_some() => {
                    return Err(ClientError::Unexpected("it ended before the file did".into()).into());
                }
                None => return Ok(taken.counter.total()),
            },
            () = tokio::time::sleep(SILENCE_MAX), if is_sent => {
                return Err(ClientError::Timeout("answer").into());
            }
        }
    }
}

/// What was sent and what became of it.
#[derive(Default)]
struct Taken {
    summary: Summary,
    rejected: Option<RejectedFile>,
    counter: LineCounter,
}

impl Taken {
    fn take(&mut self, line: &[u8]) -> Result<(), CliError> {
        let answer: ChunkAnswer =
            serde_json::from_slice(line).map_err(|error| ClientError::Unexpected(error.to_string()))?;
        let Some(chunk) = answer.chunk else {
            let code = answer.error.unwrap_or_else(|| "no chunk in it".into());
            return Err(CliError::Input(format!("{code}: {}", answer.detail.unwrap_or_default())));
        };
        let summary = &mut self.summary;
        let first_line = summary.lines;
        summary.chunks += 1;
        summary.lines += answer.lines;
        summary.accepted += answer.accepted;
        summary.already_there += answer.already_there;
        let is_refused = !answer.errors.is_empty() || answer.error.is_some();
        if is_refused {
            summary.chunks_refused += 1;
            let why = answer.error.map_or_else(String::new, |error| format!(": {error}"));
            console::note(&format!("chunk {chunk} refused, {} lines{why}", answer.lines));
        }
        for error in answer.errors.iter().take(NOTES_MAX) {
            let reason = error.reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
            let line = self.counter.blanks.line_number(error.line);
            console::note(&format!("line {line}: {}{reason}", error.error));
        }
        if answer.errors.len() > NOTES_MAX {
            console::note(&format!("... and {} more lines", answer.errors.len() - NOTES_MAX));
        }
        if let Some(rejected) = &mut self.rejected
            && is_refused
        {
            let codes: BTreeMap<u64, String> =
                answer.errors.into_iter().map(|error| (error.line, error.error)).collect();
            rejected.chunk(first_line, answer.lines, &codes, &self.counter.blanks)?;
        }
        Ok(())
    }
}

impl From<LineTooLong> for CliError {
    fn from(_: LineTooLong) -> Self {
        ClientError::Unexpected("a line of it is too long".into()).into()
    }
}

fn report(args: &ImportArgs, summary: &Summary, progress: &Progress) -> Result<(), CliError> {
    if args.json {
        let text = serde_json::to_string(summary).map_err(|error| CliError::Input(error.to_string()))?;
        return console::say(&text);
    }
    let Summary { lines, accepted, already_there, chunks, chunks_refused, .. } = summary;
    console::say(&format!(
        "{lines} lines: {accepted} accepted, {already_there} already there; {chunks_refused} of {chunks} chunks refused; {:.1} s, {:.0} lines a second",
        summary.seconds,
        rate(*lines, progress.elapsed()),
    ))
}

/// Reads the file in blocks on a thread of its own, a few ahead.
fn read(path: &Path) -> Result<(mpsc::Receiver<io::Result<Bytes>>, Option<u64>), CliError> {
    let (mut input, bytes): (Box<dyn Read + Send>, _) = if path == Path::new("-") {
        (Box::new(io::stdin()), None)
    } else {
        let file = File::open(path).map_err(CliError::file(path))?;
        let bytes = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len());
        (Box::new(file), bytes)
    };
    let (sender, receiver) = mpsc::channel(4);
    std::thread::spawn(move || {
        loop {
            let mut block = BytesMut::zeroed(BLOCK_BYTES);
            let item = match input.read(&mut block) {
                Ok(0) => return,
                Ok(length) => Ok(block.split_to(length).freeze()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let is_last = item.is_err();
            if sender.blocking_send(item).is_err() || is_last {
                return;
            }
        }
    });
    Ok((receiver, bytes))
}

/// Counts lines that are not blank; the last one may lack its end.
#[derive(Default)]
struct LineCounter {
    lines: u64,
    has_content: bool,
    blanks: Blanks,
}

impl LineCounter {
    fn count(&mut self, block: &[u8]) {
        let mut from = 0;
        for at in memchr::memchr_iter(b'\n', block).chain([block.len()]) {
            self.has_content |= !block[from..at].trim_ascii().is_empty();
            if at < block.len() {
                if std::mem::take(&mut self.has_content) {
                    self.lines += 1;
                } else {
                    self.blanks.push(self.lines);
                }
            }
            from = at + 1;
        }
    }

    fn total(&self) -> u64 {
        self.lines + u64::from(self.has_content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_over_block_borders() {
        let text = b"{}\n\n{}\r\n \r\n{}\nlast";
        for cut in 0..=text.len() {
            let mut counter = LineCounter::default();
            counter.count(&text[..cut]);
            counter.count(&text[cut..]);
            assert_eq!(counter.total(), 4, "cut at {cut}");
        }
    }

    #[test]
    fn answers_are_summed_up() {
        let mut taken = Taken::default();
        taken
            .take(br#"{"chunk":0,"lines":10000,"accepted":9990,"already_there":10,"sequence":9}"#)
            .expect("read");
        taken
            .take(br#"{"chunk":1,"lines":3,"accepted":0,"errors":[{"line":10002,"error":"not-reserved"}]}"#)
            .expect("read");
        let summary = &taken.summary;
        assert_eq!(
            (summary.lines, summary.accepted, summary.chunks, summary.chunks_refused),
            (10_003, 9_990, 2, 1)
        );
        let end = taken.take(br#"{"error":"register-unavailable","detail":"disk"}"#).expect_err("the end");
        assert_eq!(end.to_string(), "register-unavailable: disk");
        assert!(taken.take(b"{").is_err());
    }
}
