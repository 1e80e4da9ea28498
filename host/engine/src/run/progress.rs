//! Which nodes are ready: a total function of the plan's shape and what has happened, without time or I/O.

use std::collections::BTreeSet;

/// How far a run is.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    needs: Vec<BTreeSet<usize>>,
    order: Vec<usize>,
    limit: usize,
    steps: Vec<Phase>,
    running: usize,
    failed: bool,
}

#[derive(Debug, Clone)]
enum Phase {
    /// Some of its needs are not done, or nobody has looked yet.
    Waiting,
    Open {
        parallel: usize,
        running: usize,
        done: usize,
        next: usize,
        items: Vec<Item>,
    },
    Done,
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    Pending,
    Running,
    Resting,
    Done,
    Failed,
}

/// What can happen. Steps are positions in the plan; a step that runs once has item 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Happening {
    /// Its expressions were evaluated; it has so many items.
    Opened { step: usize, items: usize, parallel: usize },
    /// Its condition was false.
    Skipped { step: usize },
    /// Its expressions have no value.
    Broken { step: usize },
    /// An item's first attempt began.
    Started { step: usize, item: usize },
    /// An item that began waits for the world, and takes no place of those that work.
    Rested { step: usize, item: usize },
    /// An item that waited works again.
    Resumed { step: usize, item: usize },
    /// An item succeeded.
    Completed { step: usize, item: usize },
    /// An item failed for good.
    Failed { step: usize, item: usize },
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Evaluate a step's expressions.
    Open { step: usize },
    /// Start an item.
    Start { step: usize, item: usize },
}

/// What happened cannot have happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{happening:?} does not fit what happened before")]
pub(crate) struct Impossible {
    happening: Happening,
}

/// How it all ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Completed,
    Failed,
}

impl Progress {
    /// Nothing has happened. `order` lists every step after those it needs; at most `limit` items run at a time.
    pub(crate) fn new(needs: Vec<BTreeSet<usize>>, order: Vec<usize>, limit: usize) -> Self {
        let steps = vec![Phase::Waiting; needs.len()];
        Self { needs, order, limit: limit.max(1), steps, running: 0, failed: false }
    }

    /// Takes in what happened. Nothing changes when it is impossible.
    pub(crate) fn after(&mut self, happening: Happening) -> Result<(), Impossible> {
        let impossible = Err(Impossible { happening });
        match happening {
            Happening::Opened { step, items, parallel } if self.can_open(step) => {
                self.steps[step] = match items {
                    0 => Phase::Done,
                    _ => Phase::Open {
                        parallel: parallel.max(1),
                        running: 0,
                        done: 0,
                        next: 0,
                        items: vec![Item::Pending; items],
                    },
                };
            }
            Happening::Skipped { step } if self.can_open(step) => self.steps[step] = Phase::Done,
            Happening::Broken { step } if self.can_open(step) => {
                self.steps[step] = Phase::Failed;
                self.failed = true;
            }
            Happening::Started { step, item } if self.start_of(step) == Some(item) => {
                if let Some(Phase::Open { running, next, items, .. }) = self.steps.get_mut(step) {
                    items[item] = Item::Running;
                    *next += 1;
                    *running += 1;
                    self.running += 1;
                }
            }
            Happening::Rested { step, item } => match self.steps.get_mut(step) {
                Some(Phase::Open { items, .. }) if items.get(item) == Some(&Item::Running) => {
                    items[item] = Item::Resting;
                    self.running -= 1;
                }
                _ => return impossible,
            },
            Happening::Resumed { step, item } => match self.steps.get_mut(step) {
                // Whoever was asked has answered; it is not made to wait for a place as well.
                Some(Phase::Open { items, .. }) if items.get(item) == Some(&Item::Resting) => {
                    items[item] = Item::Running;
                    self.running += 1;
                }
                _ => return impossible,
            },
            Happening::Completed { step, item } => {
                let Some(done) = self.over(step, item, Item::Done) else { return impossible };
                if done {
                    self.steps[step] = Phase::Done;
                }
            }
            Happening::Failed { step, item } => {
                if self.over(step, item, Item::Failed).is_none() {
                    return impossible;
                }
                self.failed = true;
            }
            _ => return impossible,
        }
        Ok(())
    }

    /// An item is over; says whether the step is done with it. None when the item had not begun.
    fn over(&mut self, step: usize, item: usize, how: Item) -> Option<bool> {
        let Some(Phase::Open { running, done, items, .. }) = self.steps.get_mut(step) else { return None };
        let place = items.get_mut(item)?;
        self.running -= match *place {
            Item::Running => 1,
            Item::Resting => 0,
            Item::Pending | Item::Done | Item::Failed => return None,
        };
        *place = how;
        *running -= 1;
        *done += usize::from(how == Item::Done);
        Some(*done == items.len())
    }

    fn can_open(&self, step: usize) -> bool {
        let waiting = matches!(self.steps.get(step), Some(Phase::Waiting));
        !self.failed && waiting && self.needs[step].iter().all(|need| matches!(self.steps[*need], Phase::Done))
    }

    /// The item of a step that may start now.
    fn start_of(&self, step: usize) -> Option<usize> {
        match self.steps.get(step) {
            Some(Phase::Open { parallel, running, next, items, .. })
                if !self.failed && running < parallel && self.running < self.limit =>
            {
                (*next < items.len()).then_some(*next)
            }
            _ => None,
        }
    }

    /// What to do next; none when there is only waiting left. After a failure nothing new begins.
    pub(crate) fn next(&self) -> Option<Next> {
        self.order.iter().find_map(|step| {
            let step = *step;
            let start = self.start_of(step).map(|item| Next::Start { step, item });
            start.or_else(|| self.can_open(step).then_some(Next::Open { step }))
        })
    }

    /// Whether the step is done, so that its output can be put together.
    pub(crate) fn is_done(&self, step: usize) -> bool {
        matches!(self.steps.get(step), Some(Phase::Done))
    }

    /// Whether something failed for good.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }

    /// How it ended; none while something runs or can begin. After a failure nobody waits for items that rest.
    pub(crate) fn ended(&self) -> Option<Ended> {
        if self.failed {
            return (self.running == 0).then_some(Ended::Failed);
        }
        self.steps.iter().all(|phase| matches!(phase, Phase::Done)).then_some(Ended::Completed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chain() -> Progress {
        Progress::new(vec![BTreeSet::new(), BTreeSet::from([0])], vec![0, 1], 8)
    }

    #[test]
    fn a_step_opens_only_after_those_it_needs() {
        let mut progress = chain();
        assert_eq!(progress.next(), Some(Next::Open { step: 0 }));
        assert!(progress.after(Happening::Opened { step: 1, items: 1, parallel: 1 }).is_err());
        progress.after(Happening::Opened { step: 0, items: 1, parallel: 1 }).unwrap();
        progress.after(Happening::Started { step: 0, item: 0 }).unwrap();
        assert_eq!(progress.next(), None);
        progress.after(Happening::Completed { step: 0, item: 0 }).unwrap();
        assert_eq!(progress.next(), Some(Next::Open { step: 1 }));
    }

    #[test]
    fn an_empty_list_and_a_skipped_step_are_done_at_once() {
        let mut progress = chain();
        progress.after(Happening::Opened { step: 0, items: 0, parallel: 4 }).unwrap();
        progress.after(Happening::Skipped { step: 1 }).unwrap();
        assert_eq!(progress.ended(), Some(Ended::Completed));
    }

    #[test]
    fn after_a_failure_nothing_begins_and_the_end_waits_for_what_runs() {
        let mut progress = Progress::new(vec![BTreeSet::new()], vec![0], 8);
        progress.after(Happening::Opened { step: 0, items: 3, parallel: 2 }).unwrap();
        progress.after(Happening::Started { step: 0, item: 0 }).unwrap();
        progress.after(Happening::Started { step: 0, item: 1 }).unwrap();
        progress.after(Happening::Failed { step: 0, item: 0 }).unwrap();
        assert_eq!((progress.next(), progress.ended()), (None, None));
        progress.after(Happening::Completed { step: 0, item: 1 }).unwrap();
        assert_eq!(progress.ended(), Some(Ended::Failed));
    }

    /// Needs, items and parallelism of each step, the limit, and which of the running items ends next.
    type Shape = (Vec<BTreeSet<usize>>, Vec<(usize, usize)>, usize, Vec<u8>);

    /// Random shapes: each step needs some of those before it.
    fn shapes() -> impl Strategy<Value = Shape> {
        (1_usize..12).prop_flat_map(|steps| {
            let needs = (0..steps).map(|step| {
                proptest::collection::btree_set(0..step.max(1), 0..=step.min(3))
                    .prop_map(move |set| set.into_iter().filter(|need| *need < step).collect())
            });
            (
                needs.collect::<Vec<_>>(),
                proptest::collection::vec((0_usize..5, 1_usize..4), steps),
                1_usize..6,
                proptest::collection::vec(any::<u8>(), 200),
            )
        })
    }

    proptest! {
        #[test]
        fn every_item_runs_once_in_order_and_within_its_limits((needs, shape, limit, choices) in shapes()) {
            let order = (0..needs.len()).collect();
            let mut progress = Progress::new(needs.clone(), order, limit);
            let mut running: Vec<(usize, usize)> = Vec::new();
            let mut started: BTreeSet<(usize, usize)> = BTreeSet::new();
            let mut choices = choices.into_iter().cycle();
            while progress.ended().is_none() {
                while let Some(next) = progress.next() {
                    match next {
                        Next::Open { step } => {
                            prop_assert!(needs[step].iter().all(|need| progress.is_done(*need)));
                            progress.after(Happening::Opened { step, items: shape[step].0, parallel: shape[step].1 }).unwrap();
                        }
                        Next::Start { step, item } => {
                            progress.after(Happening::Started { step, item }).unwrap();
                            prop_assert!(started.insert((step, item)), "{step}[{item}] started twice");
                            running.push((step, item));
                            prop_assert!(running.len() <= limit);
                            prop_assert!(running.iter().filter(|(other, _)| *other == step).count() <= shape[step].1);
                        }
                    }
                }
                if !running.is_empty() {
                    let chosen = usize::from(choices.next().unwrap()) % running.len();
                    let (step, item) = running.swap_remove(chosen);
                    progress.after(Happening::Completed { step, item }).unwrap();
                    let again = progress.after(Happening::Completed { step, item });
                    prop_assert!(again.is_err());
                }
            }
            prop_assert_eq!(progress.ended(), Some(Ended::Completed));
            prop_assert_eq!(started.len(), shape.iter().map(|(items, _)| items).sum::<usize>());
        }
    }
}
