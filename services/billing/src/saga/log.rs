//! The saga log: all statements on `saga` and `saga_step`. What settles one step and what intends the next stand in one
//! statement, and every write names the lease it is made under.
//! Deliberately absent: any way to write without a fence.

use std::collections::BTreeMap;
use std::time::Duration;

use mainstay_db::Result;
use mainstay_types::{AgencyId, ClientId, SagaId, Tenant};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::definition::{Direction, PROBED_FROM, Refusal};

/// A saga to be started by the process that writes it.
pub(super) struct NewSaga<'a> {
    pub id: SagaId,
    pub tenant: Tenant,
    pub definition: &'a str,
    pub version: i32,
    pub first_step: &'a str,
    pub input: &'a Value,
    pub owner: Uuid,
    pub lease: Duration,
    pub traceparent: Option<String>,
}

/// The fence of a saga that was just written: whoever starts it holds its first lease.
pub(super) const FIRST_FENCE: i64 = 1;

/// Writes the saga and its first intent, leased to the writer.
pub(super) async fn insert(conn: &mut PgConnection, saga: &NewSaga<'_>) -> Result<()> {
    sqlx::query!(
        r#"
        with started as (
          insert into saga (id, agency_id, tenant_id, definition, version, step, input, traceparent, fence, lease_owner,
                            leased_until)
          values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, clock_timestamp() + make_interval(secs => $11))
          returning id, agency_id, tenant_id, position, direction, step
        )
        insert into saga_step (saga_id, position, direction, name, agency_id, tenant_id)
        select id, position, direction, step, agency_id, tenant_id from started
        "#,
        saga.id.uuid(),
        saga.tenant.agency.uuid(),
        saga.tenant.client.uuid(),
        saga.definition,
        saga.version,
        saga.first_step,
        saga.input,
        saga.traceparent,
        FIRST_FENCE,
        saga.owner,
        saga.lease.as_secs_f64(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A saga as the process that holds its lease has it.
#[derive(Debug)]
pub(super) struct Leased {
    pub id: SagaId,
    pub tenant: Tenant,
    pub definition: String,
    pub version: i32,
    pub direction: Direction,
    pub position: usize,
    pub attempt: i32,
    pub input: Value,
    pub outputs: BTreeMap<String, Value>,
    pub refusal: Option<Refusal>,
    pub traceparent: Option<String>,
    pub fence: i64,
    /// How long ago the present step was first intended.
    pub intended_for: Duration,
    /// How many signals there were when the step was looked at.
    pub signals: i64,
}

struct LeasedRow {
    id: SagaId,
    agency_id: AgencyId,
    tenant_id: ClientId,
    definition: String,
    version: i32,
    direction: String,
    position: i32,
    attempt: i32,
    input: Value,
    refusal: Option<Value>,
    traceparent: Option<String>,
    fence: i64,
    signals: i64,
    outputs: Value,
    intended_for: Option<f64>,
}

impl From<LeasedRow> for Leased {
    fn from(row: LeasedRow) -> Leased {
        Leased {
            id: row.id,
            tenant: Tenant {
                agency: row.agency_id,
                client: row.tenant_id,
            },
            definition: row.definition,
            version: row.version,
            direction: Direction::from_text(&row.direction),
            position: usize::try_from(row.position).unwrap_or_default(),
            attempt: row.attempt,
            input: row.input,
            outputs: serde_json::from_value(row.outputs).unwrap_or_default(),
            refusal: row
                .refusal
                .and_then(|refusal| serde_json::from_value(refusal).ok()),
            traceparent: row.traceparent,
            fence: row.fence,
            intended_for: Duration::try_from_secs_f64(row.intended_for.unwrap_or_default())
                .unwrap_or_default(),
            signals: row.signals,
        }
    }
}

/// Takes over sagas that are due: never started, paused, or left by a process that stopped or hangs. The row of a dead
/// lease counts a try, so that a step which kills its process is parked in the end.
pub(super) async fn claim(
    conn: &mut PgConnection,
    owner: Uuid,
    lease: Duration,
    known: &[(String, i32)],
    limit: i64,
) -> Result<Vec<Leased>> {
    let (names, versions): (Vec<String>, Vec<i32>) = known.iter().cloned().unzip();
    let rows = sqlx::query_as!(
        LeasedRow,
        r#"
        with due as (
          select id from saga
          where state in ('running', 'waiting', 'compensating')
            and next_run_at <= clock_timestamp()
            and (leased_until is null or leased_until < clock_timestamp())
            and (definition, version) in (select * from unnest($3::text[], $4::int[]))
          order by next_run_at
          limit $5
          for update skip locked
        )
        update saga s
        set lease_owner = $1, leased_until = clock_timestamp() + make_interval(secs => $2), fence = s.fence + 1,
            attempt = s.attempt + case when s.lease_owner is null then 0 else 1 end
        from due where s.id = due.id
        returning s.id as "id: SagaId", s.agency_id as "agency_id: AgencyId", s.tenant_id as "tenant_id: ClientId",
          s.definition, s.version, s.direction, s.position, s.attempt, s.input, s.refusal, s.traceparent, s.fence, s.signals,
          (select coalesce(jsonb_object_agg(d.name, d.output), '{}') from saga_step d
           where d.saga_id = s.id and d.direction = 'do' and d.outcome = 'done') as "outputs!",
          (select extract(epoch from clock_timestamp() - i.created_at)::float8 from saga_step i
           where i.saga_id = s.id and i.position = s.position and i.direction = s.direction) as intended_for
        "#,
        owner,
        lease.as_secs_f64(),
        &names,
        &versions,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(Leased::from).collect())
}

/// Under which lease a write is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lease {
    pub id: SagaId,
    pub owner: Uuid,
    pub fence: i64,
}

/// Locks the saga for the rest of the transaction; false when the lease is another's by now.
pub(super) async fn hold(conn: &mut PgConnection, lease: Lease) -> Result<bool> {
    let row = sqlx::query!(
        "select id from saga where id = $1 and lease_owner = $2 and fence = $3 for update",
        lease.id.uuid(),
        lease.owner,
        lease.fence,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}

/// One move of a saga: what came of a step, and where that leaves it.
#[derive(Debug)]
pub(super) struct Move<'a> {
    pub settled_position: usize,
    pub settled_direction: Direction,
    /// `done`, `refused` or `unknown`.
    pub outcome: &'static str,
    pub tries: i32,
    pub output: Option<&'a Value>,
    pub error: Option<&'a str>,
    pub state: &'static str,
    pub direction: Direction,
    pub position: usize,
    pub step: &'a str,
    pub attempt: i32,
    pub refusal: Option<Value>,
    pub pause: Duration,
    /// None gives the lease back.
    pub lease: Option<Duration>,
    /// The step at `position` is new.
    pub intends: bool,
    pub ended: bool,
    /// The signals that the step knew of; when there are more by now, waiting ends at once.
    pub signals: i64,
}

/// Writes a move; gives the signals there are by now, or none when the lease is another's and nothing was written.
pub(super) async fn write(
    conn: &mut PgConnection,
    lease: Lease,
    next: &Move<'_>,
) -> Result<Option<i64>> {
    let row = sqlx::query!(
        r#"
        with held as (
          update saga set state = $4, direction = $5, position = $6, step = $7, attempt = $8,
            refusal = coalesce($9, refusal), error = $10,
            -- Under a lease nobody asks when it is due; left alone, no index has to learn of the step.
            next_run_at = case when $12::float8 is not null then next_run_at
              else clock_timestamp()
                + case when $4 = 'waiting' and signals > $20 then interval '0' else make_interval(secs => $11) end end,
            lease_owner = case when $12::float8 is not null then lease_owner end,
            leased_until = clock_timestamp() + make_interval(secs => $12),
            ended_at = case when $13 then clock_timestamp() end
          where id = $1 and lease_owner = $2 and fence = $3
          returning id, agency_id, tenant_id, signals
        ), settled as (
          update saga_step s set outcome = $16, attempt = $17, output = $18, error = $10,
            ended_at = case when $16 in ('done', 'refused') then clock_timestamp() end
          -- By its whole key: a plan made while the table was small would read all of it for ever.
          from held where s.saga_id = $1 and s.position = $14 and s.direction = $15
        ), intended as (
          insert into saga_step (saga_id, position, direction, name, agency_id, tenant_id)
          select held.id, $6, $5, $7, held.agency_id, held.tenant_id from held where $19
          on conflict (saga_id, position, direction) do nothing
        )
        select signals from held
        "#,
        lease.id.uuid(),
        lease.owner,
        lease.fence,
        next.state,
        next.direction.as_str(),
        index(next.position),
        next.step,
        next.attempt,
        next.refusal,
        next.error,
        next.pause.as_secs_f64(),
        next.lease.map(|lease| lease.as_secs_f64()) as Option<f64>,
        next.ended,
        index(next.settled_position),
        next.settled_direction.as_str(),
        next.outcome,
        next.tries,
        next.output,
        next.intends,
        next.signals,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| row.signals))
}

/// Tells a saga that something happened that it may wait for. One that looks right now looks again.
pub(super) async fn signal(conn: &mut PgConnection, id: SagaId) -> Result<()> {
    sqlx::query!(
        r#"
        update saga set signals = signals + 1,
          next_run_at = case when state = 'waiting' then least(next_run_at, clock_timestamp()) else next_run_at end
        where id = $1 and state in ('running', 'waiting', 'compensating')
        "#,
        id.uuid(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// An operator's decision on a parked saga.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Retry,
    ResolveDone,
    ResolveNotDone,
    Abandon,
}

impl Decision {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Decision::Retry => "retry",
            Decision::ResolveDone => "resolve_done",
            Decision::ResolveNotDone => "resolve_not_done",
            Decision::Abandon => "abandon",
        }
    }
}

/// A saga as it stands, with nobody's lease: for looking before a decision.
pub(super) async fn find(conn: &mut PgConnection, id: SagaId) -> Result<Option<Leased>> {
    let row = sqlx::query_as!(
        LeasedRow,
        r#"
        select s.id as "id: SagaId", s.agency_id as "agency_id: AgencyId", s.tenant_id as "tenant_id: ClientId",
          s.definition, s.version, s.direction, s.position, s.attempt, s.input, s.refusal, s.traceparent, s.fence, s.signals,
          (select coalesce(jsonb_object_agg(d.name, d.output), '{}') from saga_step d
           where d.saga_id = s.id and d.direction = 'do' and d.outcome = 'done') as "outputs!",
          (select extract(epoch from clock_timestamp() - i.created_at)::float8 from saga_step i
           where i.saga_id = s.id and i.position = s.position and i.direction = s.direction) as intended_for
        from saga s where s.id = $1
        "#,
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(Leased::from))
}

/// Where a saga stands and who decided on it last.
pub(super) async fn decided(
    conn: &mut PgConnection,
    id: SagaId,
) -> Result<Option<(String, Option<String>)>> {
    let row = sqlx::query!(
        "select state, decided_by from saga where id = $1",
        id.uuid()
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| (row.state, row.decided_by)))
}

/// Ends a saga that an operator has given up; false when the lease is another's.
pub(super) async fn abandon(
    conn: &mut PgConnection,
    lease: Lease,
    refusal: Option<Value>,
    note: &str,
) -> Result<bool> {
    let ended = sqlx::query!(
        r#"
        update saga set state = 'abandoned', refusal = coalesce(refusal, $4), error = $5, lease_owner = null,
          leased_until = null, ended_at = clock_timestamp()
        where id = $1 and lease_owner = $2 and fence = $3
        "#,
        lease.id.uuid(),
        lease.owner,
        lease.fence,
        refusal,
        note,
    )
    .execute(conn)
    .await?;
    Ok(ended.rows_affected() == 1)
}

/// Takes a parked saga for an operator who has decided: the first one gets it, for all others it is not parked any more.
/// What an earlier try did is looked for before the step is done again.
pub(super) async fn claim_parked(
    conn: &mut PgConnection,
    owner: Uuid,
    lease: Duration,
    id: SagaId,
    decision: Decision,
    by: &str,
) -> Result<Option<Leased>> {
    let row = sqlx::query_as!(
        LeasedRow,
        r#"
        update saga s
        set state = case s.direction when 'do' then 'running' else 'compensating' end, attempt = $5,
            lease_owner = $1, leased_until = clock_timestamp() + make_interval(secs => $2), fence = s.fence + 1,
            next_run_at = clock_timestamp(), decision = $4, decided_by = $6, decided_at = clock_timestamp()
        where s.id = $3 and s.state = 'parked'
        returning s.id as "id: SagaId", s.agency_id as "agency_id: AgencyId", s.tenant_id as "tenant_id: ClientId",
          s.definition, s.version, s.direction, s.position, s.attempt, s.input, s.refusal, s.traceparent, s.fence, s.signals,
          (select coalesce(jsonb_object_agg(d.name, d.output), '{}') from saga_step d
           where d.saga_id = s.id and d.direction = 'do' and d.outcome = 'done') as "outputs!",
          (select extract(epoch from clock_timestamp() - i.created_at)::float8 from saga_step i
           where i.saga_id = s.id and i.position = s.position and i.direction = s.direction) as intended_for
        "#,
        owner,
        lease.as_secs_f64(),
        id.uuid(),
        decision.as_str(),
        PROBED_FROM,
        by,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(Leased::from))
}

/// Gives the lease back before the saga has ended, so that another process need not wait for it to expire.
pub(super) async fn give_back(
    conn: &mut PgConnection,
    lease: Lease,
    pause: Duration,
    tries: i32,
) -> Result<()> {
    sqlx::query!(
        r#"
        update saga set lease_owner = null, leased_until = null, attempt = attempt + $4,
          next_run_at = clock_timestamp() + make_interval(secs => $5)
        where id = $1 and lease_owner = $2 and fence = $3 and state in ('running', 'waiting', 'compensating')
        "#,
        lease.id.uuid(),
        lease.owner,
        lease.fence,
        tries,
        pause.as_secs_f64(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// How a saga stands, for whoever waits for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Completed, compensated, abandoned or parked: nothing more will happen by itself.
    pub at_rest: bool,
    /// It waits for something outside.
    pub waiting: bool,
    /// Everything was done.
    pub completed: bool,
    /// Why it is or was undone.
    pub refusal: Option<Refusal>,
}

impl Standing {
    /// Nothing more happens by itself.
    pub(super) const fn at_rest(completed: bool, refusal: Option<Refusal>) -> Self {
        Self {
            at_rest: true,
            waiting: false,
            completed,
            refusal,
        }
    }

    /// It goes on when something happens outside.
    pub(super) const fn waiting(refusal: Option<Refusal>) -> Self {
        Self {
            at_rest: false,
            waiting: true,
            completed: false,
            refusal,
        }
    }

    /// All that was asked for stands.
    pub(crate) const fn settled() -> Self {
        Self::at_rest(true, None)
    }
}

/// Reads how a saga stands.
pub(super) async fn standing(conn: &mut PgConnection, id: SagaId) -> Result<Option<Standing>> {
    let row = sqlx::query!("select state, refusal from saga where id = $1", id.uuid())
        .fetch_optional(conn)
        .await?;
    Ok(row.map(|row| Standing {
        at_rest: matches!(
            row.state.as_str(),
            "completed" | "compensated" | "abandoned" | "parked"
        ),
        waiting: row.state == "waiting",
        completed: row.state == "completed",
        refusal: row
            .refusal
            .and_then(|refusal| serde_json::from_value(refusal).ok()),
    }))
}

/// Steps are few.
fn index(position: usize) -> i32 {
    i32::try_from(position).unwrap_or(i32::MAX)
}

/// Lets the lease of whoever runs the saga expire before its time: for the prover.
pub(super) async fn expire_lease(conn: &mut PgConnection, id: SagaId) -> Result<()> {
    sqlx::query!(
        r#"
        update saga set leased_until = clock_timestamp() - interval '1 second'
        where id = $1 and lease_owner is not null
        "#,
        id.uuid(),
    )
    .execute(conn)
    .await?;
    Ok(())
}
