//! What holds for storage on every backend: the same cases run on SQLite and on PostgreSQL, each with a database of
//! its own, and every method of the ports must have been called by one of them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod approvals;
mod artifacts;
mod claims;
mod content;
mod desk;
mod edits;
mod grants;
mod guard;
mod jobs;
mod outbox;
mod ports;
mod retention;
mod runs;
mod tokens;
mod triggers;

use std::pin::Pin;

use futures::StreamExt;
use handshake_tests::postgres::{Backend, backends};
use handshake_tests::storage::{Calls, World};

/// A case and its name.
struct Case(&'static str, fn(World) -> Pin<Box<dyn Future<Output = ()> + Send>>);

macro_rules! cases {
    ($($module:ident::$case:ident,)*) => {
        [$(Case(concat!(stringify!($module), "::", stringify!($case)), |world| Box::pin($module::$case(world)))),*]
    };
}

/// Cases that run at the same time, each on a database of its own.
const AT_ONCE: usize = 4;

/// Every case.
const CASES: &[Case] = &cases![
    jobs::a_job_and_its_run_come_back_as_they_were_submitted,
    jobs::an_unknown_job_is_not_found,
    jobs::a_copy_of_the_database_holds_what_was_stored_until_then,
    jobs::one_idempotency_key_gives_one_job_however_many_submit_at_once,
    jobs::a_job_begins_with_its_run_claimed_or_is_not_stored,
    jobs::a_duplicate_job_fails_alone,
    jobs::lists_are_filtered_before_the_limit_and_page_without_gaps,
    jobs::what_cannot_be_stored_is_refused_before_anything_is_written,
    runs::a_claim_makes_run_and_job_running_and_raises_the_token,
    runs::one_of_many_claims_wins,
    runs::a_claim_is_refused_for_other_states_and_for_ended_jobs,
    runs::a_commit_writes_everything_and_attempts_come_back_in_order,
    runs::logs_come_in_the_order_in_which_attempts_ended_and_a_part_at_a_time,
    runs::an_outdated_token_writes_nothing_and_does_not_disturb_its_neighbours,
    runs::effects_come_back_in_order_and_only_a_running_run_may_have_them,
    runs::a_change_reaches_no_other_run_and_no_other_job,
    runs::a_heartbeat_moves_the_sign_of_life_and_nothing_else,
    runs::a_run_that_nobody_executes_is_amended_from_the_state_that_was_seen,
    outbox::the_chain_is_contiguous_after_a_mixed_concurrent_load,
    claims::queued_runs_are_claimed_oldest_first_with_their_events,
    claims::the_hosts_of_a_run_are_those_that_began_its_attempts,
    claims::a_queued_run_whose_job_has_ended_is_passed_over,
    claims::each_job_is_claimed_exactly_once_by_a_crowd,
    claims::stalled_workflows_are_detected_by_heartbeat,
    claims::after_a_lease_is_taken_away_the_old_holders_writes_are_refused,
    claims::arrivals_tell_of_runs_that_any_host_queues,
    claims::a_job_moves_on_only_from_the_state_that_was_seen,
    claims::a_pin_stays_whatever_the_holder_writes,
    claims::a_run_that_is_not_running_any_more_does_not_move_on_under_its_old_claim,
    outbox::events_keep_the_order_in_which_they_were_queued,
    outbox::a_durable_write_takes_everything_queued_before_it_along,
    outbox::events_alone_become_durable_by_themselves,
    outbox::waiting_for_growth_returns_at_once_when_it_has_happened,
    outbox::a_full_queue_refuses_and_has_room_again_when_its_events_are_durable,
    outbox::released_records_are_gone_and_the_chain_goes_on_behind_them,
    outbox::records_that_are_not_durable_cannot_be_released,
    outbox::a_release_concerns_no_other_host,
    outbox::the_database_does_not_grow_with_what_is_released,
    outbox::an_event_with_a_nul_is_on_record_without_it,
    outbox::closing_writes_what_is_queued_and_later_calls_fail,
    artifacts::content_comes_back_and_equal_content_is_stored_once,
    artifacts::a_run_reads_what_was_shared_with_it_and_what_earlier_runs_of_its_job_had,
    artifacts::another_runs_artifact_gives_the_same_answer_as_one_that_nobody_has,
    artifacts::a_permit_for_another_axis_or_another_run_is_refused,
    artifacts::what_is_too_large_misnamed_or_belongs_to_no_run_is_refused,
    artifacts::a_damaged_file_is_noticed_and_repaired_by_the_next_put,
    artifacts::files_are_readable_for_their_owner_alone_and_leftovers_go_at_the_next_start,
    retention::finished_jobs_go_after_the_window_but_for_the_newest_of_each_workflow,
    retention::pinned_jobs_and_those_that_are_not_over_stay,
    retention::a_job_goes_with_everything_that_belongs_to_it,
    retention::a_dry_run_deletes_nothing_and_says_so_in_its_report,
    retention::the_report_is_stored_before_anything_is_deleted,
    retention::each_time_there_is_one_summary,
    retention::beyond_the_quota_the_oldest_go_before_their_time,
    retention::content_that_another_run_lists_stays_and_orphans_go,
    retention::content_that_is_being_stored_is_not_swept_away,
    retention::one_host_at_a_time_deletes,
    content::content_comes_back_as_it_was_stored,
    content::numbers_and_enums_come_back_exactly,
    content::content_that_cannot_be_stored_is_refused_in_every_field,
    content::lists_of_content_are_newest_first_and_page_without_gaps,
    content::blocks_nodes_and_edges_have_their_own_order,
    content::an_update_keeps_where_content_belongs_and_when_it_was_created,
    content::references_stay_within_a_workspace_and_a_canvas,
    content::unknown_content_is_not_found,
    edits::an_edit_is_made_as_a_whole_or_not_at_all,
    edits::what_exists_already_is_not_created_again,
    edits::a_change_of_what_moved_on_is_a_conflict,
    edits::of_editors_at_the_same_time_one_wins,
    edits::nothing_is_added_to_what_another_host_deletes,
    edits::deletions_take_along_what_belongs_and_leave_an_event_for_each,
    edits::one_edit_deletes_no_more_than_it_may,
    edits::an_edit_and_its_jobs_move_are_one,
    guard::guard_blocks_ai_without_context,
    guard::ai_writes_without_context_are_rejected_for_every_content_table,
    guard::an_ai_edits_only_under_a_job_that_exists_and_goes_on,
    guard::mutation_metadata_persists_on_writes_to_every_content_table,
    guard::the_database_itself_refuses_an_ai_without_a_job,
    approvals::an_approval_comes_back_as_it_was_asked,
    approvals::votes_are_stored_one_by_one_and_a_decision_is_final,
    approvals::of_votes_at_the_same_time_one_is_stored_and_the_others_try_again,
    approvals::approvals_are_filtered_before_the_limit_and_page_without_gaps,
    approvals::approvals_that_cannot_be_stored_are_refused,
    approvals::approvals_go_with_their_run,
    approvals::a_decision_wakes_the_run_that_waits_for_it_and_no_other,
    grants::a_grant_comes_back_as_it_was_given,
    grants::a_grant_is_taken_back_once_and_says_by_whom,
    grants::grants_are_filtered_before_the_limit_and_page_without_gaps,
    grants::grants_that_cannot_be_stored_are_refused,
    tokens::a_token_comes_back_as_it_was_made,
    tokens::of_the_tokens_that_count_only_one_has_a_name,
    tokens::a_token_is_revoked_once_and_says_by_whom,
    tokens::tokens_page_without_gaps,
    triggers::a_trigger_comes_back_as_it_was_added,
    triggers::a_name_is_taken_once_and_free_again_after_a_removal,
    triggers::triggers_page_without_gaps,
    triggers::what_is_due_comes_longest_overdue_first,
    triggers::a_trigger_advances_only_from_the_time_that_was_seen_and_keeps_what_it_is,
    triggers::of_hosts_that_advance_at_the_same_time_one_wins,
    triggers::triggers_that_cannot_be_stored_are_refused,
];

async fn conformance(backend: Backend) {
    if !backends().contains(&backend) {
        eprintln!("NOT RUN: HANDSHAKE_TEST_BACKEND asks for another backend alone");
        return;
    }
    let calls = Calls::default();
    let failed: Vec<&str> = futures::stream::iter(CASES)
        .map(|Case(name, case)| {
            let calls = calls.clone();
            let run = async move { case(World::new(backend, &calls).await).await };
            async move { tokio::spawn(run).await.is_err().then_some(*name) }
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await;
    assert!(failed.is_empty(), "{} of {} cases failed on {backend:?}: {failed:#?}", failed.len(), CASES.len());
    let called = calls.names();
    let missing: Vec<_> = ports::methods().into_iter().filter(|method| !called.contains(method.as_str())).collect();
    assert!(missing.is_empty(), "no case calls {missing:?} on {backend:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_storage_conformance() {
    conformance(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_storage_conformance() {
    conformance(Backend::Postgres).await;
}
