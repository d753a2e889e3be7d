//! Imports: each row once, whoever else imports it; what cannot be kept is reported by field (MSG-01).
//! Deliberately absent: files. A list comes as rows.

use mainstay_proto::messaging::v1 as proto;
use mainstay_rpc::ErrorReason;
use tokio::task::JoinSet;

use crate::leads::{PHONE, events, make, new, read, to};
use crate::world::{Agency, World, fields};

fn row(name: &str, phone: &str) -> proto::LeadRow {
    proto::LeadRow {
        name: Some(name.to_owned()),
        phone: Some(phone.to_owned()),
        ..Default::default()
    }
}

async fn import(agency: &Agency<'_>, rows: Vec<proto::LeadRow>) -> proto::ImportLeadsResponse {
    let request = proto::ImportLeadsRequest {
        client_id: agency.client.to_string(),
        rows,
        owner_member_id: None,
    };
    let answer = agency.leads().import_leads(request).await;
    answer.expect("imported").into_inner()
}

fn counts(report: &proto::ImportLeadsResponse) -> [i32; 4] {
    [
        report.created(),
        report.updated(),
        report.unchanged(),
        report.rejected(),
    ]
}

fn leads(report: &proto::ImportLeadsResponse) -> Vec<Option<String>> {
    let rows = report.results.iter();
    rows.map(|row| row.lead_id.clone()).collect()
}

#[tokio::test]
async fn importing_a_list_twice_makes_its_leads_once() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let rows = || {
        let mut rows: Vec<_> = (0..40)
            .map(|at| row(&format!("Lead {at}"), &format!("+151255501{at:02}")))
            .collect();
        rows[1].external_id = Some("crm-1".to_owned());
        rows[2].email = Some(" Two@Lead.test ".to_owned());
        rows[2].tags = vec!["Roof".to_owned()];
        rows[3].industry = Some("hvac".to_owned());
        rows
    };
    let first = import(&agency, rows()).await;
    assert_eq!(counts(&first), [40, 0, 0, 0]);
    let second = import(&agency, rows()).await;
    assert_eq!(counts(&second), [0, 0, 40, 0]);
    assert_eq!(leads(&first), leads(&second));
    assert_eq!(events(&world, "messaging.lead.created").await, 40);
    assert_eq!(events(&world, "messaging.lead.updated").await, 0);

    // Known by its external id, with another number; by its email, with another name.
    let mut changed = vec![row("Lead 1", "+15125550199"), proto::LeadRow::default()];
    changed[0].external_id = Some("crm-1".to_owned());
    changed[1].email = Some("two@lead.test".to_owned());
    changed[1].name = Some("Second".to_owned());
    changed[1].tags = vec!["hail".to_owned()];
    let third = import(&agency, changed).await;
    assert_eq!(counts(&third), [0, 2, 0, 0]);
    assert_eq!(leads(&third), leads(&first)[1..3]);
    let one = read(&agency, leads(&third)[0].as_ref().expect("an id")).await;
    assert_eq!(one.phone.as_deref(), Some("+15125550199"));
    assert_eq!(one.source(), proto::LeadSource::Import);
    let two = read(&agency, leads(&third)[1].as_ref().expect("an id")).await;
    assert_eq!(two.tags, ["hail", "roof"]);
}

#[tokio::test]
async fn a_row_that_cannot_be_kept_says_why_and_holds_up_no_other() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let mut known = new(&agency, Some(PHONE));
    known.external_id = Some("crm-1".to_owned());
    make(&agency, known).await;
    let ann = proto::CreateLeadRequest {
        email: Some("ann@lead.test".to_owned()),
        ..new(&agency, None)
    };
    make(&agency, ann).await;

    let mut bad = row("", "512 555");
    bad.state = Some("Texas".to_owned());
    bad.industry = Some("witchcraft".to_owned());
    bad.time_zone = Some("Chicago".to_owned());
    let mut both = row("Both", PHONE);
    both.email = Some("ann@lead.test".to_owned());
    let mut renamed = row("Renamed", PHONE);
    renamed.external_id = Some("crm-2".to_owned());
    let nobody = proto::LeadRow::default();
    let rows = vec![bad, both, renamed, nobody, row("Good", "+15125550124")];
    let report = import(&agency, rows).await;
    assert_eq!(counts(&report), [1, 0, 0, 4]);
    let named: Vec<Vec<&str>> = report
        .results
        .iter()
        .map(|row| {
            row.errors
                .iter()
                .map(|fault| fault.field.as_str())
                .collect()
        })
        .collect();
    assert_eq!(
        named,
        [
            vec!["phone", "time_zone", "state", "industry"],
            vec!["phone", "email"],
            vec!["external_id"],
            vec!["phone"],
            vec![],
        ]
    );
    assert_eq!(
        world
            .postgres
            .count("select count(*) from messaging.lead")
            .await,
        3
    );

    let none = proto::ImportLeadsRequest {
        client_id: agency.client.to_string(),
        ..Default::default()
    };
    let refused = agency.leads().import_leads(none.clone()).await;
    assert_eq!(fields(&refused.expect_err("no rows")), ["rows"]);
    let many = proto::ImportLeadsRequest {
        rows: vec![proto::LeadRow::default(); 501],
        ..none
    };
    let refused = agency.leads().import_leads(many).await;
    assert_eq!(fields(&refused.expect_err("too many")), ["rows"]);
}

#[tokio::test]
async fn an_import_moves_no_lead_and_takes_none_from_its_owner() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let (ana, bob) = (
        agency.add_member("Ana", None).await,
        agency.add_member("Bob", None).await,
    );
    let mut request = new(&agency, Some(PHONE));
    request.owner_member_id = Some(ana.clone());
    let id = make(&agency, request).await.id.expect("an id");
    let qualified = to(&agency, &id, proto::LeadStatus::Qualified);
    agency
        .leads()
        .set_lead_status(qualified)
        .await
        .expect("moved");
    let request = proto::ImportLeadsRequest {
        client_id: agency.client.to_string(),
        rows: vec![row("Michael", PHONE), row("New", "+15125550124")],
        owner_member_id: Some(bob.clone()),
    };
    let report = agency.leads().import_leads(request).await;
    let report = report.expect("imported").into_inner();
    let old = read(&agency, &id).await;
    assert_eq!(old.name.as_deref(), Some("Michael"));
    assert_eq!(old.status(), proto::LeadStatus::Qualified);
    assert_eq!(old.owner_member_id, Some(ana));
    let made = leads(&report)[1].clone().expect("an id");
    let made = read(&agency, &made).await;
    assert_eq!(made.owner_member_id, Some(bob));
    assert_eq!(made.status(), proto::LeadStatus::New);
}

#[tokio::test]
async fn of_many_imports_of_one_list_in_any_order_each_lead_is_made_once() {
    let world = World::new().await;
    let agency = world.agency("one").await;
    let rows: Vec<_> = (0..15)
        .map(|at| {
            let mut row = row(&format!("Lead {at}"), &format!("+151255501{at:02}"));
            row.email = Some(format!("lead{}@lead.test", 14 - at));
            row.external_id = Some(format!("crm-{at}"));
            row
        })
        .collect();
    let mut calls = JoinSet::new();
    for at in 0..8 {
        let mut rows = rows.clone();
        if at % 2 == 1 {
            rows.reverse();
        }
        let mut leads = agency.leads();
        let request = proto::ImportLeadsRequest {
            client_id: agency.client.to_string(),
            rows,
            owner_member_id: None,
        };
        calls.spawn(async move { leads.import_leads(request).await });
    }
    let mut created = 0;
    for answer in calls.join_all().await {
        let report = answer.expect("imported").into_inner();
        created += report.created();
        assert_eq!(report.rejected(), 0, "{report:?}");
    }
    assert_eq!(created, 15);
    assert_eq!(
        world
            .postgres
            .count("select count(*) from messaging.lead")
            .await,
        15
    );
    let refused = agency
        .leads()
        .create_lead(new(&agency, Some("+15125550100")))
        .await;
    let refused = refused.expect_err("imported");
    assert_eq!(crate::world::reason(&refused), ErrorReason::LeadExists);
}
