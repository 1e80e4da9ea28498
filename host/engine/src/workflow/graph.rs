//! Which step needs which, and in what order they can run.

use std::collections::BTreeSet;

/// Steps, by position, that form a cycle: each needs the next, and the last needs the first.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cycle(pub(crate) Vec<usize>);

/// An order in which every step comes after those it needs; steps that could go either way keep the file's order.
pub(crate) fn order(needs: &[BTreeSet<usize>]) -> Result<Vec<usize>, Cycle> {
    let mut order = Vec::with_capacity(needs.len());
    let mut waiting: Vec<usize> = needs.iter().map(BTreeSet::len).collect();
    let mut needed_by = vec![Vec::new(); needs.len()];
    for (step, its_needs) in needs.iter().enumerate() {
        its_needs.iter().for_each(|need| needed_by[*need].push(step));
    }
    let mut ready: BTreeSet<usize> = (0..needs.len()).filter(|step| waiting[*step] == 0).collect();
    while let Some(step) = ready.pop_first() {
        order.push(step);
        for next in &needed_by[step] {
            waiting[*next] -= 1;
            if waiting[*next] == 0 {
                ready.insert(*next);
            }
        }
    }
    if order.len() == needs.len() { Ok(order) } else { Err(cycle(needs, &waiting)) }
}

/// Follows the needs of steps that never became ready; each of them needs another such step, so the way must close.
fn cycle(needs: &[BTreeSet<usize>], waiting: &[usize]) -> Cycle {
    let mut way: Vec<usize> = waiting.iter().position(|count| *count > 0).into_iter().collect();
    while let Some(last) = way.last() {
        let Some(next) = needs[*last].iter().copied().find(|need| waiting[*need] > 0) else { break };
        if let Some(start) = way.iter().position(|step| *step == next) {
            return Cycle(way.split_off(start));
        }
        way.push(next);
    }
    Cycle(way)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(needs: &[&[usize]]) -> Vec<BTreeSet<usize>> {
        needs.iter().map(|needs| needs.iter().copied().collect()).collect()
    }

    #[test]
    fn steps_come_after_what_they_need_and_otherwise_in_file_order() {
        assert_eq!(order(&sets(&[&[2], &[], &[1], &[]])), Ok(vec![1, 2, 0, 3]));
    }

    #[test]
    fn a_cycle_is_named_without_the_steps_that_only_lead_into_it() {
        assert_eq!(order(&sets(&[&[1], &[2], &[3], &[1]])), Err(Cycle(vec![1, 2, 3])));
        assert_eq!(order(&sets(&[&[0]])), Err(Cycle(vec![0])));
    }
}
