//! Budgets: what is counted, what is reserved, and who waits.

#![allow(clippy::unwrap_used)]

use futures::FutureExt;

use super::*;

fn meter(workflow: Budget) -> Arc<BudgetMeter> {
    Arc::new(BudgetMeter::new(Limits::of(&workflow, &Budget::default()), Usage::default(), None))
}

fn tokens(tokens: u64) -> Budget {
    Budget { tokens: Some(tokens), ..Budget::default() }
}

fn reserve(meter: &Arc<BudgetMeter>, asked: Option<u32>) -> Option<Result<Reservation, Exceeded>> {
    meter.reserve(Ask::Answer(asked)).now_or_never()
}

#[test]
fn the_smaller_of_workflow_and_operator_wins_and_the_refusal_names_whose_it_is() {
    let workflow = Budget { tokens: Some(10), model_calls: Some(5), ..Budget::default() };
    let operator = Budget { tokens: Some(7), model_calls: Some(9), steps: Some(1), ..Budget::default() };
    let meter = BudgetMeter::new(Limits::of(&workflow, &operator), Usage::default(), None);
    let told = |kind| {
        let exceeded = meter.add(kind, 20).unwrap_err();
        format!("{exceeded}; {}", exceeded.remedy())
    };
    assert_eq!(
        told(BudgetKind::Tokens),
        "HSK-402-BUDGET-EXCEEDED: budget `tokens` is used up: 20 of 7 tokens; the operator can raise `tokens` in [budget] of handshake.toml"
    );
    assert_eq!(
        told(BudgetKind::ModelCalls),
        "HSK-402-BUDGET-EXCEEDED: budget `model_calls` is used up: 20 of 5 calls of models; raise `budget.model_calls` in the workflow file, or give it less to do"
    );
    assert_eq!(
        told(BudgetKind::Steps),
        "HSK-402-BUDGET-EXCEEDED: budget `steps` is used up: 20 of 1 attempts of steps; the operator can raise `steps` in [budget] of handshake.toml"
    );
    assert_eq!(meter.add(BudgetKind::Output, u64::MAX), Ok(()));
}

#[test]
fn calls_are_counted_when_they_are_made_and_given_back_when_they_are_not() {
    let meter = meter(Budget { model_calls: Some(1), ..Budget::default() });
    drop(reserve(&meter, None).unwrap().unwrap());
    assert_eq!(meter.used(BudgetKind::ModelCalls), 0);
    let mut made = reserve(&meter, None).unwrap().unwrap();
    made.make();
    drop(made);
    let refused = reserve(&meter, None).unwrap().unwrap_err();
    assert_eq!((refused.kind, refused.used, refused.most), (BudgetKind::ModelCalls, 1, 1));
    assert_eq!(meter.refused(), Some(refused));
    assert!(meter.reserve(Ask::Vectors).now_or_never().unwrap().is_err());
}

#[test]
fn an_answer_gets_no_more_tokens_than_are_left() {
    let meter = meter(tokens(5_000));
    let first = reserve(&meter, Some(3_000)).unwrap().unwrap();
    assert_eq!((first.max_tokens(Some(3_000)), first.max_tokens(None)), (Some(3_000), Some(3_000)));
    let second = reserve(&meter, Some(3_000)).unwrap().unwrap();
    assert_eq!(second.max_tokens(Some(3_000)), Some(2_000));
    first.settle(100);
    assert_eq!(reserve(&meter, None).unwrap().unwrap().max_tokens(None), Some(1_024));
    second.settle(4_900);
    let refused = reserve(&meter, None).unwrap().unwrap_err();
    assert_eq!((refused.kind, refused.used), (BudgetKind::Tokens, 5_000));
}

#[test]
fn whoever_finds_everything_reserved_waits_until_some_of_it_is_given_back() {
    let meter = meter(tokens(100));
    let first = reserve(&meter, None).unwrap().unwrap();
    assert!(reserve(&meter, None).is_none(), "it waits");
    let mut waiting = Box::pin(meter.reserve(Ask::Answer(None)));
    assert!(waiting.as_mut().now_or_never().is_none());
    first.settle(40);
    assert_eq!(waiting.now_or_never().unwrap().unwrap().max_tokens(None), Some(60));
}

#[test]
fn what_a_child_uses_its_parent_uses_too() {
    let parent = meter(Budget { model_calls: Some(3), ..tokens(1_000) });
    let own = Limits::of(&Budget { on_exceeded: OnExceeded::Ask, ..tokens(300) }, &Budget::default());
    let child = Arc::new(BudgetMeter::new(own, Usage::default(), Some(Arc::clone(&parent))));
    let mut call = reserve(&child, Some(500)).unwrap().unwrap();
    assert_eq!(call.max_tokens(Some(500)), Some(300));
    call.make();
    call.settle(300);
    assert_eq!((parent.used(BudgetKind::Tokens), parent.used(BudgetKind::ModelCalls)), (300, 1));
    let refused = reserve(&child, None).unwrap().unwrap_err();
    assert_eq!((refused.most, refused.on_exceeded), (300, OnExceeded::Ask));
    // The parent goes on with what it has.
    assert_eq!(parent.refused(), None);
    assert!(reserve(&parent, None).unwrap().is_ok());
}

#[test]
fn calls_that_run_at_the_same_time_never_exceed_the_budget_together() {
    let meter = meter(Budget { model_calls: Some(50), ..tokens(1_000_000) });
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let meter = Arc::clone(&meter);
            std::thread::spawn(move || {
                let calls = (0..20).filter_map(|_| reserve(&meter, Some(10))?.ok());
                calls.map(|mut call| call.make()).count()
            })
        })
        .collect();
    let made: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!((made, meter.used(BudgetKind::ModelCalls)), (50, 50));
}

#[test]
fn wall_time_is_over_when_nothing_of_it_is_left() {
    let meter = meter(Budget { wall: Some(Period(Duration::from_secs(60))), ..Budget::default() });
    assert_eq!(meter.wall_left(Duration::from_secs(50)), Some(Duration::from_secs(10)));
    assert_eq!(meter.wall_exceeded(Duration::from_secs(59)), None);
    let exceeded = meter.wall_exceeded(Duration::from_secs(61)).unwrap();
    assert_eq!(exceeded.to_string(), "HSK-402-BUDGET-EXCEEDED: budget `wall` is used up: 1m 1s of 1m");
    assert_eq!(BudgetMeter::default().wall_left(Duration::MAX), None);
}
