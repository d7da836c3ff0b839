//! `GET /admin/v1/backup`: the whole data directory as one archive, made while
//! the gateway answers.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::Method;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::{Caller, Handles};
use crate::access::{DirectoryReader, Role};
use crate::backup::{Backup, Gone, NotBegun, Piece, WriteError};
use crate::gate::Officer;
use crate::http::problem::{Code, Problem};
use crate::http::stall::Unhurried;

/// Pieces made ahead of a slow reader: the back-pressure, and about a megabyte.
const PIECES_AHEAD: usize = 4;
/// A reader that takes nothing for this long is given up: while it is waited
/// for, the stores may not use again what they free.
const STALL_MAX: Duration = Duration::from_secs(60);
/// How long the maker rests when its reader is behind.
const REST: Duration = Duration::from_millis(2);

/// HEAD is no way to ask: a GET without its body would make the archive all the same.
pub(super) async fn backup(State(handles): State<Handles>, request: Request) -> Result<Response, Problem> {
    if request.method() != Method::GET {
        return Err(Problem::method_not_allowed("GET"));
    }
    let caller = Caller::from_request_parts(&mut request.into_parts().0, &handles).await?;
    let officer = caller.needs(&[Role::Operator])?;
    let backup = handles.backups.begin().await.map_err(|error| refused(error, &handles))?;
    let (pieces, receiver) = mpsc::channel(PIECES_AHEAD);
    tracing::info!(
        token_id = %officer.token_id(),
        sequence = backup.manifest().register.sequence,
        "a backup begins"
    );
    let taker = Taker { officer, directory: handles.directory.clone() };
    let archive = Archive { receiver, taker: taker.clone(), is_whole: false };
    std::thread::Builder::new()
        .name("backup".to_owned())
        .spawn(move || make(backup, &pieces, &taker))
        .map_err(|_| Problem::overloaded())?;
    let body = Body::new(archive);
    // A disk that writes what came may rest for longer than a reader of pages.
    let unhurried = Extension(Unhurried(STALL_MAX));
    Ok((unhurried, [(CONTENT_TYPE, "application/octet-stream")], body).into_response())
}

fn refused(error: NotBegun, handles: &Handles) -> Problem {
    let now = handles.clock.now();
    match error {
        NotBegun::Running => Problem::new(Code::BackupRunning, error.to_string()),
        NotBegun::Access(error) => error.into(),
        NotBegun::Trail(error) => {
            tracing::error!(%error, "the trail cannot be read for a backup");
            Problem::audit_unavailable(handles.readings.trail.failed(now))
        }
        NotBegun::Register(error) => {
            tracing::error!(%error, "the register cannot be read for a backup");
            Problem::register_unavailable(handles.readings.register.failed(now))
        }
        NotBegun::Demo(error) => {
            tracing::error!(%error, "the demo's facts cannot be read for a backup");
            Problem::internal()
        }
        NotBegun::Panicked => Problem::internal(),
    }
}

/// For whom a backup is made.
#[derive(Clone)]
struct Taker {
    officer: Officer,
    directory: DirectoryReader,
}

impl Taker {
    /// Whether they may have more of it.
    fn is_in_office(&self) -> bool {
        self.officer.is_in_office(&self.directory)
    }
}

/// The maker's thread: it gives way to everybody who answers.
fn make(backup: Backup, pieces: &mpsc::Sender<Piece>, taker: &Taker) {
    if let Err(error) = rustix::process::nice(19) {
        tracing::debug!(%error, "the backup runs at the ordinary priority");
    }
    let started = Instant::now();
    let outcome = match backup.write(&mut |piece| give(pieces, piece)) {
        Ok(bytes) => {
            tracing::info!(bytes, seconds = started.elapsed().as_secs_f64(), "a backup was given away");
            "complete"
        }
        Err(WriteError::Gone) if !taker.is_in_office() => {
            tracing::warn!(token_id = %taker.officer.token_id(), "a backup broke off: its token was deactivated");
            "revoked"
        }
        Err(WriteError::Gone) => {
            tracing::warn!("a backup broke off: nobody takes it any more");
            "abandoned"
        }
        Err(error) => {
            tracing::error!(%error, "a backup broke off");
            "failed"
        }
    };
    metrics::counter!("peselgate_backups_total", "outcome" => outcome).increment(1);
}

/// Waits, within its patience, until there is room for the piece.
fn give(pieces: &mpsc::Sender<Piece>, piece: Piece) -> Result<(), Gone> {
    let patience = Instant::now() + STALL_MAX;
    let mut piece = piece;
    loop {
        match pieces.try_send(piece) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(back)) if Instant::now() < patience => piece = back,
            Err(_) => return Err(Gone),
        }
        std::thread::sleep(REST);
    }
}

/// The archive as a body. Should its maker end before the closing frame, or the
/// taker's token before the last piece is taken, the body ends with an error, so
/// that the connection is cut and no client takes the end of what came for the end
/// of the archive.
struct Archive {
    receiver: mpsc::Receiver<Piece>,
    taker: Taker,
    is_whole: bool,
}

#[derive(Debug)]
struct BrokenOff;

impl std::fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the backup broke off")
    }
}

impl std::error::Error for BrokenOff {}

impl hyper::body::Body for Archive {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        self.receiver.poll_recv(cx).map(|piece| match piece {
            Some(_) if !self.taker.is_in_office() => Some(Err(BrokenOff)),
            Some(Piece::Middle(bytes)) => Some(Ok(Frame::data(bytes.into()))),
            Some(Piece::Last(bytes)) => {
                self.is_whole = true;
                Some(Ok(Frame::data(bytes.into())))
            }
            None if self.is_whole => None,
            None => Some(Err(BrokenOff)),
        })
    }
}
