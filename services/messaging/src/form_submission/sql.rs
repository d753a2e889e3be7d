//! All queries about what forms brought.
//! Deliberately absent: an update or delete. Its table refuses both.

use chrono::{DateTime, Utc};
use mainstay_db::Result;
use mainstay_types::{FormEndpointId, FormSubmissionId, LeadId, Tenant, WebhookEventId};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::rules::{Field, Problem};
use super::{Filter, FormSubmission};

struct Row {
    id: FormSubmissionId,
    endpoint: FormEndpointId,
    webhook: WebhookEventId,
    lead: Option<LeadId>,
    fields: Json<Vec<Field>>,
    problems: Json<Vec<Problem>>,
    submitted_at: DateTime<Utc>,
}

impl From<Row> for FormSubmission {
    fn from(row: Row) -> Self {
        FormSubmission {
            id: row.id,
            endpoint: row.endpoint,
            webhook: row.webhook,
            lead: row.lead,
            fields: row.fields.0,
            problems: row.problems.0,
            submitted_at: row.submitted_at,
        }
    }
}

/// Whether what a webhook brought is here.
pub(super) async fn is_known(
    conn: &mut PgConnection,
    tenant: Tenant,
    webhook: WebhookEventId,
) -> Result<bool> {
    let known = sqlx::query_scalar!(
        r#"select exists (select from form_submission where tenant_id = $1 and webhook_event_id = $2) as "known!""#,
        tenant.client.uuid(),
        webhook.uuid(),
    )
    .fetch_one(conn)
    .await?;
    Ok(known)
}

/// Keeps what a form brought.
pub(super) async fn insert(
    conn: &mut PgConnection,
    tenant: Tenant,
    new: &FormSubmission,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "insert into form_submission (agency_id, tenant_id, id, form_endpoint_id, webhook_event_id, lead_id, fields, problems,
           submitted_at, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        tenant.agency.uuid(),
        tenant.client.uuid(),
        new.id.uuid(),
        new.endpoint.uuid(),
        new.webhook.uuid(),
        new.lead.map(|lead| lead.uuid()),
        Json(&new.fields) as _,
        Json(&new.problems) as _,
        new.submitted_at,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// One submission.
pub(super) async fn find(
    conn: &mut PgConnection,
    tenant: Tenant,
    id: FormSubmissionId,
) -> Result<Option<FormSubmission>> {
    let row = sqlx::query_as!(
        Row,
        r#"select id as "id: FormSubmissionId", form_endpoint_id as "endpoint: FormEndpointId",
             webhook_event_id as "webhook: WebhookEventId", lead_id as "lead: LeadId",
             fields as "fields: Json<Vec<Field>>", problems as "problems: Json<Vec<Problem>>", submitted_at
           from form_submission where tenant_id = $1 and id = $2"#,
        tenant.client.uuid(),
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(FormSubmission::from))
}

/// A page of submissions, newest first.
pub(super) async fn list(
    conn: &mut PgConnection,
    tenant: Tenant,
    filter: Filter,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<FormSubmission>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select id as "id: FormSubmissionId", form_endpoint_id as "endpoint: FormEndpointId",
             webhook_event_id as "webhook: WebhookEventId", lead_id as "lead: LeadId",
             fields as "fields: Json<Vec<Field>>", problems as "problems: Json<Vec<Problem>>", submitted_at
           from form_submission
           where tenant_id = $1 and ($2::uuid is null or lead_id = $2) and ($3::uuid is null or id < $3)
           order by id desc limit $4"#,
        tenant.client.uuid(),
        filter.lead.map(|lead| lead.uuid()),
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(FormSubmission::from).collect())
}
