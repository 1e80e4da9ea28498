//! Steps and what they need, drawn as SVG on the server.

use std::collections::BTreeMap;

use handshake_core::StepId;
use maud::{Markup, html};

use super::shown;

const WIDTH: usize = 172;
const HEIGHT: usize = 44;
const ACROSS: usize = 52;
const DOWN: usize = 16;
/// Steps that are drawn; more make no picture.
const MOST_STEPS: usize = 200;
/// Characters of a name that fit.
const FITS: usize = 22;

/// A step as it is drawn.
pub(super) struct Drawn {
    /// Its id.
    pub(super) id: StepId,
    /// What it needs.
    pub(super) needs: Vec<StepId>,
    /// How it stands, in words.
    pub(super) state: String,
    /// And as a colour.
    pub(super) tone: &'static str,
}

fn short(text: &str) -> String {
    let text = shown(text);
    if text.chars().count() <= FITS { text } else { text.chars().take(FITS - 1).chain(['…']).collect() }
}

/// Columns from left to right: each step stands behind all that it needs. Steps come in such an order.
pub(super) fn dag(steps: &[Drawn]) -> Markup {
    let steps = &steps[..steps.len().min(MOST_STEPS)];
    let mut columns: BTreeMap<&StepId, usize> = BTreeMap::new();
    for step in steps {
        let behind = step.needs.iter().filter_map(|need| columns.get(need)).max();
        columns.insert(&step.id, behind.map_or(0, |column| column + 1));
    }
    let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
    let mut places: BTreeMap<&StepId, (usize, usize)> = BTreeMap::new();
    for step in steps {
        let column = columns.get(&step.id).copied().unwrap_or_default();
        let row = taken.entry(column).or_default();
        places.insert(&step.id, (column * (WIDTH + ACROSS) + 2, *row * (HEIGHT + DOWN) + 2));
        *row += 1;
    }
    let width = taken.len().max(1) * (WIDTH + ACROSS) - ACROSS + 4;
    let height = taken.values().copied().max().unwrap_or(1) * (HEIGHT + DOWN) - DOWN + 4;
    html! {
        div class="wide" {
            svg class="dag" viewBox={ "0 0 " (width) " " (height) } width=(width) height=(height) role="img"
                aria-label="Steps, each behind those that it needs" {
                @for step in steps { @for need in &step.needs {
                    @if let (Some((x1, y1)), Some((x2, y2))) = (places.get(need), places.get(&step.id)) {
                        @let (x1, y1, y2) = (x1 + WIDTH, y1 + HEIGHT / 2, y2 + HEIGHT / 2);
                        @let middle = (x1 + x2) / 2;
                        path d={ "M" (x1) " " (y1) " C" (middle) " " (y1) " " (middle) " " (y2) " " (x2) " " (y2) } {}
                    }
                } }
                @for step in steps { @if let Some((x, y)) = places.get(&step.id) {
                    g {
                        title { (shown(step.id.as_str())) ": " (step.state) }
                        rect class=(step.tone) x=(x) y=(y) width=(WIDTH) height=(HEIGHT) rx="8" {}
                        text x=(x + 12) y=(y + 19) { (short(step.id.as_str())) }
                        text class="faint" x=(x + 12) y=(y + 35) { (step.state) }
                    }
                } }
            }
        }
    }
}
