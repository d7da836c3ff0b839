//! `bulk`: a whole CSV file, streamed.
//!
//! A thread reads rows and makes batches (`input`); one task sends their numbers
//! and takes the answers at the same time (`job`); each row goes out as soon as
//! it is answered (`output`). Only a window of rows is ever held. What is done
//! is kept over interruptions (`resume`).

mod answer;
mod guarded;
mod input;
mod job;
mod output;
mod resume;
mod stop;
mod tally;
#[cfg(test)]
mod tests;
mod window;

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::args::BulkArgs;
use super::client::Client;
use super::console;
use super::error::{CliError, Exit};
use super::progress::Progress;
use crate::limits;
use input::Input;
use job::Job;
use output::{Sink, Target};
use resume::{Files, Saver, Task};
use stop::Stop;
use tally::Tally;
use window::Batches;

/// How the work is cut and how long it is tried; a test uses other figures.
#[derive(Debug, Clone, Copy)]
struct Terms {
    /// Lines of one stream, at the most.
    stream_lines_max: u64,
    /// Rows of a batch.
    batch_rows: usize,
    /// Batches in flight between the file and its result.
    window_batches: usize,
    /// Attempts without any progress before it is given up.
    attempts_max: u32,
    /// Pause before the second attempt; doubled before each further one.
    pause: Duration,
    /// Silence of the gateway after which it is taken for dead. Long: a key's
    /// limits may make it slow.
    silence_max: Duration,
    /// How long a stream is kept open for a file that gives no rows.
    idle_max: Duration,
    /// How often it is looked after all of this, and the state saved.
    tick: Duration,
}

impl Terms {
    const USUAL: Self = Self {
        stream_lines_max: limits::STREAM_LINES_MAX,
        batch_rows: limits::STREAM_CHUNK_LINES_MAX,
        window_batches: 16,
        attempts_max: 6,
        pause: Duration::from_millis(250),
        silence_max: Duration::from_secs(300),
        idle_max: Duration::from_secs(3),
        tick: Duration::from_millis(500),
    };
}

pub(super) async fn run(args: &BulkArgs, client: Client) -> Result<Exit, CliError> {
    let (interrupt, interrupted) = watch::channel(false);
    tokio::spawn(async move {
        signal().await;
        interrupt.send(true).ok();
        // The sender must live on: an end without a signal is none.
        std::future::pending::<()>().await;
    });
    check(args, client, Terms::USUAL, interrupted).await
}

/// Ctrl-C, or the end that a service manager asks for.
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        },
        Err(_) => tokio::signal::ctrl_c().await.unwrap_or_default(),
    }
}

async fn check(
    args: &BulkArgs,
    client: Client,
    terms: Terms,
    interrupted: watch::Receiver<bool>,
) -> Result<Exit, CliError> {
    let mut input = Input::open(&args.file, &args.column, args.delimiter)?;
    let doubled = input.doubled();
    if !doubled.is_empty() {
        let names = doubled.join("`, `");
        console::note(&format!(
            "peselgate: warning: the input has `{names}` already; the last of the name is new"
        ));
    }
    let start = begin(args, &client, &mut input)?;
    let resumed = start.tally.rows();
    let progress = Progress::new(input.bytes(), resumed);
    let batches = read_ahead(input, terms);
    let mut job = Job::new(client, terms, batches, start, interrupted, progress);
    let ended = job.run().await;
    let (tally, elapsed) = job.summary();
    let kept = job.close(ended.is_ok());
    let error = match (ended, kept) {
        (Ok(()), Ok(())) => None,
        (Err(stop), Ok(())) => Some(describe(args, &stop, tally)),
        (Ok(()), Err(error)) => Some(error.to_string()),
        (Err(stop), Err(error)) => Some(format!("{}; and {error}", describe(args, &stop, tally))),
    };
    if args.json {
        console::note(&tally.json(resumed, elapsed, error.as_deref()));
    } else {
        console::note(&tally.sentence(resumed, elapsed));
    }
    Ok(match error {
        None if tally.has_wrong() => Exit::Partly,
        None => Exit::Done,
        Some(error) => {
            if !args.json {
                console::note(&format!("peselgate: {error}"));
            }
            Exit::Failed
        }
    })
}

/// Where the work begins: the output, and what was done before.
struct Start {
    sink: Sink<Target>,
    /// The files to complete, when it is not standard output.
    files: Option<(Files, File)>,
    /// Keeps the state; none when the input cannot be read again.
    saver: Option<Saver>,
    tally: Tally,
    input_bytes: u64,
}

fn begin(args: &BulkArgs, client: &Client, input: &mut Input) -> Result<Start, CliError> {
    let shape = input.shape();
    let Some(output) = &args.output else {
        let mut sink = Sink::new(Target::Stdout(std::io::stdout()), 0, shape);
        sink.header(input.header()).map_err(CliError::file(Path::new("standard output")))?;
        let input_bytes = input.position();
        return Ok(Start { sink, files: None, saver: None, tally: Tally::default(), input_bytes });
    };
    let files = Files::beside(output);
    let mut part = files.open_part()?;
    if args.restart {
        files.forget()?;
    }
    let task = input.identity().map(|identity| Task {
        input: identity.clone(),
        column: args.column.clone(),
        delimiter: char::from(args.delimiter),
        gateway: client.endpoint().to_string(),
        key: client.credential().to_owned(),
    });
    let state = match &task {
        Some(task) => files.state(task, &part)?,
        None => {
            files.none_interrupted()?;
            None
        }
    };
    let io = CliError::file(output);
    let mark = state.as_ref().map_or(0, |state| state.mark.output_bytes);
    resume::cut(&mut part, mark).map_err(&io)?;
    let handle = || part.try_clone().map_err(&io);
    let saver = match task {
        Some(task) => Some(Saver::start(files.clone(), handle()?, task)),
        None => None,
    };
    let mut sink = Sink::new(Target::Part(handle()?), mark, shape);
    let tally = match &state {
        Some(state) => {
            input.go_to(state.mark.input_bytes).map_err(CliError::file(&args.file))?;
            state.tally
        }
        None => {
            sink.header(input.header()).map_err(&io)?;
            Tally::default()
        }
    };
    Ok(Start { sink, files: Some((files, part)), saver, tally, input_bytes: input.position() })
}

/// Reads on a thread of its own, a few batches ahead.
fn read_ahead(mut input: Input, terms: Terms) -> Batches {
    // A batch must fit into a stream.
    let rows = terms.batch_rows.min(usize::try_from(terms.stream_lines_max).unwrap_or(usize::MAX));
    let (sender, receiver) = mpsc::channel(4);
    std::thread::spawn(move || {
        while let Some(batch) = input.batch(rows).transpose() {
            let is_last = batch.is_err();
            if sender.blocking_send(batch).is_err() || is_last {
                return;
            }
        }
    });
    receiver
}

fn describe(args: &BulkArgs, stop: &Stop, tally: Tally) -> String {
    let can_resume = args.output.is_some() && args.file != Path::new("-");
    let hint = if can_resume { "; the same command goes on from there" } else { "" };
    format!("stopped after {} rows: {stop}{hint}", tally.rows())
}
