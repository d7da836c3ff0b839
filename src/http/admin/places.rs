//! Places for imports: each of them collects the lines of a chunk, which nothing else
//! bounds together.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::problem::{Code, Problem};
use crate::limits::IMPORTS_MAX;

/// When to come again: an import takes minutes, or ends soon.
const RETRY: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
pub(super) struct ImportPlaces(Arc<Semaphore>);

/// The place of one import, until the last that has a share in it is done.
#[derive(Debug, Clone)]
pub(super) struct Place(Arc<OwnedSemaphorePermit>);

impl Default for ImportPlaces {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(IMPORTS_MAX)))
    }
}

impl ImportPlaces {
    /// A place, if there is one.
    ///
    /// # Errors
    /// 503 when all are taken.
    pub(super) fn take(&self) -> Result<Place, Problem> {
        let permit = Arc::clone(&self.0).try_acquire_owned();
        permit.map(|permit| Place(Arc::new(permit))).map_err(|_| {
            let detail = format!("{IMPORTS_MAX} imports are under way, as many as may be");
            Problem::new(Code::Overloaded, detail).retry_after(RETRY)
        })
    }
}

impl Place {
    /// The work, which has a share in the place while it lasts.
    pub(super) async fn during(self, work: impl Future<Output = ()>) {
        work.await;
        drop(self.0);
    }
}
