//! What may be queued, by whom, and in which order it is claimed.

use chrono::TimeDelta;
use mainstay_db::Error;
use mainstay_jobs::{Enqueued, NewJob, Priority, enqueue, queue, retention};
use mainstay_types::{AgencyScope, JobId, Visible};

use crate::support::{Bench, Reporting, Working, noon, tenant};

#[tokio::test]
async fn a_job_is_queued_only_if_its_transaction_commits() {
    let bench = Bench::new().await;
    let t = tenant();
    let job = || NewJob::new("greet", &"hello", noon()).for_tenant(t);
    let mut tx = bench.database.tenant(t).await.unwrap();
    enqueue(tx.conn(), job()).await.unwrap();
    drop(tx);
    assert_eq!(bench.jobs().await, 0);
    let mut tx = bench.database.tenant(t).await.unwrap();
    enqueue(tx.conn(), job()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(bench.jobs().await, 1);
}

#[tokio::test]
async fn a_request_cannot_queue_work_for_another_client_or_agency() {
    let bench = Bench::new().await;
    let (mine, other) = (tenant(), tenant());
    for job in [
        NewJob::new("greet", &(), noon()).for_tenant(other),
        NewJob::new("greet", &(), noon()).for_agency(other.agency),
        NewJob::new("greet", &(), noon()),
    ] {
        let mut tx = bench.database.tenant(mine).await.unwrap();
        assert!(matches!(
            enqueue(tx.conn(), job).await,
            Err(Error::Other(_))
        ));
    }
    let mut tx = bench.database.tenant(mine).await.unwrap();
    enqueue(
        tx.conn(),
        NewJob::new("greet", &(), noon()).for_agency(mine.agency),
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn a_unique_key_holds_one_job_per_client_until_it_is_done() {
    let bench = Bench::new().await;
    let (a, b) = (tenant(), tenant());
    let job = |t| {
        NewJob::new("sync", &(), noon())
            .for_tenant(t)
            .unique("daily")
    };
    assert!(matches!(bench.enqueue(job(a)).await, Enqueued::New(_)));
    assert_eq!(bench.enqueue(job(a)).await, Enqueued::AlreadyQueued);
    assert!(matches!(bench.enqueue(job(b)).await, Enqueued::New(_)));
    assert!(matches!(
        bench
            .enqueue(NewJob::new("sync", &(), noon()).unique("daily"))
            .await,
        Enqueued::New(_)
    ));
    assert_eq!(
        bench
            .enqueue(NewJob::new("sync", &(), noon()).unique("daily"))
            .await,
        Enqueued::AlreadyQueued
    );
    let (handler, mut runs) = Reporting::new(|_| Ok(()));
    let working = Working::start(bench.runner(Bench::settings()).register("sync", handler));
    for _ in 0..3 {
        runs.recv().await.unwrap();
    }
    working.stop().await;
    assert!(matches!(bench.enqueue(job(a)).await, Enqueued::New(_)));
}

#[tokio::test]
async fn fifty_transactions_that_queue_the_same_key_queue_one_job() {
    let bench = Bench::new().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let worker = bench.worker();
        tasks.spawn(async move {
            let mut tx = worker.tx().await.unwrap();
            let enqueued = enqueue(tx.conn(), NewJob::new("sync", &(), noon()).unique("k"))
                .await
                .unwrap();
            tx.commit().await.unwrap();
            enqueued
        });
    }
    let results = tasks.join_all().await;
    assert_eq!(
        results
            .iter()
            .filter(|e| matches!(e, Enqueued::New(_)))
            .count(),
        1
    );
    assert_eq!(bench.jobs().await, 1);
}

#[tokio::test]
async fn urgent_work_goes_first_and_then_what_is_due_longest() {
    let bench = Bench::new().await;
    let at = |seconds| noon() - TimeDelta::seconds(seconds);
    for (name, job) in [
        ("later", NewJob::new("step", &"later", noon()).at(at(1))),
        (
            "bulk",
            NewJob::new("step", &"bulk", noon())
                .at(at(9))
                .priority(Priority::Bulk),
        ),
        ("earlier", NewJob::new("step", &"earlier", noon()).at(at(2))),
        (
            "urgent",
            NewJob::new("step", &"urgent", noon()).priority(Priority::Urgent),
        ),
        (
            "future",
            NewJob::new("step", &"future", noon())
                .at(at(-60))
                .priority(Priority::Urgent),
        ),
    ] {
        assert!(
            matches!(bench.enqueue(job).await, Enqueued::New(_)),
            "{name}"
        );
    }
    let (handler, mut runs) = Reporting::new(|_| Ok(()));
    let settings = mainstay_jobs::runner::RunnerSettings {
        concurrency: 1,
        ..Bench::settings()
    };
    let working = Working::start(bench.runner(settings).register("step", handler));
    let mut order = Vec::new();
    for _ in 0..4 {
        order.push(
            runs.recv()
                .await
                .unwrap()
                .payload
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    assert_eq!(order, ["urgent", "earlier", "later", "bulk"]);
    assert_eq!(
        bench
            .test
            .count("select count(*) from billing.job where payload = '\"future\"'")
            .await,
        1
    );
    bench.hand.advance(TimeDelta::seconds(61));
    assert_eq!(runs.recv().await.unwrap().payload, "future");
    working.stop().await;
    assert_eq!(bench.jobs().await, 0);
}

#[tokio::test]
async fn an_agency_sees_its_own_dead_letters_and_a_replay_gives_all_attempts_back() {
    let bench = Bench::new().await;
    let t = tenant();
    let (handler, mut runs) =
        Reporting::new(|_| Err(mainstay_jobs::JobError::dead("no such number")));
    let Enqueued::New(id) = bench
        .enqueue(NewJob::new("send", &(), noon()).for_tenant(t))
        .await
    else {
        panic!("queued")
    };
    let working = Working::start(bench.runner(Bench::settings()).register("send", handler));
    runs.recv().await.unwrap();
    working.stop().await;
    assert_eq!(
        (
            bench.jobs().await,
            bench.leases().await,
            bench.dead_letters().await
        ),
        (0, 0, 1)
    );

    let seen = async |agency| {
        let scope = AgencyScope {
            agency,
            visible: Visible::All,
        };
        let mut tx = bench.database.agency(&scope).await.unwrap();
        queue::find_dead_letter(tx.conn(), id).await.unwrap()
    };
    assert_eq!(seen(t.agency).await.unwrap().last_error, "no such number");
    // Whoever alerts people is told, once.
    let told = format!(
        "select count(*) from billing.outbox_delivery d join billing.outbox_event e on e.id = d.event_id
         where d.consumer = 'escalation' and e.type = 'billing.job.buried' and e.tenant_id = '{}' and e.aggregate_id = '{}'
           and e.payload ->> 'kind' = 'send' and e.payload ->> 'error' = 'no such number'",
        t.client.uuid(),
        id.uuid(),
    );
    assert_eq!(bench.test.count(&told).await, 1);
    assert!(seen(tenant().agency).await.is_none());

    let replay = async |id| {
        let mut tx = bench.worker().tx().await.unwrap();
        let done = queue::replay_dead_letter(tx.conn(), id, noon())
            .await
            .unwrap();
        tx.commit().await.unwrap();
        done
    };
    assert!(!replay(JobId::generate()).await);
    assert!(replay(id).await);
    assert!(!replay(id).await, "it is queued once");
    let (handler, mut runs) = Reporting::new(|_| Ok(()));
    let working = Working::start(bench.runner(Bench::settings()).register("send", handler));
    let again = runs.recv().await.unwrap();
    working.stop().await;
    assert_eq!((again.id, again.attempt), (id, 1));
    assert_eq!((bench.jobs().await, bench.dead_letters().await), (0, 0));
}

#[tokio::test]
async fn what_has_expired_is_deleted_and_nothing_else() {
    let bench = Bench::new().await;
    bench
        .test
        .execute(
            "insert into billing.inbox_event (event_id, consumer, expires_at)
             select gen_random_uuid(), 'billing', now() + case when n % 2 = 0 then -1 else 1 end * interval '1 hour'
             from generate_series(1, 3000) n",
        )
        .await;
    assert_eq!(retention::purge(&bench.worker()).await.unwrap(), 1500);
    assert_eq!(retention::purge(&bench.worker()).await.unwrap(), 0);
    assert_eq!(
        bench
            .test
            .count("select count(*) from billing.inbox_event")
            .await,
        1500
    );
}
