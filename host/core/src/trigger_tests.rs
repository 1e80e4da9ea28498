//! Names, keys and bounds of triggers, and the form of schedules.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::testing::SequentialIds;
use crate::workflow::TriggerSpec;

fn trigger() -> Trigger {
    Trigger {
        trigger_id: TriggerId::fresh(&SequentialIds::default()),
        name: TriggerName::new("daily").unwrap(),
        workflow: "name: daily".into(),
        file: "daily.yaml".into(),
        inputs: Map::new(),
        base: "/srv".into(),
        schedule: Schedule::Cron("0 6 * * *".into()),
        missed: Missed::default(),
        next_at: Timestamp::from_micros(0),
        last_at: None,
        last_job: None,
        last_error: None,
        created_by: Actor::system(),
        created_at: Timestamp::from_micros(0),
    }
}

#[test]
fn a_trigger_is_told_from_an_id_by_its_name() {
    let id = trigger().trigger_id;
    assert_eq!(id.to_string().parse(), Ok(TriggerRef::Id(id)));
    assert_eq!("daily".parse(), Ok(TriggerRef::Name(trigger().name)));
    assert!("Dai ly".parse::<TriggerRef>().is_err());
    for name in [id.to_string(), id.uuid().simple().to_string()] {
        let like_an_id = Trigger { name: TriggerName::new(name).unwrap(), ..trigger() };
        assert!(matches!(like_an_id.check(), Err(InvalidTrigger::NameIsId(_))));
    }
}

#[test]
fn texts_of_triggers_are_bounded() {
    assert_eq!(trigger().check(), Ok(()));
    let long = |bytes: usize| "x".repeat(bytes);
    for bad in [
        Trigger { workflow: String::new(), ..trigger() },
        Trigger { workflow: long(MAX_WORKFLOW_BYTES + 1), ..trigger() },
        Trigger { file: long(MAX_FILE_BYTES + 1), ..trigger() },
        Trigger { last_error: Some(long(MAX_TRIGGER_ERROR_BYTES + 1)), ..trigger() },
    ] {
        assert!(matches!(bad.check(), Err(InvalidTrigger::Length { .. })));
    }
}

#[test]
fn each_time_has_a_key_of_its_own() {
    let key = trigger().idempotency_key(Timestamp::from_micros(7));
    assert_eq!(key, "trigger:00000000-0000-0000-0000-000000000001:7");
}

#[test]
fn never_can_be_written_and_read() {
    assert_eq!(Timestamp::NEVER.to_string(), "9999-12-31T23:59:59.000000Z");
    assert_eq!(Timestamp::parse(&Timestamp::NEVER.to_string()), Some(Timestamp::NEVER));
}

#[test]
fn a_file_says_cron_or_every() {
    let spec = |value: Value| serde_json::from_value::<TriggerSpec>(value).unwrap();
    assert_eq!(spec(json!({ "cron": "0 6 * * *" })).schedule(), Some(Schedule::Cron("0 6 * * *".into())));
    let every = spec(json!({ "every": "15m", "missed": "all" }));
    assert_eq!(every.schedule(), Some(Schedule::Every(Period(Duration::from_secs(900)))));
    assert_eq!(every.missed, Missed::All);
    assert_eq!(spec(json!({})).missed, Missed::Once);
    assert_eq!(spec(json!({ "cron": "0 6 * * *", "every": "15m" })).schedule(), None);
    assert!(serde_json::from_value::<TriggerSpec>(json!({ "evry": "15m" })).is_err());
}

#[test]
fn schedules_are_stored_as_they_are_written() {
    for schedule in [Schedule::Cron("*/5 * * * *".into()), Schedule::Every(Period(Duration::from_millis(1_500)))] {
        let text = serde_json::to_string(&schedule).unwrap();
        assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), schedule, "{text}");
    }
}
