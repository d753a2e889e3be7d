//! Conversations found by what was said, by the lead's name, and by a part of an address (MSG-25): in one statement, which reads
//! what it finds.
//! Deliberately absent: how long it takes. What is counted is what the database is asked, and how much of it is looked at.

use mainstay_proto::messaging::v1 as proto;

use crate::carried::Providers;
use crate::inbox::{listed, talk};
use crate::sending::{OURS, client, quick, reached};
use crate::world::{Agency, World, fields};

async fn find(agency: &Agency<'_>, words: &str) -> Vec<String> {
    let filter = proto::ListConversationsRequest {
        q: Some(words.to_owned()),
        ..Default::default()
    };
    listed(agency, filter).await.expect("listed")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_is_found_by_what_was_said_by_the_name_and_by_a_part_of_an_address() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 10.0).await;
    let (mike, roof) = talk(&agency, "+15125550123").await;
    let (_, other) = talk(&agency, "+15125559876").await;
    let text = "My ROOF leaks, it's über-bad; don't wait (call 555-0199)";
    providers.text("+15125550123", OURS, text).await;
    let inbound = "select count(*) from messaging.message where direction = 'inbound'";
    reached(&world, inbound, 1).await;
    let request = proto::UpdateLeadRequest {
        client_id: agency.client.to_string(),
        lead_id: mike,
        name: Some("Mike O'Hara-Smith".to_owned()),
        email: Some("mike.ohara@lead.test".to_owned()),
        ..Default::default()
    };
    agency.leads().update_lead(request).await.expect("named");
    for words in [
        "roof",
        "roof leaks",
        "leaks roof",
        "LEAKS my ro",
        "über",
        "ÜBER-BA",
        "don't wai",
        "roof leak.",
        "555-01",
        "o'hara",
        "hara-smi",
        "Mike smith",
        "5550123",
        "+15125550123",
        "(512) 555-0123",
        "ohara@lead",
        "LEAD.TEST",
    ] {
        assert_eq!(find(&agency, words).await, [roof.as_str()], "{words}");
    }
    for words in [
        "roofs",
        "oof",
        "roo leaks",
        "leaks tomato",
        "!!",
        "' | '",
        "5550124",
    ] {
        assert_eq!(find(&agency, words).await, Vec::<String>::new(), "{words}");
    }
    // Both were told so, and the one that something was said in last is first; filters narrow.
    let both = find(&agency, "see you tomorrow").await;
    assert_eq!(both, [roof.clone(), other.clone()]);
    let filter = proto::ListConversationsRequest {
        q: Some("tomorrow".to_owned()),
        unread: Some(true),
        ..Default::default()
    };
    assert_eq!(listed(&agency, filter).await.expect("listed"), [roof]);
    let short = proto::ListConversationsRequest {
        q: Some("x".to_owned()),
        ..Default::default()
    };
    let short = listed(&agency, short).await.expect_err("too short");
    assert_eq!(fields(&short), ["q"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_became_of_a_person_is_found_under_every_name_and_what_is_deleted_is_not() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 10.0).await;
    let (mike, first) = talk(&agency, "+15125550123").await;
    let (michael, second) = talk(&agency, "+15125550188").await;
    for (lead, name) in [(&mike, "Mickey Mouse"), (&michael, "Michael Maus")] {
        let request = proto::UpdateLeadRequest {
            client_id: agency.client.to_string(),
            lead_id: lead.clone(),
            name: Some(name.to_owned()),
            ..Default::default()
        };
        agency.leads().update_lead(request).await.expect("named");
    }
    assert_eq!(find(&agency, "michael").await, [second.as_str()]);
    let request = proto::MergeLeadRequest {
        client_id: agency.client.to_string(),
        lead_id: mike,
        into_lead_id: Some(michael),
    };
    agency.leads().merge_lead(request).await.expect("merged");
    let all = [second.clone(), first.clone()];
    for words in ["michael maus", "5550188", "5550123"] {
        assert_eq!(find(&agency, words).await, all, "{words}");
    }
    assert_eq!(find(&agency, "mickey").await, [first.as_str()]);
    let request = proto::DeleteConversationRequest {
        client_id: agency.client.to_string(),
        conversation_id: first,
    };
    let deleted = agency.conversations().delete_conversation(request).await;
    deleted.expect("deleted");
    assert_eq!(find(&agency, "michael maus").await, [second]);
    assert_eq!(find(&agency, "mickey").await, Vec::<String>::new());
}

/// So many conversations of a client, each with so many messages that say what they all say and a word of their own.
async fn filled(agency: &Agency<'_>, client: mainstay_types::ClientId, conversations: u32) {
    let (owner, id) = (agency.id.uuid(), client.uuid());
    let key = |n: &str| format!("('00000000-0000-7000-8000-' || lpad(({n})::text, 12, '0'))::uuid");
    let (each, every) = (key("n"), key("n * 1000 + m"));
    for sql in [
        format!(
            "insert into messaging.lead (agency_id, tenant_id, id, name, name_key, status, source, engagement, task_priority)
             select '{owner}', '{id}', {each}, 'Lead ' || n, 'lead ' || n, 'engaged', 'import', 'cold', 'low'
             from generate_series(1, {conversations}) n"
        ),
        format!(
            "insert into messaging.lead_identity (agency_id, tenant_id, address, kind, lead_id, is_primary)
             select '{owner}', '{id}', '+1512' || (5600000 + n), 'phone', {each}, true
             from generate_series(1, {conversations}) n"
        ),
        format!(
            "insert into messaging.conversation (agency_id, tenant_id, id, lead_id, channel, sender, address, last_activity_at)
             select '{owner}', '{id}', {each}, {each}, 'sms', '{OURS}', '+1512' || (5600000 + n), now() - n * interval '1 minute'
             from generate_series(1, {conversations}) n"
        ),
        format!(
            "insert into messaging.message (agency_id, tenant_id, id, conversation_id, lead_id, direction, channel, sender, address,
               caused_by, body, status)
             select '{owner}', '{id}', {every}, {each}, {each}, 'inbound', 'sms', '{OURS}', '+1512' || (5600000 + n),
               'lead', 'my roof leaks and the gutter is full, this is word' || n || 'x' || m || ' said by me', 'received'
             from generate_series(1, {conversations}) n, generate_series(1, 50) m"
        ),
    ] {
        agency.world.postgres.execute(&sql).await;
    }
}

/// How often the search was asked, and how many pages it touched; and all that messaging's database was asked about
/// conversations.
async fn asked(world: &World) -> (i64, i64, i64) {
    let sql = "select coalesce(sum(calls) filter (where query ~ 'tenant_query'), 0)::bigint,
                 coalesce(sum(shared_blks_hit + shared_blks_read) filter (where query ~ 'tenant_query'), 0)::bigint,
                 coalesce(sum(calls) filter (where query ~ 'conversation|lead|message'), 0)::bigint
               from pg_stat_statements s join pg_roles r on r.oid = s.userid
               where dbid = (select oid from pg_database where datname = current_database()) and rolname ~ 'messaging'
                 and query !~* '^(with free|with expired|with due|with head|with lane)'";
    sqlx::query_as(sql)
        .fetch_one(&mut world.postgres.admin().await)
        .await
        .expect("counted")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_what_is_found_is_one_statement_which_reads_what_it_finds() {
    let world = World::counting().await;
    let agency = world.agency("searched").await;
    let beside = agency.add_client("Beside").await;
    filled(&agency, agency.client, 400).await;
    filled(&agency, beside, 400).await;
    world.postgres.execute("analyze").await;
    let pages = "select (pg_relation_size('messaging.search_entry') / 8192)::bigint";
    let pages = world.postgres.count(pages).await;
    assert!(pages > 1000, "{pages} pages prove nothing");
    // Of one; of the page of those that all have; of a name; of a part of a number.
    for (words, wanted, most) in [
        ("roof leaks word77x33", 1, 300),
        ("word77x3", 1, 300),
        ("lead 77", 1, 300),
        ("5600077", 1, 300),
    ] {
        world.forget_statements().await;
        let found = find(&agency, words).await;
        assert_eq!(found.len(), wanted, "{words}");
        let (calls, touched, all) = asked(&world).await;
        assert_eq!((calls, all), (1, 1), "{words}");
        assert!(touched < most, "{words}: {touched} of {pages} pages");
    }
    world.forget_statements().await;
    // What everything of both clients says: a page of fifty, each with its name, labels and unread, in one statement.
    let found = find(&agency, "gutter").await;
    assert_eq!(found.len(), 50);
    let (calls, _, all) = asked(&world).await;
    assert_eq!((calls, all), (1, 1), "nothing is asked row by row");
}
