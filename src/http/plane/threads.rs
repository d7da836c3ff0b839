//! The threads of the plane, each of which is missed when it ends.

use std::io;
use std::thread::JoinHandle;

use tokio::sync::mpsc;

/// Threads by name.
pub(super) struct Threads {
    handles: Vec<JoinHandle<()>>,
    says: mpsc::UnboundedSender<String>,
    ends: mpsc::UnboundedReceiver<String>,
}

impl Threads {
    pub(super) fn new() -> Self {
        let (says, ends) = mpsc::unbounded_channel();
        Self { handles: Vec::new(), says, ends }
    }

    /// # Errors
    /// When the thread cannot be had.
    pub(super) fn spawn(&mut self, name: String, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let last_word = LastWord { name: name.clone(), says: self.says.clone() };
        self.handles.push(std::thread::Builder::new().name(name).spawn(move || {
            let _last_word = last_word;
            work();
        })?);
        Ok(())
    }

    /// The name of the next one that has ended, however it did.
    pub(super) async fn ended(&mut self) -> String {
        // One end of the channel is kept here: it is never closed.
        self.ends.recv().await.unwrap_or_default()
    }

    /// Waits for all of them.
    pub(super) fn join(self) {
        for thread in self.handles {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                tracing::error!(name, "a thread of the verification plane panicked");
            }
        }
    }
}

/// Said when it is dropped, so by a thread that panics as well.
struct LastWord {
    name: String,
    says: mpsc::UnboundedSender<String>,
}

impl Drop for LastWord {
    fn drop(&mut self) {
        // Nobody listens any more while the plane drains.
        self.says.send(std::mem::take(&mut self.name)).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_that_ends_is_missed_however_it_ended() {
        let mut threads = Threads::new();
        let (goes_on, waits) = std::sync::mpsc::channel::<()>();
        threads.spawn("stays".to_owned(), move || while waits.recv().is_ok() {}).expect("a thread");
        threads.spawn("returns".to_owned(), || ()).expect("a thread");
        assert_eq!(threads.ended().await, "returns");
        threads.spawn("panics".to_owned(), || std::panic::panic_any("no message is kept")).expect("a thread");
        assert_eq!(threads.ended().await, "panics");
        drop(goes_on);
        assert_eq!(threads.ended().await, "stays");
        threads.join();
    }
}
