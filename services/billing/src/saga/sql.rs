//! The operator's view of the saga log.
//! Deliberately absent: writing. Only the engine writes sagas, through `log.rs`.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{AgencyId, ClientId, SagaId};
use sqlx::PgConnection;

/// A saga as it is shown.
#[derive(Debug)]
pub(super) struct SagaRow {
    pub id: SagaId,
    pub tenant_id: ClientId,
    pub definition: String,
    pub state: String,
    pub step: String,
    pub attempt: i32,
    pub error: Option<String>,
    pub refusal_detail: Option<String>,
    pub traceparent: Option<String>,
    pub next_run_at: DateTime<Utc>,
    pub decision: Option<String>,
    pub decided_by: Option<String>,
    pub decided_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// One step as it is shown.
#[derive(Debug)]
pub(super) struct StepRow {
    pub name: String,
    pub direction: String,
    pub outcome: String,
    pub attempt: i32,
    pub error: Option<String>,
    pub created_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
}

pub(super) async fn list(
    conn: &mut PgConnection,
    agency: AgencyId,
    state: Option<&str>,
    after: Option<SagaId>,
    limit: i64,
) -> Result<Vec<SagaRow>> {
    Ok(sqlx::query_as!(
        SagaRow,
        r#"
        select id as "id: SagaId", tenant_id as "tenant_id: ClientId", definition, state, step, attempt, error,
          refusal ->> 'detail' as refusal_detail, traceparent, next_run_at, decision, decided_by, decided_at, created_at,
          updated_at
        from saga
        where agency_id = $1 and ($2::text is null or state = $2) and ($3::uuid is null or id < $3)
        order by id desc
        limit $4
        "#,
        agency.uuid(),
        state,
        after.map(SagaId::uuid),
        limit,
    )
    .fetch_all(conn)
    .await?)
}

pub(super) async fn get(
    conn: &mut PgConnection,
    agency: AgencyId,
    id: SagaId,
) -> Result<Option<SagaRow>> {
    Ok(sqlx::query_as!(
        SagaRow,
        r#"
        select id as "id: SagaId", tenant_id as "tenant_id: ClientId", definition, state, step, attempt, error,
          refusal ->> 'detail' as refusal_detail, traceparent, next_run_at, decision, decided_by, decided_at, created_at,
          updated_at
        from saga
        where agency_id = $1 and id = $2
        "#,
        agency.uuid(),
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?)
}

pub(super) async fn steps(conn: &mut PgConnection, id: SagaId) -> Result<Vec<StepRow>> {
    Ok(sqlx::query_as!(
        StepRow,
        r#"
        select name, direction, outcome, attempt, error, created_at, ended_at
        from saga_step
        where saga_id = $1
        order by direction, case direction when 'do' then position else -position end
        "#,
        id.uuid(),
    )
    .fetch_all(conn)
    .await?)
}
