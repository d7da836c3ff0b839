//! The handle by which the writer's thread is ended.

use std::thread::JoinHandle;

use tokio::sync::oneshot;

/// The register's writer thread. Dropping this asks it to stop; commands that
/// wait are carried out first.
#[must_use = "the writer stops when this is dropped"]
pub struct WriterThread {
    stop: Option<oneshot::Sender<()>>,
    thread: JoinHandle<()>,
}

impl WriterThread {
    pub(super) const fn new(stop: oneshot::Sender<()>, thread: JoinHandle<()>) -> Self {
        Self { stop: Some(stop), thread }
    }

    /// Stops the writer after the commands that wait, and waits for its end.
    /// Blocks: not to be called on a runtime's thread.
    pub fn stop(mut self) {
        drop(self.stop.take());
        if self.thread.join().is_err() {
            tracing::error!("the register's writer ended in a panic");
        }
    }
}

impl std::fmt::Debug for WriterThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriterThread").field("finished", &self.thread.is_finished()).finish()
    }
}
