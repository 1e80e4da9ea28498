//! Approvals: asking, voting, listing.

use std::time::Duration;

use handshake_core::approval::{Approval, ApprovalState, Vote};
use handshake_core::run::{RunState, WorkflowRun};
use handshake_core::storage::{ApprovalFilter, ApprovalStore, JobStore, Page, RunChange, RunStore, WorkQueue};
use handshake_core::{ApprovalId, Clock, JobId, RunId, StepId, Timestamp};
use handshake_tests::postgres::Backend;
use handshake_tests::storage::World;

use crate::desk::{Desk, is_conflict, is_invalid, is_missing};

const ODD: &str = "“Größe” 漢字 🎉 \u{202e} '; DROP TABLE approvals; -- \\u0000 {}";

/// An approval of a new job, not stored yet.
async fn asked(world: &World) -> Approval {
    let (job, run) = world.job();
    let (job_id, run_id) = (job.job_id, run.run_id);
    world.database.submit(job, run, None, vec![]).await.unwrap();
    Approval {
        approval_id: ApprovalId::fresh(&*world.ids),
        job_id,
        run_id,
        step_id: StepId::new("sign-off").unwrap(),
        index: None,
        state: ApprovalState::Pending,
        prompt: String::new(),
        approvers: Default::default(),
        quorum: 2,
        permission: None,
        votes: Vec::new(),
        expires_at: None,
        created_at: world.clock.now(),
        decided_at: None,
    }
}

fn vote(world: &World, who: &str, approve: bool) -> Vote {
    Vote { who: who.into(), approve, reason: None, at: world.clock.now() }
}

pub(crate) async fn an_approval_comes_back_as_it_was_asked(world: World) {
    let plain = asked(&world).await;
    let full = Approval {
        index: Some(u32::MAX),
        prompt: ODD.repeat(100),
        approvers: [ODD.to_owned(), "Ada".into(), "b\"\\".into()].into(),
        expires_at: Some(world.clock.now().plus(Duration::from_secs(60))),
        ..asked(&world).await
    };
    for approval in [plain, full] {
        world.database.request_approval(approval.clone(), vec![world.event("asked")]).await.unwrap();
        assert_eq!(world.database.approval(approval.approval_id).await.unwrap(), approval);
        let again = world.database.request_approval(approval, vec![world.event("again")]).await;
        assert!(is_conflict(&again), "{again:?}");
    }
    assert_eq!(world.recorded().await.len(), 2, "events of refused requests are not on record");
}

pub(crate) async fn votes_are_stored_one_by_one_and_a_decision_is_final(world: World) {
    let mut approval = asked(&world).await;
    world.database.request_approval(approval.clone(), vec![]).await.unwrap();
    for (votes, who) in ["Ada", ODD].into_iter().enumerate() {
        world.clock.advance(Duration::from_secs(1));
        let vote = Vote { reason: Some(ODD.into()), ..vote(&world, who, true) };
        approval = approval.vote(vote, None).unwrap();
        world.database.decide(approval.clone(), votes, vec![world.event(who)]).await.unwrap();
        assert_eq!(world.database.approval(approval.approval_id).await.unwrap(), approval);
    }
    assert_eq!(approval.state, ApprovalState::Approved);
    let late = Approval { state: ApprovalState::Cancelled, ..approval.clone() };
    assert!(is_conflict(&world.database.decide(late, 2, vec![world.event("late")]).await));

    for (expires, expected) in [(true, ApprovalState::Expired), (false, ApprovalState::Cancelled)] {
        let open = Approval { expires_at: Some(world.clock.now()), ..asked(&world).await };
        world.database.request_approval(open.clone(), vec![]).await.unwrap();
        let now = world.clock.now();
        let over = if expires { open.expire(now).unwrap() } else { open.cancel(now).unwrap() };
        world.database.decide(over.clone(), 0, vec![world.event("over")]).await.unwrap();
        assert_eq!(world.database.approval(over.approval_id).await.unwrap(), over);
        assert_eq!(over.state, expected);
    }
    assert_eq!(world.recorded().await.len(), 4);
}

pub(crate) async fn of_votes_at_the_same_time_one_is_stored_and_the_others_try_again(world: World) {
    let approval = Approval { quorum: 9, ..asked(&world).await };
    world.database.request_approval(approval.clone(), vec![]).await.unwrap();
    let other = match world.place.backend {
        Backend::Sqlite => world.sql.clone(),
        Backend::Postgres => world.another_host().await,
    };
    let decisions = (0..8).map(|n| {
        let database = if n % 2 == 0 { world.sql.clone() } else { other.clone() };
        let voted = approval.clone().vote(vote(&world, &n.to_string(), true), None).unwrap();
        tokio::spawn(async move { database.decide(voted, 0, vec![]).await })
    });
    let mut won = 0;
    for decision in decisions.collect::<Vec<_>>() {
        match decision.await.unwrap() {
            Ok(()) => won += 1,
            refused => assert!(is_conflict(&refused), "{refused:?}"),
        }
    }
    assert_eq!(won, 1);
    let stored = world.database.approval(approval.approval_id).await.unwrap();
    assert_eq!((stored.votes.len(), stored.state), (1, ApprovalState::Pending));
    let again = stored.vote(vote(&world, "again", false), None).unwrap();
    other.decide(again.clone(), 1, vec![]).await.unwrap();
    assert_eq!(world.database.approval(approval.approval_id).await.unwrap(), again);
}

pub(crate) async fn approvals_are_filtered_before_the_limit_and_page_without_gaps(world: World) {
    let (job, mut all) = (asked(&world).await, Vec::new());
    for n in 0..13 {
        if n % 3 == 0 {
            world.clock.advance(Duration::from_secs(1));
        }
        let mut approval = asked(&world).await;
        if n % 2 == 0 {
            (approval.job_id, approval.run_id) = (job.job_id, job.run_id);
        }
        world.database.request_approval(approval.clone(), vec![]).await.unwrap();
        if n % 4 == 0 {
            approval = approval.cancel(world.clock.now()).unwrap();
            world.database.decide(approval.clone(), 0, vec![]).await.unwrap();
        }
        all.push(approval);
    }
    all.sort_by_key(|approval| std::cmp::Reverse((approval.created_at, approval.approval_id)));
    for state in [None, Some(ApprovalState::Pending), Some(ApprovalState::Cancelled), Some(ApprovalState::Approved)] {
        for of in [None, Some(job.job_id), Some(JobId::fresh(&*world.ids))] {
            let matches = |approval: &&Approval| {
                state.is_none_or(|state| approval.state == state) && of.is_none_or(|job| approval.job_id == job)
            };
            let wanted: Vec<_> = all.iter().filter(matches).cloned().collect();
            let mut filter = ApprovalFilter { state, job: of, page: Page { limit: 2, after: None } };
            let mut found = Vec::new();
            loop {
                let page = world.database.approvals(&filter).await.unwrap();
                let Some(last) = page.last() else { break };
                assert!(page.len() <= 2);
                filter.page.after = Some(last.approval_id);
                found.extend(page);
            }
            assert_eq!(found, wanted, "{state:?} {of:?}");
        }
    }
    let unknown = Page { limit: 0, after: Some(ApprovalId::fresh(&*world.ids)) };
    let unknown = ApprovalFilter { page: unknown, ..ApprovalFilter::default() };
    assert!(is_missing(&world.database.approvals(&unknown).await, "approval"));
}

pub(crate) async fn approvals_that_cannot_be_stored_are_refused(world: World) {
    let good = asked(&world).await;
    let stranger = asked(&world).await;
    let bad = [
        Approval { prompt: "a\0".into(), ..good.clone() },
        Approval { approvers: ["a\0".to_owned(), "b".into()].into(), ..good.clone() },
        Approval { quorum: 0, ..good.clone() },
        Approval { approvers: ["a".to_owned()].into(), ..good.clone() },
        Approval { state: ApprovalState::Approved, ..good.clone() },
        Approval { job_id: stranger.job_id, ..good.clone() },
    ];
    for approval in bad {
        let refused = world.database.request_approval(approval, vec![world.event("bad")]).await;
        assert!(is_invalid(&refused), "{refused:?}");
    }
    let nowhere = Approval { run_id: RunId::fresh(&*world.ids), ..good.clone() };
    assert!(is_missing(&world.database.request_approval(nowhere, vec![]).await, "run"));
    assert!(is_missing(&world.database.decide(good.clone(), 0, vec![]).await, "approval"));
    assert!(is_missing(&world.database.approval(good.approval_id).await, "approval"));

    let asked = good.vote(vote(&world, "Ada", true), None).unwrap();
    let unvoted = Approval { votes: Vec::new(), ..asked.clone() };
    world.database.request_approval(unvoted.clone(), vec![]).await.unwrap();
    let nul = unvoted.vote(vote(&world, "Bob\0", true), None).unwrap();
    assert!(is_invalid(&world.database.decide(nul, 0, vec![]).await));
    world.database.decide(asked.clone(), 0, vec![]).await.unwrap();
    let mut forged = asked.vote(vote(&world, "Bob", true), None).unwrap();
    forged.votes[0].who = "Eve".into();
    assert!(is_invalid(&world.database.decide(forged, 1, vec![]).await));
    assert_eq!(world.recorded().await.len(), 0);
}

pub(crate) async fn approvals_go_with_their_run(world: World) {
    let desk = Desk::new(world);
    let approval = asked(&desk.world).await;
    desk.world.database.request_approval(approval.clone(), vec![]).await.unwrap();
    desk.raw(&format!("DELETE FROM runs WHERE run_id = '{}'", approval.run_id)).await.unwrap();
    assert!(is_missing(&desk.world.database.approval(approval.approval_id).await, "approval"));
}

pub(crate) async fn a_decision_wakes_the_run_that_waits_for_it_and_no_other(world: World) {
    let now = || world.clock.now();
    let waits = async |approval: &Approval, wake_at: Option<Timestamp>| {
        let run = world.database.run(approval.run_id).await.unwrap();
        let change =
            RunChange { run: Some(WorkflowRun { state: RunState::Waiting, wake_at, ..run }), ..RunChange::default() };
        world.database.amend(approval.run_id, RunState::Queued, change).await.unwrap();
        world.database.request_approval(approval.clone(), vec![]).await.unwrap();
    };
    let (asks, paused, queued) = (asked(&world).await, asked(&world).await, asked(&world).await);
    let late = now().plus(Duration::from_secs(60));
    waits(&asks, Some(late)).await;
    waits(&paused, None).await;
    world.database.request_approval(queued.clone(), vec![]).await.unwrap();
    let due = async || {
        let due = world.database.due(10).await.unwrap();
        due.into_iter().map(|run| (run.run_id, run.wake_at)).collect::<Vec<_>>()
    };
    assert_eq!(due().await, []);
    let once = asks.clone().vote(vote(&world, "Ada", true), None).unwrap();
    world.database.decide(once.clone(), 0, vec![]).await.unwrap();
    assert_eq!(due().await, [], "a vote is missing");
    world.clock.advance(Duration::from_secs(1));
    let decided = once.vote(vote(&world, "Bob", true), None).unwrap();
    world.database.decide(decided, 1, vec![]).await.unwrap();
    for other in [paused, queued] {
        let run = other.run_id;
        let no = other.vote(vote(&world, "Ada", false), None).unwrap();
        world.database.decide(no, 0, vec![]).await.unwrap();
        assert_eq!(world.database.run(run).await.unwrap().wake_at, None);
    }
    assert_eq!(due().await, [(asks.run_id, Some(now()))]);
    assert!(world.database.due(0).await.unwrap().is_empty());
}
