//! Random approvals, triggers and clearing away.

use std::time::Duration;

use handshake_core::approval::{Approval, ApprovalState, Vote};
use handshake_core::event::Actor;
use handshake_core::storage::*;
use handshake_core::trigger::{Missed, Schedule, Trigger, TriggerRef};
use handshake_core::workflow::Period;
use handshake_core::{ApprovalId, Clock, JobId, ReportId, StepId, Timestamp, TriggerId, TriggerName};

use crate::{Side, shown};

impl Side {
    /// Asks, votes or looks.
    pub(crate) async fn approval(&mut self) -> String {
        let database = self.world.sql.clone();
        let now = self.world.clock.now();
        let known = self.approvals.len();
        match self.dice.below(4) {
            0 => {
                let run_id = self.run_id();
                let job = database.run(run_id).await.map(|run| run.job_id);
                let approval = Approval {
                    approval_id: ApprovalId::fresh(&*self.world.ids),
                    job_id: job.unwrap_or_else(|_| JobId::fresh(&*self.world.ids)),
                    run_id,
                    step_id: StepId::new("sign-off").unwrap(),
                    index: self.dice.one_in(3).then_some(u32::MAX),
                    state: ApprovalState::Pending,
                    prompt: self.dice.text(),
                    approvers: Default::default(),
                    permission: None,
                    quorum: self.dice.of(&[0, 1, 1, 2, 2]),
                    votes: Vec::new(),
                    expires_at: self.dice.one_in(3).then(|| now.plus(Duration::from_secs(1))),
                    created_at: now,
                    decided_at: None,
                };
                self.approvals.push(approval.approval_id);
                let events = self.events();
                "ask ".to_owned() + &shown(database.request_approval(approval, events).await)
            }
            1 | 2 if known > 0 => {
                let id = self.approvals[self.dice.below(known)];
                let Ok(approval) = database.approval(id).await else { return "no approval".into() };
                let votes = approval.votes.len() + usize::from(self.dice.one_in(10));
                let who = self.dice.of(&["Ada", "Ada", "ä漢", "a\0"]).to_owned();
                let vote = Vote { who, approve: !self.dice.one_in(4), reason: Some(self.dice.text()), at: now };
                let next = match self.dice.below(4) {
                    0 => approval.expire(now),
                    1 => approval.cancel(now),
                    _ => approval.vote(vote, None),
                };
                match next {
                    Ok(next) => "decide ".to_owned() + &shown(database.decide(next, votes, self.events()).await),
                    Err(error) => error.to_string(),
                }
            }
            _ => {
                let filter = ApprovalFilter {
                    state: self.dice.one_in(2).then(|| self.dice.of(ApprovalState::ALL)),
                    job: self.dice.one_in(3).then(|| self.job_id()),
                    page: Page { limit: self.dice.of(&[0, 1, 3]), after: None },
                };
                "approvals ".to_owned() + &shown(database.approvals(&filter).await)
            }
        }
    }

    /// Adds, advances, removes or looks for triggers.
    pub(crate) async fn trigger(&mut self) -> String {
        let database = self.world.sql.clone();
        let now = self.world.clock.now();
        let known = self.triggers.len();
        let id = match known {
            0 => TriggerId::fresh(&*self.world.ids),
            _ => self.triggers[self.dice.below(known)],
        };
        match self.dice.below(5) {
            0 => {
                let trigger = Trigger {
                    trigger_id: TriggerId::fresh(&*self.world.ids),
                    name: TriggerName::new(self.dice.of(&["daily", "hourly", "now_and-then"])).unwrap(),
                    workflow: self.dice.text(),
                    file: "x.yaml".into(),
                    inputs: [("a".to_owned(), self.dice.json())].into_iter().collect(),
                    base: "/srv".into(),
                    schedule: Schedule::Every(Period(Duration::from_millis(1_500))),
                    missed: self.dice.of(Missed::ALL),
                    next_at: self.dice.of(&[now, Timestamp::NEVER, Timestamp::from_micros(-1)]),
                    last_at: None,
                    last_job: None,
                    last_error: None,
                    created_by: Actor::system(),
                    created_at: now,
                };
                self.triggers.push(trigger.trigger_id);
                let events = self.events();
                "create_trigger ".to_owned() + &shown(database.create_trigger(trigger, events).await)
            }
            1 | 2 => {
                let found = database.trigger(&TriggerRef::Id(id)).await;
                let Ok(trigger) = found else { return shown(found) };
                let expected = self.dice.of(&[trigger.next_at, trigger.next_at, now]);
                let next_at = now.plus(Duration::from_secs(self.dice.of(&[0, 1, 100])));
                let last_error = self.dice.one_in(3).then(|| self.dice.text());
                let last_job = self.dice.one_in(2).then(|| self.job_id());
                let next = Trigger { next_at, last_at: Some(now), last_job, last_error, ..trigger };
                let events = self.events();
                "advance_trigger ".to_owned() + &shown(database.advance_trigger(next, expected, events).await)
            }
            3 if self.dice.one_in(3) => {
                let events = self.events();
                "remove_trigger ".to_owned() + &shown(database.remove_trigger(id, events).await)
            }
            _ => {
                let page = Page { limit: self.dice.of(&[0, 1, 3]), after: self.dice.one_in(3).then_some(id) };
                let due = database.due_triggers(now, self.dice.of(&[0, 1, 100])).await;
                format!("triggers {} due {}", shown(database.triggers(&page).await), shown(due))
            }
        }
    }

    /// Looks for what need not be kept, and deletes some of it.
    pub(crate) async fn clear_away(&mut self) -> String {
        let database = self.world.sql.clone();
        let quota = self.dice.of(&[None, Some(0), Some(u64::MAX)]);
        let policy = RetentionPolicy { days: self.dice.of(&[0, 1, u32::MAX]), keep: self.dice.of(&[0, 1, 3]), quota };
        let now = self.world.clock.now().plus(Duration::from_secs(self.dice.of(&[0, 1, 86_401])));
        let limit = self.dice.of(&[0, 2, 1_000]);
        let found = database.prunable(&policy, now, limit).await;
        let candidates = found.as_ref().map_or(Vec::new(), Clone::clone);
        let mut jobs: Vec<JobId> = candidates.iter().map(|candidate| candidate.job_id).collect();
        if self.dice.one_in(3) {
            jobs.push(self.job_id());
        }
        jobs.truncate(2);
        let report = PruneReport {
            report_id: ReportId::fresh(&*self.world.ids),
            host: database.host(),
            dry_run: self.dice.one_in(4),
            started_at: now,
            finished_at: None,
            policy,
            candidates,
            pruned: Pruned::default(),
            swept: Swept::default(),
        };
        let events = self.events();
        let stored = shown(database.store_report(report.clone(), events).await);
        let pruned = shown(database.prune(report.report_id, &jobs).await);
        let finished = PruneReport { finished_at: Some(now), ..report };
        let finished = shown(database.store_report(finished, Vec::new()).await);
        let reports = shown(database.reports(self.dice.of(&[0, 1, 5])).await);
        format!("prunable {} {stored} {pruned} {finished} {reports}", shown(found))
    }
}
