//! Leads: an address is one person's, whoever comes first; what is known of them is found again (MSG-01).
//! Deliberately absent: status, merges and imports, which have files of their own.

use mainstay_jobs::record::By;
use mainstay_messaging::address::Address;
use mainstay_messaging::gate::Channel;
use mainstay_messaging::lead::{self, Source};
use mainstay_proto::messaging::v1 as proto;
use mainstay_rpc::ErrorReason;
use mainstay_runtime::Clock;
use mainstay_types::{LeadId, ServiceName};
use sqlx::Row as _;
use tokio::task::JoinSet;

use crate::world::{Agency, World, existing, fields, keyed, reason};

pub const PHONE: &str = "+15125550123";

pub fn by(agency: &Agency<'_>) -> By {
    By::itself(ServiceName::Messaging, agency.id, Clock::system(0).now())
}

pub fn address(text: &str) -> Address {
    Address::parse(text).expect("an address")
}

pub fn new(agency: &Agency<'_>, phone: Option<&str>) -> proto::CreateLeadRequest {
    proto::CreateLeadRequest {
        client_id: agency.client.to_string(),
        name: Some("Mike".to_owned()),
        phone: phone.map(str::to_owned),
        ..Default::default()
    }
}

pub async fn make(agency: &Agency<'_>, request: proto::CreateLeadRequest) -> proto::Lead {
    let made = agency.leads().create_lead(request).await;
    made.expect("a lead").into_inner()
}

pub async fn read(agency: &Agency<'_>, id: &str) -> proto::Lead {
    let request = proto::GetLeadRequest {
        client_id: agency.client.to_string(),
        lead_id: id.to_owned(),
    };
    let found = agency.leads().get_lead(request).await;
    found.expect("read").into_inner()
}

pub fn edit(agency: &Agency<'_>, id: &str) -> proto::UpdateLeadRequest {
    proto::UpdateLeadRequest {
        client_id: agency.client.to_string(),
        lead_id: id.to_owned(),
        ..Default::default()
    }
}

pub fn to(agency: &Agency<'_>, id: &str, status: proto::LeadStatus) -> proto::SetLeadStatusRequest {
    proto::SetLeadStatusRequest {
        client_id: agency.client.to_string(),
        lead_id: id.to_owned(),
        status: Some(status.into()),
        ..Default::default()
    }
}

pub async fn events(world: &World, name: &str) -> i64 {
    let count = format!("select count(*) from messaging.outbox_event where type = '{name}'");
    world.postgres.count(&count).await
}

async fn listed(agency: &Agency<'_>, request: proto::ListLeadsRequest) -> Vec<String> {
    let request = proto::ListLeadsRequest {
        client_id: agency.client.to_string(),
        ..request
    };
    let page = agency.leads().list_leads(request).await.expect("listed");
    let leads = page.into_inner().data.into_iter();
    leads.map(|lead| lead.name.expect("a name")).collect()
}

#[tokio::test]
async fn a_lead_comes_with_its_consent_and_is_found_as_it_was_made() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let owner = agency.add_member("Ana", None).await;
    let mut request = new(&agency, Some(PHONE));
    request.email = Some("Mike@Lead.test".to_owned());
    request.time_zone = Some("America/Chicago".to_owned());
    request.state = Some("tx".to_owned());
    request.industry = Some(proto::Industry::Roofing.into());
    request.tags = Some(proto::LeadTags {
        values: vec!["Roof ".to_owned(), "hail".to_owned(), "roof".to_owned()],
    });
    request.owner_member_id = Some(owner.clone());
    request.consents = vec![proto::LeadConsentGiven {
        channel: Some(proto::Channel::Sms.into()),
        basis: Some(proto::ConsentBasis::ExpressWritten.into()),
        source: Some("form".to_owned()),
        ..Default::default()
    }];
    let made = make(&agency, request.clone()).await;
    let id = made.id.clone().expect("an id");
    assert!(id.starts_with("lead_"), "{id}");
    assert_eq!(read(&agency, &id).await, made);
    assert_eq!(made.email.as_deref(), Some("mike@lead.test"));
    assert_eq!(made.state.as_deref(), Some("TX"));
    assert_eq!(made.tags, ["hail", "roof"]);
    assert_eq!(made.owner_member_id, Some(owner));
    assert_eq!(made.status(), proto::LeadStatus::New);
    assert_eq!(made.engagement(), proto::Engagement::Cold);
    assert_eq!(made.identities.len(), 2);
    assert_eq!(events(&world, "messaging.lead.created").await, 1);
    let audited =
        "select count(*) from messaging.audit_outbox where action = 'messaging.lead.create'";
    let relayed =
        "select count(*) from identity.audit_event where action = 'messaging.lead.create'";
    let (waiting, kept) = (
        world.postgres.count(audited).await,
        world.postgres.count(relayed).await,
    );
    assert!(waiting + kept >= 1, "it is in the log or on its way there");
    let question = proto::GetConsentRequest {
        client_id: agency.client.to_string(),
        address: PHONE.to_owned(),
    };
    let consents = agency.consents().get_consent(question).await;
    let consents = consents.expect("read").into_inner();
    let sms = consents.channels.first().expect("sms");
    assert_eq!(sms.basis(), proto::ConsentBasis::ExpressWritten);

    // Whoever may not record consent may not bring it either.
    request.phone = Some("+15125550199".to_owned());
    request.email = None;
    let mut seller = agency.seller(&["messaging.leads.create"]);
    let refused = seller.create_lead(request.clone()).await;
    let refused = refused.expect_err("no permission");
    assert_eq!(reason(&refused), ErrorReason::PermissionDenied);
    request.consents.clear();
    seller.create_lead(request).await.expect("without consent");
}

#[tokio::test]
async fn of_thirty_who_make_a_lead_of_one_number_one_does_and_the_others_are_told_which() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let mut calls = JoinSet::new();
    for _ in 0..30 {
        let (mut leads, request) = (agency.leads(), new(&agency, Some(PHONE)));
        calls.spawn(async move { leads.create_lead(request).await });
    }
    let (mut made, mut refused) = (Vec::new(), Vec::new());
    for answer in calls.join_all().await {
        match answer {
            Ok(lead) => made.push(lead.into_inner().id.expect("an id")),
            Err(status) => {
                assert_eq!(reason(&status), ErrorReason::LeadExists, "{status:?}");
                refused.push(existing(&status).expect("which"));
            }
        }
    }
    assert_eq!((made.len(), refused.len()), (1, 29));
    assert!(refused.iter().all(|id| *id == made[0]));
    for table in ["lead", "lead_identity"] {
        let count = format!("select count(*) from messaging.{table}");
        assert_eq!(world.postgres.count(&count).await, 1, "{table}");
    }
}

#[tokio::test]
async fn of_thirty_who_look_for_the_lead_of_a_number_one_makes_it_and_all_have_it() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let database = world.postgres.database("messaging").await;
    let (tenant, by) = (agency.tenant(), by(&agency));
    // The first has made it and not committed, so that those who come find nothing and wait.
    let mut tx = database.tenant(tenant).await.expect("a transaction");
    let made = lead::ensure(tx.conn(), tenant, &by, &address(PHONE), Source::InboundSms).await;
    let mut calls = JoinSet::new();
    for at in 1..30 {
        let (database, by) = (database.clone(), by.clone());
        let source = match at % 2 {
            0 => Source::InboundSms,
            _ => Source::InboundWhatsapp,
        };
        calls.spawn(async move {
            let mut tx = database.tenant(tenant).await.expect("a transaction");
            let found = lead::ensure(tx.conn(), tenant, &by, &address(PHONE), source).await;
            tx.commit().await.expect("committed");
            found.expect("a lead")
        });
    }
    // As many as there are other connections.
    let waiting = "select count(*) from pg_stat_activity
                   where datname = current_database() and wait_event_type = 'Lock'";
    while world.postgres.count(waiting).await < 7 {
        tokio::task::yield_now().await;
    }
    tx.commit().await.expect("committed");
    let mut found = calls.join_all().await;
    found.push(made.expect("a lead"));
    let (first, _) = found[0];
    assert!(found.iter().all(|(lead, _)| *lead == first));
    assert_eq!(found.iter().filter(|(_, made)| *made).count(), 1);
    assert_eq!(
        world
            .postgres
            .count("select count(*) from messaging.lead")
            .await,
        1
    );
    assert_eq!(events(&world, "messaging.lead.created").await, 1);

    let refused = agency.leads().create_lead(new(&agency, Some(PHONE))).await;
    let refused = refused.expect_err("there is one");
    assert_eq!(existing(&refused), Some(first.to_string()));
    let mut tx = database
        .tenant(agency.tenant())
        .await
        .expect("a transaction");
    for channel in [Channel::Sms, Channel::Whatsapp, Channel::Voice] {
        let reach = lead::reach(tx.conn(), agency.tenant(), first, channel).await;
        let reach = reach.expect("read").expect("reached");
        assert_eq!((reach.lead, reach.address), (first, address(PHONE)));
    }
    for (lead, channel) in [(first, Channel::Email), (LeadId::generate(), Channel::Sms)] {
        let reach = lead::reach(tx.conn(), agency.tenant(), lead, channel).await;
        assert_eq!(reach.expect("read"), None);
    }
}

#[tokio::test]
async fn an_edit_changes_what_it_names_for_whoever_has_read_the_lead() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let made = make(&agency, new(&agency, Some(PHONE))).await;
    let id = made.id.clone().expect("an id");
    let mut request = edit(&agency, &id);
    request.phone = Some("+15125550124".to_owned());
    request.engagement = Some(proto::Engagement::Hot.into());
    request.etag = made.etag;
    let edited = agency.leads().update_lead(request.clone()).await;
    let edited = edited.expect("edited").into_inner();
    assert_eq!(edited.phone.as_deref(), Some("+15125550124"));
    assert_eq!(edited.name.as_deref(), Some("Mike"));
    assert_eq!(edited.engagement(), proto::Engagement::Hot);
    assert_eq!(edited.identities.len(), 2, "the old number stays");
    let stale = agency.leads().update_lead(request.clone()).await;
    let stale = stale.expect_err("stale");
    assert_eq!(reason(&stale), ErrorReason::EtagMismatch);
    request.etag = None;
    let same = agency.leads().update_lead(request.clone()).await;
    assert_eq!(same.expect("no change").into_inner(), edited);

    let mut other = new(&agency, Some("+15125550125"));
    other.email = Some("ann@lead.test".to_owned());
    let other = make(&agency, other).await.id.expect("an id");
    for (phone, email) in [
        (Some("+15125550125"), None),
        (Some(PHONE), Some("ANN@lead.test")),
    ] {
        let mut taken = edit(&agency, &id);
        taken.phone = phone.map(str::to_owned);
        taken.email = email.map(str::to_owned);
        let taken = agency.leads().update_lead(taken).await;
        let taken = taken.expect_err("another's");
        assert_eq!(reason(&taken), ErrorReason::LeadExists);
        assert_eq!(existing(&taken).as_ref(), Some(&other));
    }
    assert_eq!(read(&agency, &id).await, edited, "nothing of it was kept");
}

#[tokio::test]
async fn a_lead_belongs_to_a_member_who_serves_the_client_and_to_no_other() {
    let world = World::new().await;
    let (one, two) = (world.agency("one").await, world.agency("two").await);
    let beta = one.add_client("Beta").await;
    let elsewhere = one.add_member("Bob", Some(vec![beta])).await;
    let stranger = two.add_member("Sue", None).await;
    let nobody = mainstay_types::MemberId::generate().to_string();
    for owner in [elsewhere, stranger, nobody] {
        let mut request = new(&one, Some(PHONE));
        request.owner_member_id = Some(owner);
        let refused = one.leads().create_lead(request).await;
        assert_eq!(fields(&refused.expect_err("no")), ["owner_member_id"]);
    }
    let here = one.add_member("Ana", Some(vec![one.client])).await;
    let mut request = new(&one, Some(PHONE));
    request.owner_member_id = Some(here.clone());
    let first = one.leads().create_lead(keyed(request.clone(), "k1")).await;
    let first = first.expect("made").into_inner();
    let again = one.leads().create_lead(keyed(request.clone(), "k1")).await;
    assert_eq!(again.expect("the same answer").into_inner(), first);
    request.name = Some("Other".to_owned());
    let other = one.leads().create_lead(keyed(request, "k1")).await;
    let other = other.expect_err("another request");
    assert_eq!(reason(&other), ErrorReason::IdempotencyKeyReused);
    let mine = proto::ListLeadsRequest {
        owner_member_id: Some(here),
        ..Default::default()
    };
    assert_eq!(listed(&one, mine).await, ["Mike"]);
}

#[tokio::test]
async fn leads_are_found_by_name_address_and_tag_and_listed_page_by_page() {
    let world = World::new().await;
    let mut agency = world.agency("one").await;
    for (name, phone, tag) in [
        ("Ann Lee", "+15125550101", "roof"),
        ("Anton", "+15125550102", "hail"),
        ("Bea", "+15125550103", "roof"),
        ("Ann%", "+15125550104", "ann"),
    ] {
        let mut request = new(&agency, Some(phone));
        request.name = Some(name.to_owned());
        request.source = Some(proto::LeadSource::Form.into());
        request.tags = Some(proto::LeadTags {
            values: vec![tag.to_owned()],
        });
        make(&agency, request).await;
    }
    let query = |q: &str| proto::ListLeadsRequest {
        q: Some(q.to_owned()),
        ..Default::default()
    };
    for (q, found) in [
        ("ann", vec!["Ann%", "Ann Lee"]),
        ("AN", vec!["Ann%", "Anton", "Ann Lee"]),
        ("ann%", vec!["Ann%"]),
        ("+15125550103", vec!["Bea"]),
        ("roof", vec!["Bea", "Ann Lee"]),
        ("nobody", vec![]),
    ] {
        assert_eq!(listed(&agency, query(q)).await, found, "{q}");
    }
    let tagged = proto::ListLeadsRequest {
        tag: Some("Roof".to_owned()),
        q: Some("ann".to_owned()),
        source: Some(proto::LeadSource::Form.into()),
        status: Some(proto::LeadStatus::New.into()),
        ..Default::default()
    };
    assert_eq!(listed(&agency, tagged).await, ["Ann Lee"]);
    let lost = proto::ListLeadsRequest {
        status: Some(proto::LeadStatus::Lost.into()),
        ..Default::default()
    };
    assert!(listed(&agency, lost).await.is_empty());
    let later = proto::ListLeadsRequest {
        updated_since: Some(crate::world::at(4_000_000_000)),
        ..Default::default()
    };
    assert!(listed(&agency, later).await.is_empty());

    let mut names = Vec::new();
    let mut request = proto::ListLeadsRequest {
        client_id: agency.client.to_string(),
        page_size: Some(3),
        ..Default::default()
    };
    loop {
        let page = agency.leads().list_leads(request.clone()).await;
        let page = page.expect("listed").into_inner();
        names.extend(page.data.into_iter().filter_map(|lead| lead.name));
        request.page_token = page.next_page_token;
        if request.page_token.is_none() {
            break;
        }
    }
    assert_eq!(names, ["Ann%", "Bea", "Anton", "Ann Lee"]);
    agency.client = agency.add_client("Beta").await;
    assert!(listed(&agency, query("ann")).await.is_empty());
}

#[tokio::test]
async fn a_search_by_name_reads_its_index_behind_row_security() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let many = format!(
        "insert into messaging.lead (agency_id, tenant_id, id, name, name_key, status, source, engagement, task_priority)
         select '{}', '{}', gen_random_uuid(), 'Lead ' || n, 'lead ' || n, 'new', 'import', 'cold', 'medium'
         from generate_series(1, 5000) n",
        agency.id.uuid(),
        agency.client.uuid(),
    );
    world.postgres.execute(&many).await;
    world.postgres.execute("analyze messaging.lead").await;
    let database = world.postgres.database("messaging").await;
    let mut tx = database
        .tenant(agency.tenant())
        .await
        .expect("a transaction");
    let plan = sqlx::query(
        "explain select id from lead where tenant_id = $1 and merged_into is null and name_key >= $2 and name_key < $3",
    )
    .bind(agency.client.uuid())
    .bind("lead 77")
    .bind("lead 77\u{10FFFF}")
    .fetch_all(tx.conn())
    .await
    .expect("a plan");
    let lines: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
    let condition = lines.iter().find(|line| line.contains("Index Cond"));
    assert!(
        condition.is_some_and(|line| line.contains("name_key >=")),
        "{lines:?}"
    );
}

#[tokio::test]
async fn whoever_opts_out_does_so_at_every_address_and_is_heard_again_when_they_say_so() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    agency
        .apply(agency.saga().sells("campaigns", 1, 1))
        .await
        .expect("sold");
    let mut request = new(&agency, Some(PHONE));
    request.email = Some("mike@lead.test".to_owned());
    request.time_zone = Some("America/Chicago".to_owned());
    request.consents = vec![proto::LeadConsentGiven {
        channel: Some(proto::Channel::Sms.into()),
        basis: Some(proto::ConsentBasis::ExpressWritten.into()),
        source: Some("form".to_owned()),
        ..Default::default()
    }];
    let id = make(&agency, request).await.id.expect("an id");
    let out = proto::OptOutLeadRequest {
        client_id: agency.client.to_string(),
        lead_id: id.clone(),
        source: Some("call".to_owned()),
        text: None,
    };
    let first = agency.leads().opt_out_lead(out.clone()).await;
    let first = first.expect("opted out").into_inner();
    assert_eq!(first.contacts.len(), 2);
    let mut channels = first.contacts.iter().flat_map(|contact| &contact.channels);
    assert!(channels.all(|channel| channel.opted_out()));
    let again = agency.leads().opt_out_lead(out).await;
    assert_eq!(again.expect("again").into_inner(), first);
    assert_eq!(events(&world, "messaging.consent.opted_out").await, 4);

    let ask = |channel: proto::Channel| proto::CheckLeadSendabilityRequest {
        client_id: agency.client.to_string(),
        lead_id: id.clone(),
        channel: Some(channel.into()),
        purpose: Some(proto::Purpose::Transactional.into()),
        at: None,
    };
    for channel in [proto::Channel::Sms, proto::Channel::Email] {
        let answer = agency.leads().check_lead_sendability(ask(channel)).await;
        let answer = answer.expect("explained").into_inner();
        let reasons: Vec<_> = answer.reasons().collect();
        assert!(
            reasons.contains(&proto::SendRefusal::OptedOut),
            "{reasons:?}"
        );
    }
    let back = proto::OptInLeadRequest {
        client_id: agency.client.to_string(),
        lead_id: id.clone(),
        ..Default::default()
    };
    agency.leads().opt_in_lead(back).await.expect("opted in");
    let answer = agency
        .leads()
        .check_lead_sendability(ask(proto::Channel::Sms))
        .await;
    let answer = answer.expect("explained").into_inner();
    let reasons: Vec<_> = answer.reasons().collect();
    assert!(!reasons.contains(&proto::SendRefusal::OptedOut));
    let places: Vec<_> = answer
        .places
        .iter()
        .map(proto::SendPlace::time_zone)
        .collect();
    assert_eq!(places, ["America/Chicago"], "the lead's own zone");

    let mailed = make(
        &agency,
        proto::CreateLeadRequest {
            email: Some("ann@lead.test".to_owned()),
            ..new(&agency, None)
        },
    )
    .await;
    let mut unreachable = ask(proto::Channel::Sms);
    unreachable.lead_id = mailed.id.expect("an id");
    let refused = agency.leads().check_lead_sendability(unreachable).await;
    let refused = refused.expect_err("no number");
    assert_eq!(reason(&refused), ErrorReason::LeadUnreachable);
}

#[tokio::test]
async fn every_field_of_a_lead_that_cannot_be_kept_is_named() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let nested = prost_types::Value {
        kind: Some(prost_types::value::Kind::ListValue(Default::default())),
    };
    let mut request = new(&agency, None);
    request.state = Some("ZZ".to_owned());
    request.tags = Some(proto::LeadTags {
        values: vec!["fine".to_owned(), "x".repeat(51)],
    });
    request.custom_fields = Some(prost_types::Struct {
        fields: [("roof".to_owned(), nested)].into(),
    });
    request.consents = vec![proto::LeadConsentGiven {
        channel: Some(proto::Channel::Email.into()),
        basis: Some(proto::ConsentBasis::Express.into()),
        source: Some("form".to_owned()),
        text: None,
        given_at: Some(crate::world::at(4_000_000_000)),
    }];
    let refused = agency.leads().create_lead(request).await;
    assert_eq!(
        fields(&refused.expect_err("all wrong")),
        [
            "phone",
            "state",
            "tags[1]",
            "custom_fields.roof",
            "consents[0].channel",
            "consents[0].given_at",
        ]
    );
    let refused = agency
        .leads()
        .create_lead(new(&agency, Some("5125550123")))
        .await;
    assert_eq!(fields(&refused.expect_err("no number")), ["phone"]);
    assert_eq!(
        world
            .postgres
            .count("select count(*) from messaging.lead")
            .await,
        0
    );
}
