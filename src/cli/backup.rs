//! `backup`: the admin plane's archive into a file, checked while it arrives.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::json;
use tokio::sync::mpsc;

use super::backup_args::BackupArgs;
use super::client::{Client, ClientError};
use super::console;
use super::error::{CliError, Exit};
use super::place;
use super::progress::Progress;
use crate::backup::{BackupError, Content, Manifest, Received};
use crate::datadir::sync_name;

const PATH: &str = "/admin/v1/backup";
/// Silence of the gateway after which it is given up.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// Pieces between the connection and the disk.
const PIECES_AHEAD: usize = 8;

pub(super) async fn run(args: &BackupArgs, client: &Client) -> Result<Exit, CliError> {
    let target = Target::of(&args.output)?;
    let mut connection = client.connect().await?;
    // Before the file: whoever is refused leaves nothing behind.
    let body = client.download(&mut connection, PATH).await?;
    let output = target.create()?;
    let (pieces, arriving) = mpsc::channel(PIECES_AHEAD);
    let checking = tokio::task::spawn_blocking(move || check(arriving, output));
    let arrived = pass(body, &pieces).await;
    drop(pieces);
    let checked = checking.await.map_err(|_| CliError::Input("the check of the backup ended".into()));
    // A connection that broke is the cause of whatever is then missing.
    let kept = arrived.and_then(|()| {
        let (received, output) = checked??;
        target.keep(output)?;
        Ok(received)
    });
    if kept.is_err() {
        target.discard();
    }
    report(args, &kept?)?;
    Ok(Exit::Done)
}

/// Hands on what arrives. That the check has ended early is its own to tell.
async fn pass(mut body: Incoming, pieces: &mpsc::Sender<Bytes>) -> Result<(), CliError> {
    loop {
        let frame = tokio::time::timeout(SILENCE_MAX, body.frame()).await;
        let Some(frame) = frame.map_err(|_| ClientError::Timeout("bytes"))? else { return Ok(()) };
        let Ok(bytes) = frame.map_err(ClientError::Http)?.into_data() else { continue };
        if pieces.send(bytes).await.is_err() {
            return Ok(());
        }
    }
}

/// Writes what arrives and reads it as an archive, on a thread where both may wait.
fn check(
    arriving: mpsc::Receiver<Bytes>,
    output: Box<dyn Output>,
) -> Result<(Received, Box<dyn Output>), CliError> {
    let expected = Cell::new(0);
    let progress = Progress::of_bytes(None);
    let mut tee = Tee { arriving, piece: Bytes::new(), output, bytes: 0, expected: &expected, progress };
    let received = crate::backup::read(&mut tee, &mut Expectation(&expected));
    tee.progress.clear();
    let output = tee.output;
    Ok((received.map_err(|error| CliError::Input(error.to_string()))?, output))
}

/// Takes the manifest's word for how long it will be.
struct Expectation<'c>(&'c Cell<u64>);

impl Content for Expectation<'_> {
    fn manifest(&mut self, manifest: &Manifest) -> Result<(), BackupError> {
        self.0.set(manifest.expected_bytes);
        Ok(())
    }
}

/// Reads what arrives, and writes all that is read.
struct Tee<'c> {
    arriving: mpsc::Receiver<Bytes>,
    piece: Bytes,
    output: Box<dyn Output>,
    bytes: u64,
    expected: &'c Cell<u64>,
    progress: Progress,
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.arriving.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
            self.output.write_all(&self.piece)?;
            self.bytes += self.piece.len() as u64;
            self.progress.expect(self.expected.get().max(self.bytes));
            self.progress.show_bytes(self.bytes);
        }
        let taken = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..taken]);
        Ok(taken)
    }
}

/// A file or standard output; what was written to it can be made to stay.
trait Output: Write + Send {
    fn settle(&mut self) -> io::Result<()>;
}

impl Output for File {
    fn settle(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

impl Output for io::Stdout {
    fn settle(&mut self) -> io::Result<()> {
        self.flush()
    }
}

/// Where the backup goes.
enum Target {
    Stdout,
    File { path: PathBuf, partial: PathBuf },
}

impl Target {
    /// A file must not be there yet: a backup is never written over.
    fn of(output: &Path) -> Result<Self, CliError> {
        if output == Path::new("-") {
            return Ok(Self::Stdout);
        }
        place::takes_a_file(output)?;
        if output.exists() {
            return Err(CliError::Usage(format!("{} is there already", output.display())));
        }
        let name = output.file_name().ok_or_else(|| CliError::Usage("--output names no file".into()))?;
        let mut name = name.to_owned();
        name.push(".partial");
        Ok(Self::File { path: output.to_owned(), partial: output.with_file_name(name) })
    }

    fn create(&self) -> Result<Box<dyn Output>, CliError> {
        let Self::File { partial, .. } = self else { return Ok(Box::new(io::stdout())) };
        // One that was cut off is worth nothing; made anew, it has our mode.
        place::takes_a_file(partial)?;
        match fs::remove_file(partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(CliError::file(partial)(error));
            }
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(partial);
        Ok(Box::new(file.map_err(CliError::file(partial))?))
    }

    /// The backup is whole: it gets its name once it is on the disk.
    fn keep(&self, mut output: Box<dyn Output>) -> Result<(), CliError> {
        match self {
            Self::Stdout => output.settle().map_err(CliError::file(Path::new("standard output"))),
            Self::File { path, partial } => {
                output.settle().map_err(CliError::file(partial))?;
                fs::rename(partial, path).map_err(CliError::file(path))?;
                sync_name(path).map_err(CliError::file(path))
            }
        }
    }

    fn discard(&self) {
        if let Self::File { partial, .. } = self {
            // It need not be there; the error that led here is the one to tell.
            drop(fs::remove_file(partial));
        }
    }
}

fn report(args: &BackupArgs, received: &Received) -> Result<(), CliError> {
    let Manifest { environment, version, made_at, register, trail, .. } = &received.manifest;
    let text = if args.json {
        json!({
            "environment": environment,
            "version": version,
            "made_at": made_at,
            "sequence": register.sequence,
            "as_of": register.as_of,
            "reserved": register.reserved,
            "entries": register.entries,
            "trail_segments": trail.segments,
            "trail_records": trail.records,
            "bytes": received.bytes,
        })
        .to_string()
    } else {
        format!(
            "{}: the {environment} environment as of {}, event {} ({}), {} reserved, {} trail records, {} bytes",
            args.output.display(),
            made_at.in_poland(),
            register.sequence,
            register.as_of.in_poland(),
            register.reserved,
            trail.records,
            received.bytes
        )
    };
    if args.output == Path::new("-") {
        console::note(&text);
        Ok(())
    } else {
        console::say(&text)
    }
}
