//! Triggers on doubles: added, fired, fired again after a crash, and gone on with after a refusal.

use std::time::Duration;

use handshake_core::event::{Actor, ActorKind};
use handshake_core::job::JobState;
use handshake_core::storage::{JobStore, StorageError, TriggerStore};
use handshake_core::trigger::{Missed, Schedule, Trigger, TriggerRef};
use handshake_core::{Clock, Timestamp, TriggerName};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::doubles::*;
use crate::{SubmittedJob, TriggerError};

/// Each minute, told for which one.
const MINUTELY: &str = "
name: Each minute!
trigger: { every: 1m }
inputs: { scheduled_at: { type: string }, who: { type: string, default: all } }
steps: [{ id: read, uses: read-folder, with: { at: '${inputs.scheduled_at}', who: '${inputs.who}' } }]
";

fn minutely(missed: &str) -> String {
    MINUTELY.replace("every: 1m", &format!("every: 1m, missed: {missed}"))
}

fn given() -> Bench {
    bench(|call| Act::Give(json!({ "node": call.node })))
}

fn person() -> Actor {
    Actor { kind: ActorKind::Human, id: "tester".into() }
}

impl Bench {
    async fn added(&self, text: &str) -> Trigger {
        self.engine.add_trigger(None, submission(text, &[])).await.unwrap()
    }

    async fn after(&self, seconds: u64) -> Vec<SubmittedJob> {
        self.clock.advance(Duration::from_secs(seconds));
        self.engine.fire_due().await.unwrap()
    }

    /// The times that jobs were told, oldest first.
    fn told(&self) -> Vec<String> {
        let tables = self.database.tables();
        let told = tables.jobs.values().map(|job| job.job_inputs["scheduled_at"].as_str().unwrap().to_owned());
        told.map(|time| time.replace("2026-01-01T", "").replace(".000000Z", "")).collect()
    }

    /// What is on record about triggers, oldest first.
    fn said(&self) -> Vec<String> {
        let tables = self.database.tables();
        let said = tables.events.iter().filter(|event| event["payload"]["kind"] == "trigger");
        said.map(|event| event["payload"]["detail"].as_str().unwrap().replace(".000000Z", "")).collect()
    }

    async fn trigger(&self) -> Trigger {
        self.database.trigger(&TriggerRef::Name(TriggerName::new("each-minute").unwrap())).await.unwrap()
    }
}

#[tokio::test]
async fn a_trigger_fires_at_its_times_and_tells_the_workflow_which() {
    let bench = given();
    assert_eq!(bench.engine.next_due().await.unwrap(), None);
    let trigger = bench.engine.add_trigger(None, submission(MINUTELY, &[("who", json!("me"))])).await.unwrap();
    assert_eq!((trigger.name.as_str(), trigger.missed), ("each-minute", Missed::Once));
    assert_eq!(Value::from(trigger.inputs.clone()), json!({ "who": "me" }), "the time is not one of its inputs");
    assert_eq!(bench.engine.next_due().await.unwrap(), Some(trigger.next_at));
    assert_eq!(bench.database.trigger(&TriggerRef::Id(trigger.trigger_id)).await.unwrap(), trigger);
    assert_eq!(bench.after(59).await, []);

    let fired = bench.after(1).await;
    let [job] = fired.as_slice() else { panic!("{fired:?}") };
    assert!(!job.existing);
    let summary = bench.engine.execute(job.run_id, CancellationToken::new()).await.unwrap();
    assert_eq!(summary.job.state, JobState::Completed);
    assert_eq!(bench.calls()[0].input, json!({ "at": "2026-01-01T00:01:00.000000Z", "who": "me" }));
    assert_eq!(bench.engine.fire_due().await.unwrap(), [], "once is enough");
    assert_eq!(bench.after(61).await.len(), 1);
    assert_eq!(bench.told(), ["00:01:00", "00:02:00"]);

    let now = bench.trigger().await;
    assert_eq!(now.last_at, Some(trigger.next_at.plus(Duration::from_secs(60))));
    assert_eq!(now.next_at, trigger.next_at.plus(Duration::from_secs(120)), "it keeps to its times, late or not");
    assert_eq!(
        bench.said(),
        [
            "added trigger `each-minute`: every 1m, next at 2026-01-01T00:01:00",
            "trigger `each-minute` fired for 2026-01-01T00:01:00",
            "trigger `each-minute` fired for 2026-01-01T00:02:00",
        ]
    );
    let tables = bench.database.tables();
    let event = tables.events.iter().rfind(|event| event["payload"]["kind"] == "trigger").unwrap();
    let job = &tables.jobs[&now.last_job.unwrap()];
    assert_eq!(event["job_id"], json!(job.job_id));
    assert_eq!(event["trace_id"], json!(job.trace_id), "the events of a job have one trace");
}

#[tokio::test]
async fn missed_times_are_treated_and_stated_as_the_workflow_says() {
    for (missed, told, said) in [
        ("skip", vec!["00:04:00", "00:05:00"], "trigger `each-minute`: 3 missed since 2026-01-01T00:01:00, left out"),
        ("once", vec!["00:05:00"], "trigger `each-minute`: 5 due since 2026-01-01T00:01:00, which become one run"),
        (
            "all",
            vec!["00:01:00", "00:02:00", "00:03:00", "00:04:00", "00:05:00"],
            "trigger `each-minute`: 3 missed since 2026-01-01T00:01:00 get a run each",
        ),
    ] {
        let bench = given();
        bench.added(&minutely(missed)).await;
        assert_eq!(bench.after(300).await.len(), told.len());
        assert_eq!(bench.told(), told, "{missed}");
        assert_eq!(bench.said()[1], said);
        assert_eq!(bench.after(1).await, []);
    }
}

#[tokio::test]
async fn of_many_missed_times_a_hundred_fire_and_the_rest_at_the_next_look() {
    let bench = given();
    bench.added(&minutely("all")).await;
    for expected in [100, 100, 50, 0] {
        let seconds = if expected == 100 && bench.told().is_empty() { 250 * 60 } else { 0 };
        assert_eq!(bench.after(seconds).await.len(), expected);
    }
    let told = bench.told();
    assert_eq!(told.len(), 250);
    assert!(told.is_sorted() && told.windows(2).all(|pair| pair[0] != pair[1]));
    assert!(
        bench.said()[1].ends_with("100 missed since 2026-01-01T00:01:00 get a run each, the others at the next look")
    );
}

#[tokio::test]
async fn a_crash_between_the_job_and_the_next_time_gives_the_same_job_again() {
    for missed in ["skip", "once", "all"] {
        let bench = given();
        let trigger = bench.added(&minutely(missed)).await;
        bench.database.tables().stuck = true;
        let first = bench.after(60).await;
        assert_eq!(first.len(), 1, "the job is stored, so it is executed");
        assert_eq!(bench.trigger().await, trigger, "the trigger has not moved");

        // The process was lost before it executed anything; the next one comes.
        bench.database.tables().stuck = false;
        let again = bench.after(5).await;
        assert_eq!(again.iter().map(|job| job.run_id).collect::<Vec<_>>(), [first[0].run_id]);
        assert!(again[0].existing);
        assert_eq!(bench.told(), ["00:01:00"], "{missed}");
        let moved = bench.trigger().await;
        assert_eq!((moved.last_job, moved.last_at), (Some(first[0].job_id), Some(trigger.next_at)));
        assert_eq!(bench.after(10).await, []);
    }
}

#[tokio::test]
async fn after_a_crash_a_job_that_ran_is_not_begun_again_and_later_times_are_not_lost() {
    let bench = given();
    bench.added(MINUTELY).await;
    bench.database.tables().stuck = true;
    let first = bench.after(60).await;
    bench.engine.execute(first[0].run_id, CancellationToken::new()).await.unwrap();
    bench.database.tables().stuck = false;
    assert_eq!(bench.after(5).await, [], "it is over");
    assert_eq!(bench.told(), ["00:01:00"]);

    bench.database.tables().stuck = true;
    assert_eq!(bench.after(60).await.len(), 1);
    bench.database.tables().stuck = false;
    assert_eq!(bench.after(3_600).await.len(), 1, "what was missed after the crash is made up for");
    assert_eq!(bench.told(), ["00:01:00", "00:02:00", "01:02:00"]);
}

#[tokio::test]
async fn of_two_hosts_that_look_at_once_each_time_has_one_job_and_one_event() {
    let bench = given();
    bench.added(MINUTELY).await;
    bench.clock.advance(Duration::from_secs(60));
    let (here, there) = tokio::join!(bench.engine.fire_due(), bench.engine.fire_due());
    let all = [here.unwrap(), there.unwrap()].concat();
    assert_eq!(all.iter().filter(|job| !job.existing).count(), 1);
    assert_eq!(bench.told(), ["00:01:00"]);
    assert_eq!(bench.said().iter().filter(|said| said.contains("fired")).count(), 1);
}

#[tokio::test]
async fn a_refused_submission_is_noted_and_the_schedule_goes_on() {
    let bench = given();
    let trigger = bench.added(MINUTELY).await;
    // The plugin of the workflow that is stored goes away.
    let gone = MINUTELY.replace("read-folder", "gone");
    bench.database.tables().triggers.get_mut(&trigger.trigger_id).unwrap().workflow = gone;
    assert_eq!(bench.after(60).await, []);
    let refused = bench.trigger().await;
    assert!(refused.last_error.as_ref().unwrap().contains("`gone`"), "{refused:?}");
    assert_eq!((refused.last_at, refused.next_at), (None, trigger.next_at.plus(Duration::from_secs(60))));
    assert!(bench.said()[1].starts_with("trigger `each-minute` brought no job for 2026-01-01T00:01:00: flow.yaml:5:"));

    bench.database.tables().triggers.get_mut(&trigger.trigger_id).unwrap().workflow = MINUTELY.into();
    assert_eq!(bench.after(60).await.len(), 1);
    assert_eq!(bench.trigger().await.last_error, None);
    assert_eq!(bench.told(), ["00:02:00"]);
}

#[tokio::test]
async fn a_schedule_that_is_not_understood_disturbs_no_other_trigger() {
    let bench = given();
    let broken = bench.added(&MINUTELY.replace("Each minute!", "broken")).await;
    bench.added(MINUTELY).await;
    let schedule = Schedule::Cron("whenever".into());
    bench.database.tables().triggers.get_mut(&broken.trigger_id).unwrap().schedule = schedule;
    assert_eq!(bench.after(60).await.len(), 1);
    let broken = bench.database.trigger(&TriggerRef::Id(broken.trigger_id)).await.unwrap();
    assert!(broken.last_error.unwrap().contains("`whenever`") && broken.next_at > bench.clock.now());
}

#[tokio::test]
async fn a_trigger_that_is_put_back_gives_no_time_a_second_job() {
    let bench = given();
    bench.added(MINUTELY).await;
    assert_eq!(bench.after(60).await.len(), 1);
    let now = bench.clock.now();
    bench.clock.advance(Duration::from_secs(600));
    assert_eq!(bench.after(0).await.len(), 1);
    // As after a restore of this table alone.
    let trigger = Trigger { next_at: now, ..bench.trigger().await };
    bench.database.tables().triggers.insert(trigger.trigger_id, Trigger { missed: Missed::All, ..trigger });
    let again = bench.after(0).await;
    assert_eq!(again.iter().filter(|job| !job.existing).count(), 9, "those that had become one run");
    let told = bench.told();
    let distinct: std::collections::BTreeSet<_> = told.iter().collect();
    assert_eq!(distinct.len(), told.len());
}

#[tokio::test]
async fn triggers_that_cannot_be_added_say_why() {
    let bench = given();
    let refuse = async |text: &str, inputs: &[(&str, Value)]| {
        bench.engine.add_trigger(None, submission(text, inputs)).await.unwrap_err().to_string()
    };
    let plain = "name: x\nsteps: [{ id: read, uses: read-folder }]";
    insta::assert_snapshot!(refuse(plain, &[]).await, @"workflow `x` has no `trigger`, so nobody knows when to run it");
    let unnamed = MINUTELY.replace("Each minute!", "毎分");
    insta::assert_snapshot!(refuse(&unnamed, &[]).await, @"no name for the trigger can be made of the workflow's name, `毎分`");
    insta::assert_snapshot!(refuse(MINUTELY, &[("scheduled_at", json!("now"))]).await, @"input `scheduled_at` cannot be given: it gets the time for which the trigger fires");
    insta::assert_snapshot!(refuse(MINUTELY, &[("whom", json!("x"))]).await, @"input `whom`: the workflow does not have it");
    let missing = MINUTELY.replace(", default: all", "");
    insta::assert_snapshot!(refuse(&missing, &[]).await, @"input `who`: it is required and was not given");
    let gone = MINUTELY.replace("read-folder", "gone");
    assert!(refuse(&gone, &[]).await.contains("`gone`"));
    assert!(bench.database.tables().triggers.is_empty() && bench.said().is_empty());

    bench.added(MINUTELY).await;
    let again = bench.engine.add_trigger(None, submission(MINUTELY, &[])).await;
    assert!(matches!(again, Err(TriggerError::Storage(StorageError::Conflict(_)))), "{again:?}");
    let other = Some(TriggerName::new("other").unwrap());
    assert_eq!(bench.engine.add_trigger(other, submission(MINUTELY, &[])).await.unwrap().name.as_str(), "other");
}

#[test]
fn triggers_of_files_that_are_wrong() {
    let refused = |trigger: &str| {
        let text = format!("name: x\nsteps: [{{ id: read, uses: read-folder }}]\ntrigger: {trigger}\n");
        let error = given().engine.check(&yaml(&text)).expect_err("the workflow is accepted");
        error.problems().iter().map(|problem| format!("{problem}\n{}", problem.hint())).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(refused("{}"), @r##"
    flow.yaml:3:10: trigger: a trigger has `cron` or `every`, and this one has neither
    write `cron: "0 6 * * *"` or `every: 15m`
    "##);
    insta::assert_snapshot!(refused("{ cron: '0 6 * * *', every: 1m }"), @r##"
    flow.yaml:3:38: trigger.every: a trigger has `cron` or `every`, and this one has both
    remove one of the two
    "##);
    insta::assert_snapshot!(refused("{ cron: '0 6 * *' }"), @r##"
    flow.yaml:3:18: trigger.cron: `0 6 * *` has 4 fields, and a cron expression has five
    write minute, hour, day of the month, month and day of the week, in UTC: `0 6 * * *` is each day at six
    "##);
    insta::assert_snapshot!(refused("{ cron: '0 25 * * *' }"), @r##"
    flow.yaml:3:18: trigger.cron: `0 25 * * *` is not a cron expression: Number out of bounds
    write minute, hour, day of the month, month and day of the week, in UTC: `0 6 * * *` is each day at six
    "##);
    insta::assert_snapshot!(refused("{ cron: '0 0 30 2 *' }"), @r##"
    flow.yaml:3:18: trigger.cron: `0 0 30 2 *` never comes: no month has such a day
    write minute, hour, day of the month, month and day of the week, in UTC: `0 6 * * *` is each day at six
    "##);
    insta::assert_snapshot!(refused("{ every: 999ms }"), @r##"
    flow.yaml:3:19: trigger.every: `999ms` is not between one second and ten years
    write for example `30s`, `15m` or `24h`
    "##);
    insta::assert_snapshot!(refused("{ every: 11years }"), @r##"
    flow.yaml:3:19: trigger.every: `11years` is not between one second and ten years
    write for example `30s`, `15m` or `24h`
    "##);
    insta::assert_snapshot!(refused("{ every: soon }"), @r##"
    flow.yaml:3:19: `soon` is not a length of time such as `500ms`, `1s`, `5m` or `24h`: expected number at 0
    `handshake schema workflow` prints the form of the file
    "##);
    insta::assert_snapshot!(refused("{ evry: 1m }"), @r##"
    flow.yaml:3:12: unknown key `evry`
    did you mean `every`? keys here are `cron`, `every`, `missed`
    "##);
    insta::assert_snapshot!(refused("{ every: 1m, missed: skipp }"), @r##"
    flow.yaml:3:31: `skipp` is not one of the values that this key takes
    did you mean `skip`? they are `skip`, `once`, `all`
    "##);
}

#[tokio::test]
async fn a_removed_trigger_fires_no_more_and_its_jobs_stay() {
    let bench = given();
    let trigger = bench.added(MINUTELY).await;
    let fired = bench.after(60).await;
    bench.engine.remove_trigger(&TriggerRef::Name(trigger.name.clone()), &person()).await.unwrap();
    assert_eq!(bench.after(60).await, []);
    assert!(bench.database.job(fired[0].job_id).await.is_ok());
    let unknown = bench.engine.remove_trigger(&TriggerRef::Id(trigger.trigger_id), &person()).await;
    assert!(matches!(unknown, Err(TriggerError::Storage(StorageError::NotFound { .. }))));
    let tables = bench.database.tables();
    let last = tables.events.last().unwrap();
    assert_eq!(
        (&last["actor"]["id"], &last["payload"]["detail"]),
        (&json!("tester"), &json!("removed trigger `each-minute`"))
    );
}

#[tokio::test]
async fn a_trigger_that_never_comes_again_is_not_waited_for() {
    let bench = given();
    let trigger = bench.added(MINUTELY).await;
    bench.database.tables().triggers.get_mut(&trigger.trigger_id).unwrap().next_at = Timestamp::NEVER;
    assert_eq!(bench.engine.next_due().await.unwrap(), None);
    assert!(Timestamp::from_micros(0) < Timestamp::NEVER);
}
