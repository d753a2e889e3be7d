//! Business hours: always one complete set, whoever replaces it and whatever dies, and what held before can be read (ESC-06).

use futures_util::future::join_all;
use mainstay_proto::escalation::v1::{
    BusinessHours, GetBusinessHoursRequest, ListBusinessHoursRequest, OpenException, OpenHours,
    PutBusinessHoursRequest, Weekday,
};
use mainstay_rpc::ErrorReason;

use crate::world::{World, refused};

fn week(opens: &str) -> Vec<OpenHours> {
    let days = [
        Weekday::Monday,
        Weekday::Tuesday,
        Weekday::Wednesday,
        Weekday::Thursday,
        Weekday::Friday,
    ];
    let day = |day: Weekday| OpenHours {
        day: Some(day.into()),
        opens: Some(opens.to_owned()),
        closes: Some("17:00".to_owned()),
    };
    days.into_iter().map(day).collect()
}

fn hours(world: &World, week: Vec<OpenHours>) -> PutBusinessHoursRequest {
    PutBusinessHoursRequest {
        client_id: world.client.to_string(),
        time_zone: Some("America/Chicago".to_owned()),
        week,
        ..Default::default()
    }
}

async fn get(world: &World, at: Option<i64>) -> Result<BusinessHours, tonic::Status> {
    let request = GetBusinessHoursRequest {
        client_id: world.client.to_string(),
        at: at.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 }),
    };
    let found = world.business_hours().get_business_hours(request).await;
    found.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replaced_by_twenty_at_once_there_is_always_one_complete_set() {
    let world = World::new().await;
    let mut doors: Vec<_> = (0..20).map(|_| world.business_hours()).collect();
    let puts = doors.iter_mut().enumerate().map(|(at, door)| {
        let opens = format!("{:02}:{:02}", 6 + at / 10, at % 10);
        door.put_business_hours(hours(&world, week(&opens)))
    });
    let reads = async {
        for _ in 0..50 {
            if let Ok(found) = get(&world, None).await {
                assert_eq!(found.week.len(), 5, "whole");
                let opens: std::collections::BTreeSet<&str> =
                    found.week.iter().map(OpenHours::opens).collect();
                assert_eq!(opens.len(), 1, "of one hand");
            }
        }
    };
    let (done, ()) = tokio::join!(join_all(puts), reads);
    assert!(done.iter().all(Result::is_ok));
    let present = "select count(*) from escalation.business_hours where valid_to is null";
    assert_eq!(world.postgres.count(present).await, 1);
    let request = ListBusinessHoursRequest {
        client_id: world.client.to_string(),
        ..Default::default()
    };
    let all = world.business_hours().list_business_hours(request).await;
    let all = all.expect("a list").into_inner().data;
    assert_eq!(all.len(), 20);
    for pair in all.windows(2) {
        assert_eq!(
            pair[1].valid_to, pair[0].valid_from,
            "one ends as the next begins"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_held_last_tuesday_can_be_read_and_a_crash_in_the_middle_changes_nothing() {
    let world = World::new().await;
    let problem = refused(&get(&world, None).await.expect_err("none yet"));
    assert_eq!(problem.reason(), ErrorReason::NotFound);
    let first = world
        .business_hours()
        .put_business_hours(hours(&world, week("09:00")))
        .await;
    let first = first.expect("set").into_inner();
    let tuesday = first.valid_from.expect("a time").seconds + 60;
    world.pass(86_400);
    // The same again is no other version.
    let again = world
        .business_hours()
        .put_business_hours(hours(&world, week("09:00")))
        .await;
    assert_eq!(again.expect("as it was").into_inner().etag, first.etag);
    // Whoever crashes after the first of the two statements leaves what was.
    world
        .postgres
        .execute(
            "create function escalation.crash() returns trigger language plpgsql as
               $$begin raise exception 'crash'; end$$;
             create trigger crash before insert on escalation.business_hours
               for each row execute function escalation.crash()",
        )
        .await;
    let crashed = world
        .business_hours()
        .put_business_hours(hours(&world, week("11:00")))
        .await;
    assert!(crashed.is_err());
    assert_eq!(get(&world, None).await.expect("hours").week, first.week);
    world
        .postgres
        .execute("drop trigger crash on escalation.business_hours")
        .await;
    let second = world
        .business_hours()
        .put_business_hours(hours(&world, week("10:00")))
        .await;
    let second = second.expect("set").into_inner();
    assert_eq!(get(&world, None).await.expect("hours").week, second.week);
    let then = get(&world, Some(tuesday)).await.expect("hours");
    assert_eq!(then.week, first.week);
    assert_eq!(then.valid_to, second.valid_from);
    let before = get(&world, Some(tuesday - 3600)).await;
    assert_eq!(
        refused(&before.expect_err("none then")).reason(),
        ErrorReason::NotFound
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_refused_by_name_and_nobody_closes_by_an_empty_form() {
    let world = World::new().await;
    let named = async |request: PutBusinessHoursRequest| {
        let refusal = world.business_hours().put_business_hours(request).await;
        let problem = refused(&refusal.expect_err("refused"));
        assert_eq!(problem.reason(), ErrorReason::InvalidRequest);
        let mut fields: Vec<String> = problem
            .errors()
            .iter()
            .map(|fault| fault.field.clone())
            .collect();
        fields.sort();
        fields
    };
    assert_eq!(named(hours(&world, Vec::new())).await, ["week"]);
    let closed = PutBusinessHoursRequest {
        always_closed: Some(true),
        ..hours(&world, week("09:00"))
    };
    assert_eq!(named(closed).await, ["always_closed"]);
    let mut late = week("18:00");
    late.truncate(1);
    late[0].opens = Some("9.00".to_owned());
    late.extend(week("08:00"));
    late.extend(week("16:00"));
    let odd = PutBusinessHoursRequest {
        exceptions: vec![OpenException {
            date: Some("2026-02-30".to_owned()),
            ..Default::default()
        }],
        ..hours(&world, late)
    };
    assert_eq!(
        named(odd).await,
        [
            "exceptions[0].date",
            "week[0].opens",
            "week[10]",
            "week[6]",
            "week[7]",
            "week[8]",
            "week[9]"
        ]
    );
    let closed = PutBusinessHoursRequest {
        always_closed: Some(true),
        ..hours(&world, Vec::new())
    };
    let set = world.business_hours().put_business_hours(closed).await;
    assert!(set.expect("said so").into_inner().week.is_empty());
}
