//! From a draft to the changes of one edit. Blocks keep their places where they can.

use handshake_core::content::{ContentBlock, ContentChange, Document, Sensitivity};
use handshake_core::{BlockId, Ids};

use super::draft::{Draft, DraftBlock};
use crate::documents::{Layout, PLACE_STEP, State};

/// How many changes an edit has that makes the document what the draft is.
pub(crate) fn number_of_changes(state: &State, draft: &Draft) -> usize {
    let places = places(state, draft);
    let written = draft.blocks.iter().zip(&places).filter(|(block, place)| is_written(state, block, **place));
    1 + draft.deleted.len() + written.count()
}

fn is_written(state: &State, block: &DraftBlock, place: i64) -> bool {
    let stored = block.source.and_then(|source| state.blocks.get(source));
    stored.is_none_or(|stored| block.replaced || stored.content.sequence != place)
}

/// The place of each block of the draft, in order.
fn places(state: &State, draft: &Draft) -> Vec<i64> {
    let kept = |block: &DraftBlock| {
        let stored = state.blocks.get(block.source?)?;
        (!block.moved).then_some(stored.content.sequence)
    };
    let kept: Vec<Option<i64>> = draft.blocks.iter().map(kept).collect();
    between(&kept).unwrap_or_else(|| {
        let place = |number: usize| i64::try_from(number + 1).unwrap_or(i64::MAX / PLACE_STEP) * PLACE_STEP;
        (0..kept.len()).map(place).collect()
    })
}

/// Fills the gaps with places between those that are kept; none when there is no room.
fn between(kept: &[Option<i64>]) -> Option<Vec<i64>> {
    let mut places = Vec::with_capacity(kept.len());
    let mut at = 0;
    while at < kept.len() {
        if let Some(place) = kept.get(at).copied().flatten() {
            if places.last().is_some_and(|last| *last >= place) {
                return None;
            }
            places.push(place);
            at += 1;
            continue;
        }
        let gap = kept.iter().skip(at).take_while(|place| place.is_none()).count();
        let count = i64::try_from(gap + 1).ok()?;
        let low = places.last().copied();
        let high = kept.get(at + gap).copied().flatten();
        let (low, step) = match (low, high) {
            (None, None) => (0, PLACE_STEP),
            (Some(low), None) => (low, PLACE_STEP),
            (None, Some(high)) => (high.checked_sub(PLACE_STEP.checked_mul(count)?)?, PLACE_STEP),
            (Some(low), Some(high)) => (low, high.checked_sub(low)? / count),
        };
        if step < 1 {
            return None;
        }
        for number in 1..count {
            places.push(low.checked_add(step.checked_mul(number)?)?);
        }
        at += gap;
    }
    Some(places)
}

/// The changes of one edit. Each names what it was worded from, so that it conflicts with whatever came between.
pub(crate) fn changes(ids: &dyn Ids, state: &State, draft: &Draft) -> Vec<ContentChange> {
    let mut changes = Vec::new();
    // Always, so that the document's version grows.
    let document = Document { title: draft.title.clone(), ..state.document.content.clone() };
    changes.push(ContentChange::Update { content: document.into(), base: Some(state.document.edit.edit_event_id) });
    for source in &draft.deleted {
        if let Some(stored) = state.blocks.get(*source) {
            let base = Some(stored.edit.edit_event_id);
            changes.push(ContentChange::Delete { id: stored.content.block_id.into(), base });
        }
    }
    for (block, place) in draft.blocks.iter().zip(places(state, draft)) {
        if !is_written(state, block, place) {
            continue;
        }
        let derived_content = block.layout.as_ref().map_or(serde_json::Value::Null, Layout::derived);
        match block.source.and_then(|source| state.blocks.get(source)) {
            Some(stored) => {
                let mut content = ContentBlock { sequence: place, ..stored.content.clone() };
                if block.replaced {
                    content.raw_content = block.content.clone();
                    content.display_content = block.content.clone();
                    content.derived_content = derived_content;
                }
                changes.push(ContentChange::Update { content: content.into(), base: Some(stored.edit.edit_event_id) });
            }
            None => {
                let content = ContentBlock {
                    block_id: BlockId::fresh(ids),
                    document_id: state.id(),
                    kind: block.kind.clone(),
                    sequence: place,
                    raw_content: block.content.clone(),
                    display_content: block.content.clone(),
                    derived_content,
                    sensitivity: strictest(state),
                    exportable: state.blocks.iter().all(|block| block.content.exportable),
                };
                changes.push(ContentChange::Create { content: content.into() });
            }
        }
    }
    changes
}

/// What is new was perhaps made of everything in the document, so it is as sensitive as that.
fn strictest(state: &State) -> Sensitivity {
    let rank = |sensitivity: Sensitivity| Sensitivity::ALL.iter().position(|one| *one == sensitivity);
    let all = state.blocks.iter().map(|block| block.content.sensitivity);
    all.max_by_key(|sensitivity| rank(*sensitivity)).unwrap_or(Sensitivity::Internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_places_lie_between_those_that_are_kept() {
        for (kept, expected) in [
            (vec![], Some(vec![])),
            (vec![None, None], Some(vec![PLACE_STEP, 2 * PLACE_STEP])),
            (vec![Some(10), None, Some(20)], Some(vec![10, 15, 20])),
            (vec![Some(10), None, None, Some(13)], Some(vec![10, 11, 12, 13])),
            (vec![Some(10), None, Some(11)], None),
            (vec![Some(10), Some(10)], None),
            (vec![Some(20), Some(10)], None),
            (vec![None, Some(0), None], Some(vec![-PLACE_STEP, 0, PLACE_STEP])),
            (vec![None, Some(i64::MIN)], None),
            (vec![Some(i64::MAX), None], None),
            (vec![Some(i64::MIN), None, Some(i64::MAX)], None),
        ] {
            assert_eq!(between(&kept), expected, "{kept:?}");
        }
    }
}
