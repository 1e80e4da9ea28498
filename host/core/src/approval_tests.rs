//! Votes on approvals: every case that there is.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::testing::SequentialIds;

const START: i64 = 1_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros((START + seconds) * 1_000_000)
}

fn approval(approvers: &[&str], quorum: u32, expires: Option<i64>) -> Approval {
    let ids = SequentialIds::default();
    Approval {
        approval_id: ApprovalId::fresh(&ids),
        job_id: JobId::fresh(&ids),
        run_id: RunId::fresh(&ids),
        step_id: StepId::new("sign-off").unwrap(),
        index: None,
        state: ApprovalState::Pending,
        prompt: "publish?".into(),
        approvers: approvers.iter().map(|name| (*name).to_owned()).collect(),
        quorum,
        permission: None,
        votes: Vec::new(),
        expires_at: expires.map(at),
        created_at: at(0),
        decided_at: None,
    }
}

fn vote(who: &str, approve: bool, seconds: i64) -> Vote {
    Vote { who: who.into(), approve, reason: None, at: at(seconds) }
}

#[test]
fn votes_decide_as_the_table_says() {
    use ApprovalState::*;
    // Approvers, quorum, expiry, votes as `name+` or `name-` one second apart, and what comes of the last one.
    type Row = (&'static [&'static str], u32, Option<i64>, &'static str, Result<ApprovalState, ApprovalError>);
    let name = |name: &str| name.to_owned();
    let table: [Row; 15] = [
        (&[], 1, None, "ada+", Ok(Approved)),
        (&[], 1, None, "ada-", Ok(Rejected)),
        (&[], 2, None, "ada+", Ok(Pending)),
        (&[], 2, None, "ada+ bob+", Ok(Approved)),
        (&[], 2, None, "ada+ bob-", Ok(Rejected)),
        (&[], 2, None, "ada+ ada+", Err(ApprovalError::VotedAlready(name("ada")))),
        (&[], 2, None, "ada+ ada-", Err(ApprovalError::VotedAlready(name("ada")))),
        (&[], 1, None, "ada+ bob+", Err(ApprovalError::Decided(Approved))),
        (&[], 1, None, "ada- bob+", Err(ApprovalError::Decided(Rejected))),
        (&["ada", "bob"], 2, None, "bob+ ada+", Ok(Approved)),
        (&["ada", "bob"], 1, None, "eve+", Err(ApprovalError::NotAnApprover(name("eve")))),
        (&["ada", "bob"], 1, None, "Ada-", Err(ApprovalError::NotAnApprover(name("Ada")))),
        (&[], 1, Some(2), "ada+", Ok(Approved)),
        (&[], 1, Some(1), "ada+", Err(ApprovalError::Expired(at(1)))),
        (&[], 2, Some(2), "ada+ bob-", Err(ApprovalError::Expired(at(2)))),
    ];
    for (approvers, quorum, expires, votes, expected) in table {
        let asked = approval(approvers, quorum, expires);
        asked.check().unwrap();
        let mut answer = Ok(asked);
        for (word, second) in votes.split(' ').zip(1..) {
            let (who, sign) = word.split_at(word.len() - 1);
            answer = answer.unwrap().vote(vote(who, sign == "+", second), None);
        }
        let case = format!("{approvers:?} {quorum} {expires:?} {votes}");
        assert_eq!(answer.as_ref().map(|approval| approval.state).map_err(Clone::clone), expected, "{case}");
        if let Ok(approval) = answer {
            let last = i64::try_from(approval.votes.len()).unwrap();
            assert_eq!(approval.votes.len(), votes.split(' ').count(), "{case}");
            assert_eq!(approval.decided_at, (approval.state != Pending).then(|| at(last)), "{case}");
        }
    }
}

#[test]
fn a_decided_approval_takes_nothing_more() {
    let ended = [
        approval(&[], 1, None).vote(vote("ada", true, 1), None).unwrap(),
        approval(&[], 1, None).vote(vote("ada", false, 1), None).unwrap(),
        approval(&[], 1, Some(5)).expire(at(5)).unwrap(),
        approval(&[], 1, None).cancel(at(2)).unwrap(),
    ];
    let states: Vec<_> = ended.iter().map(|approval| approval.state).collect();
    assert_eq!(states, &ApprovalState::ALL[1..]);
    for approval in ended {
        assert!(approval.decided_at.is_some());
        let decided = Err(ApprovalError::Decided(approval.state));
        assert_eq!(approval.clone().vote(vote("bob", true, 1), None), decided);
        assert_eq!(approval.clone().expire(at(9)), decided);
        assert_eq!(approval.cancel(at(9)), decided);
    }
}

#[test]
fn an_approval_expires_when_its_time_has_come_and_not_before() {
    let early = approval(&[], 1, Some(5)).expire(at(4)).unwrap_err();
    assert_eq!(early, ApprovalError::NotExpired(Some(at(5))));
    assert_eq!(early.to_string(), format!("the approval does not expire before {}", at(5)));
    assert_eq!(approval(&[], 1, None).expire(at(99)), Err(ApprovalError::NotExpired(None)));
    assert_eq!(approval(&[], 1, Some(5)).expire(at(6)).unwrap().decided_at, Some(at(6)));
}

#[test]
fn what_cannot_be_asked_or_said_is_refused() {
    let good = approval(&["ada"], 1, None);
    let voted = approval(&[], 2, None).vote(vote("ada", true, 1), None).unwrap();
    let bad = [
        Approval { approval_id: ApprovalId::from_uuid(uuid::Uuid::nil()), ..good.clone() },
        Approval { quorum: 0, ..good.clone() },
        Approval { quorum: 2, ..good.clone() },
        Approval { prompt: "x".repeat(MAX_PROMPT_BYTES + 1), ..good.clone() },
        Approval { state: ApprovalState::Approved, ..good.clone() },
        Approval { decided_at: Some(at(1)), ..good.clone() },
        approval(&[""], 1, None),
        approval(&["x".repeat(257).as_str()], 1, None),
        approval(&[], 1_001, None),
        voted,
    ];
    for approval in bad {
        assert!(matches!(approval.check(), Err(ApprovalError::Invalid(_))), "{approval:?}");
    }
    let invalid = |vote| assert!(matches!(approval(&[], 1, None).vote(vote, None), Err(ApprovalError::Invalid(_))));
    invalid(vote("", true, 1));
    invalid(vote(&"x".repeat(257), true, 1));
    invalid(Vote { reason: Some("x".repeat(MAX_REASON_BYTES + 1)), ..vote("ada", true, 1) });
}
