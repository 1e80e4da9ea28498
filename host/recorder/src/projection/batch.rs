//! Records on their way into the file: checked against the chain and made into columns, which needs no DuckDB and so
//! is done while it writes the batch before.

use duckdb::arrow::array::RecordBatch;
use handshake_core::chain::{BrokenChain, ChainHead, StampedEvent};

use super::columns;

/// Records that follow one another, ready to be appended.
pub(super) struct Batch {
    /// Where the chain stands before them.
    pub(super) from: ChainHead,
    /// Where it stands behind them.
    pub(super) to: ChainHead,
    /// Their columns; none when there are none.
    pub(super) rows: Option<RecordBatch>,
    /// The record behind them that breaks the chain, if one does.
    pub(super) broken: Option<BrokenChain>,
}

impl Batch {
    /// Takes the records that continue the chain, up to the first that does not.
    pub(super) fn of(from: ChainHead, records: &[StampedEvent]) -> Result<Self, duckdb::Error> {
        let (mut to, mut broken) = (from, None);
        let continues = |record: &&StampedEvent| to.verify(record).map_err(|problem| broken = Some(problem)).is_ok();
        let good = records.iter().take_while(continues).count();
        let rows = columns::batch(records.get(..good).unwrap_or_default())?;
        Ok(Self { from, to, rows, broken })
    }

    pub(super) fn len(&self) -> u64 {
        self.to.seq - self.from.seq
    }
}
