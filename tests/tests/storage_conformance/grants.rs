//! Grants: giving, listing, taking back.

use std::time::Duration;

use handshake_core::capability::{Extent, Grant, GrantTerms};
use handshake_core::storage::{GrantFilter, GrantStore, Page};
use handshake_core::workflow::Period;
use handshake_core::{ApprovalId, Clock, GrantId, JobId, PluginId, RunId, StepId};
use handshake_tests::storage::World;

use crate::desk::{is_conflict, is_invalid, is_missing};

const ODD: &str = "“Größe” 漢字 🎉 \u{202e} '; DROP TABLE capability_grants; -- \\u0000 {}";

fn grant(world: &World, plugin: &str, extent: Extent) -> Grant {
    Grant {
        grant_id: GrantId::fresh(&*world.ids),
        plugin: PluginId::new(plugin).unwrap(),
        capability: "fs.write:out/**".parse().unwrap(),
        terms: GrantTerms {
            extent,
            approval_id: ApprovalId::fresh(&*world.ids),
            job_id: JobId::fresh(&*world.ids),
            run_id: RunId::fresh(&*world.ids),
            step_id: StepId::new("write").unwrap(),
            index: None,
            attempt: 1,
            workspace: "/srv".into(),
            granted_by: "ada".into(),
            reason: None,
        },
        expires_at: None,
        created_at: world.clock.now(),
        revoked_at: None,
        revoked_by: None,
    }
}

pub(crate) async fn a_grant_comes_back_as_it_was_given(world: World) {
    let period = Extent::For(Period(Duration::from_secs(3600)));
    let plain = grant(&world, "a", Extent::UntilRevoked);
    let mut full = grant(&world, "b", period);
    full.expires_at = Some(world.clock.now().plus(Duration::from_secs(3600)));
    full.terms = GrantTerms {
        index: Some(u32::MAX),
        workspace: ODD.into(),
        granted_by: ODD.into(),
        reason: Some(ODD.into()),
        ..full.terms
    };
    for grant in [plain, full, grant(&world, "c", Extent::Once), grant(&world, "d", Extent::Job)] {
        world.database.add_grant(grant.clone(), vec![world.event("granted")]).await.unwrap();
        assert_eq!(world.database.grant(grant.grant_id).await.unwrap(), grant);
        let again = world.database.add_grant(grant, vec![world.event("again")]).await;
        assert!(is_conflict(&again), "{again:?}");
    }
    assert_eq!(world.recorded().await.len(), 4, "events of refused grants are not on record");
    assert!(is_missing(&world.database.grant(GrantId::fresh(&*world.ids)).await, "grant"));
}

pub(crate) async fn a_grant_is_taken_back_once_and_says_by_whom(world: World) {
    let given = grant(&world, "a", Extent::UntilRevoked);
    world.database.add_grant(given.clone(), vec![]).await.unwrap();
    let revoked = Grant { revoked_at: Some(world.clock.now()), revoked_by: Some("bob".into()), ..given.clone() };
    assert!(is_invalid(&world.database.revoke_grant(given.clone(), vec![]).await));
    // Nothing else of it changes.
    let forged = Grant { plugin: PluginId::new("other").unwrap(), ..revoked.clone() };
    world.database.revoke_grant(forged, vec![world.event("revoked")]).await.unwrap();
    assert_eq!(world.database.grant(given.grant_id).await.unwrap(), revoked);
    assert!(is_conflict(&world.database.revoke_grant(revoked.clone(), vec![world.event("again")]).await));
    let unknown = Grant { grant_id: GrantId::fresh(&*world.ids), ..revoked };
    assert!(is_missing(&world.database.revoke_grant(unknown, vec![]).await, "grant"));
    assert_eq!(world.recorded().await.len(), 1);
}

pub(crate) async fn grants_are_filtered_before_the_limit_and_page_without_gaps(world: World) {
    let now = world.clock.now();
    let later = now.plus(Duration::from_secs(60));
    let mut live = Vec::new();
    for n in 0..6 {
        let mut given = grant(&world, if n % 2 == 0 { "even" } else { "odd" }, Extent::UntilRevoked);
        match n {
            0 => given.expires_at = Some(now),
            1 => given.expires_at = Some(later),
            2 => (given.revoked_at, given.revoked_by) = (Some(now), Some("ada".into())),
            _ => {}
        }
        world.database.add_grant(given.clone(), vec![]).await.unwrap();
        if ![0, 2].contains(&n) {
            live.push(given.grant_id);
        }
    }
    let mut seen = Vec::new();
    let mut filter = GrantFilter { live_at: Some(now), plugin: None, page: Page { limit: 1, after: None } };
    loop {
        let page = world.database.grants(&filter).await.unwrap();
        let Some(last) = page.last() else { break };
        filter.page.after = Some(last.grant_id);
        seen.extend(page.iter().map(|grant| grant.grant_id));
    }
    live.sort();
    seen.sort();
    assert_eq!(seen, live);
    let odd = GrantFilter { plugin: Some(PluginId::new("odd").unwrap()), ..GrantFilter::default() };
    let odd = world.database.grants(&odd).await.unwrap();
    assert_eq!(odd.iter().map(|grant| grant.plugin.as_str()).collect::<Vec<_>>(), ["odd"; 3]);
    let after =
        GrantFilter { page: Page { limit: 1, after: Some(GrantId::fresh(&*world.ids)) }, ..GrantFilter::default() };
    assert!(is_missing(&world.database.grants(&after).await, "grant"));
}

pub(crate) async fn grants_that_cannot_be_stored_are_refused(world: World) {
    let good = grant(&world, "a", Extent::Job);
    for terms in [
        GrantTerms { workspace: "a\0".into(), ..good.terms.clone() },
        GrantTerms { granted_by: "a\0".into(), ..good.terms.clone() },
        GrantTerms { reason: Some("a\0".into()), ..good.terms.clone() },
    ] {
        let refused = world.database.add_grant(Grant { terms, ..good.clone() }, vec![]).await;
        assert!(is_invalid(&refused), "{refused:?}");
    }
    assert!(is_missing(&world.database.grant(good.grant_id).await, "grant"));
}
