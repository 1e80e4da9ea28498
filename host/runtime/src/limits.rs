//! Limits that wasmtime leaves to the embedder.

use wasmtime::ResourceLimiter;

/// A limit was exceeded: carried through wasmtime as the cause of a trap.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("limit `{limit}` exceeded: {detail}")]
pub(crate) struct LimitExceeded {
    pub(crate) limit: &'static str,
    pub(crate) detail: String,
}

impl LimitExceeded {
    pub(crate) fn new(limit: &'static str, detail: impl Into<String>) -> Self {
        Self { limit, detail: detail.into() }
    }
}

/// Bytes that one table element is counted with: a pointer.
const TABLE_ELEMENT_BYTES: usize = size_of::<usize>();

/// Bounds all linear memories and tables of an attempt together. `StoreLimits` counts each by itself, so that a
/// component of many modules could have many times its limit.
#[derive(Debug)]
pub(crate) struct SummedMemory {
    limit: usize,
    used: usize,
    /// Whether growth was ever refused; then a later crash is most likely the consequence.
    pub(crate) refused: bool,
}

impl SummedMemory {
    pub(crate) fn megabytes(megabytes: u32) -> Self {
        let limit = usize::try_from(megabytes).unwrap_or(usize::MAX).saturating_mul(1 << 20);
        Self { limit, used: 0, refused: false }
    }

    /// Bytes of all of them; none ever shrinks.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    fn grow(&mut self, current: usize, desired: usize) -> bool {
        let used = self.used.saturating_sub(current).saturating_add(desired);
        if used > self.limit {
            self.refused = true;
            return false;
        }
        self.used = used;
        true
    }
}

impl ResourceLimiter for SummedMemory {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow(current, desired))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow(current.saturating_mul(TABLE_ELEMENT_BYTES), desired.saturating_mul(TABLE_ELEMENT_BYTES)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn several_memories_share_one_limit() {
        let mut memory = SummedMemory::megabytes(2);
        assert!(memory.memory_growing(0, 1 << 20, None).unwrap());
        assert!(memory.memory_growing(0, 512 << 10, None).unwrap());
        assert!(!memory.memory_growing(0, 1 << 20, None).unwrap());
        assert!(memory.refused);
        assert!(memory.memory_growing(512 << 10, 1 << 20, None).unwrap());
        assert!(!memory.table_growing(0, 1, None).unwrap());
    }
}
