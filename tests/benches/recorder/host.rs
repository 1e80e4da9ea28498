//! A recorder as the host's binary puts it together.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use handshake_core::storage::EventOutbox;
use handshake_core::{Clock, HostId, Ids, Timestamp};
use handshake_recorder::signing::SigningKey;
use handshake_recorder::{Archive, Projection, ProjectionOptions, RecordLog};
use uuid::Uuid;

/// Longer than any file of a benchmark is kept.
pub(crate) const RETENTION: Duration = Duration::from_secs(3650 * 24 * 3600);

/// The machine's clock.
pub(crate) struct Wall(pub(crate) Instant);

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap())
    }
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Ids as the binary makes them.
pub(crate) struct Fresh;

impl Ids for Fresh {
    fn uuid(&self) -> Uuid {
        Uuid::now_v7()
    }
    fn random(&self, buffer: &mut [u8]) {
        for part in buffer.chunks_mut(16) {
            part.copy_from_slice(&Uuid::new_v4().as_bytes()[..part.len()]);
        }
    }
}

/// Outbox and segments as one record, and the projection of it in the same folder.
pub(crate) async fn open(
    folder: &Path,
    host: HostId,
    outbox: Arc<dyn EventOutbox>,
    clock: Arc<dyn Clock>,
) -> (Arc<RecordLog>, Arc<Projection>) {
    let key = SigningKey::load_or_create(&folder.join("key.pem"), &Fresh).unwrap();
    let archive = Archive::open(folder.join("segments"), host, Arc::new(key)).unwrap();
    let log = Arc::new(RecordLog::new(outbox, Arc::new(archive)));
    let options = ProjectionOptions { path: folder.join("recorder.duckdb"), clock, retention: RETENTION, probe: None };
    let projection = Projection::open(Arc::clone(&log), options).await.unwrap();
    (log, Arc::new(projection))
}
