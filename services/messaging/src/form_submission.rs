//! What clients' websites' forms bring: kept once and as it was sent, with the one lead that it is from and what they agreed to.
//! Deliberately absent: an answer to it. What follows from a form begins at [`submitted`].

mod error;
mod rpc;
pub mod rules;
mod sql;

use chrono::{DateTime, Utc};
use mainstay_db::page::{Page, PageRequest};
use mainstay_jobs::record::{self, By, Change};
use mainstay_types::{FormEndpointId, FormSubmissionId, LeadId, Tenant, WebhookEventId};
use serde_json::{Map, Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

pub use error::Error;

use crate::address::Address;
use crate::automation::definition::Trigger;
use crate::automation::occasion::{self, Occasion};
use crate::consent::{self, Kind, Said};
use crate::lead::{self, Wanted};
use crate::message::sql::lock_sending;
use crate::{Messaging, gate::Channel};
use rules::{Field, Problem, Sender};

/// How often it is looked again for what others make meanwhile.
const TRIES: u32 = 3;

/// What a form brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormSubmission {
    /// Its id.
    pub id: FormSubmissionId,
    /// What it was sent to.
    pub endpoint: FormEndpointId,
    /// What it was stored as.
    pub webhook: WebhookEventId,
    /// Who sent it; none when it names nobody who could be reached.
    pub lead: Option<LeadId>,
    /// All that it says.
    pub fields: Vec<Field>,
    /// What could not be taken.
    pub problems: Vec<Problem>,
    /// When it was sent.
    pub submitted_at: DateTime<Utc>,
}

/// Which submissions.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter {
    /// Only this lead's.
    pub lead: Option<LeadId>,
}

/// A form as it came in.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub endpoint: FormEndpointId,
    pub webhook: WebhookEventId,
    pub fields: Vec<Field>,
    pub at: DateTime<Utc>,
}

/// One submission.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn get(
    messaging: &Messaging,
    tenant: Tenant,
    id: FormSubmissionId,
) -> Result<FormSubmission, Error> {
    let mut tx = messaging.database.tenant(tenant).await?;
    let found = sql::find(tx.conn(), tenant, id).await?;
    tx.commit().await?;
    found.ok_or(Error::NotFound)
}

/// A page of submissions, newest first.
///
/// # Errors
/// Only the database's.
pub async fn page(
    messaging: &Messaging,
    tenant: Tenant,
    filter: Filter,
    page: PageRequest<Uuid>,
) -> Result<Page<FormSubmission>, Error> {
    let mut tx = messaging.database.tenant(tenant).await?;
    let after = page.after().copied();
    let rows = sql::list(tx.conn(), tenant, filter, after, page.limit()).await?;
    tx.commit().await?;
    Ok(page.page(rows, |row| row.id.uuid()))
}

/// Takes a form in: the lead, what they agreed to, the submission and what follows, in one transaction, once. None when it is
/// here already.
///
/// # Errors
/// [`lead::Error::Contended`] when others make the same lead faster; the database's.
pub(crate) async fn take(
    messaging: &Messaging,
    tenant: Tenant,
    by: &By,
    arrived: &Arrived,
) -> Result<Option<FormSubmission>, lead::Error> {
    let sender = rules::read(&arrived.fields, arrived.at);
    for _ in 0..TRIES {
        match attempt(messaging, tenant, by, arrived, sender.clone()).await {
            // Somebody made, meanwhile, the lead that it is from: now it is known.
            Err(lead::Error::Taken) => {}
            ended => return ended,
        }
    }
    Err(lead::Error::Contended)
}

async fn attempt(
    messaging: &Messaging,
    tenant: Tenant,
    by: &By,
    arrived: &Arrived,
    sender: Sender,
) -> Result<Option<FormSubmission>, lead::Error> {
    let mut tx = messaging.database.worker().tenant(tenant).await?;
    // Before the lead's row: what follows may send something. It also keeps the same form from being taken twice at once.
    lock_sending(tx.conn(), tenant).await?;
    if sql::is_known(tx.conn(), tenant, arrived.webhook).await? {
        return Ok(None);
    }
    let mut submission = FormSubmission {
        id: FormSubmissionId::generate(),
        endpoint: arrived.endpoint,
        webhook: arrived.webhook,
        lead: None,
        fields: arrived.fields.clone(),
        problems: sender.problems.clone(),
        submitted_at: arrived.at,
    };
    let addresses: Vec<Address> = [&sender.phone, &sender.email]
        .into_iter()
        .filter_map(Clone::clone)
        .collect();
    if !addresses.is_empty() {
        let wanted = Wanted {
            name: sender.name.clone(),
            time_zone: sender.time_zone.clone(),
            addresses,
        };
        let source = lead::Source::Form;
        let found = lead::ensure_by(tx.conn(), tenant, by, wanted, source).await?;
        submission.lead = Some(found.lead);
        submission
            .problems
            .extend(found.elsewhere.iter().map(left_out));
        agree(tx.conn(), tenant, by, arrived.endpoint, &sender).await?;
    }
    sql::insert(tx.conn(), tenant, &submission, by.now).await?;
    submitted(tx.conn(), tenant, by, &submission).await?;
    tx.commit().await?;
    messaging.wake();
    messaging.wake_jobs();
    Ok(Some(submission))
}

fn left_out(address: &Address) -> Problem {
    Problem {
        field: if address.is_phone() { "phone" } else { "email" }.to_owned(),
        message: "is not added to the lead: it is another lead's, or the lead has too many"
            .to_owned(),
    }
}

/// Records what they agreed to: addresses in their order, and channels in theirs.
async fn agree(
    conn: &mut PgConnection,
    tenant: Tenant,
    by: &By,
    endpoint: FormEndpointId,
    sender: &Sender,
) -> mainstay_db::Result<()> {
    let addresses = [&sender.phone, &sender.email];
    let mut addresses: Vec<&Address> = addresses.into_iter().flatten().collect();
    addresses.sort_unstable();
    for address in addresses {
        for channel in address.channels() {
            let given = sender.consents.iter();
            for (_, consent, words) in given.filter(|(agreed, ..)| agreed == channel) {
                let said = Said {
                    source: format!("form:{endpoint}"),
                    text: words.clone(),
                };
                let (kind, channel): (Kind, Channel) = (Kind::Consent(*consent), *channel);
                consent::write(conn, tenant, by, address, channel, kind, &said).await?;
            }
        }
    }
    Ok(())
}

/// A form was taken in: told once, in the transaction that keeps it. What follows from it begins here.
async fn submitted(
    conn: &mut PgConnection,
    tenant: Tenant,
    by: &By,
    submission: &FormSubmission,
) -> mainstay_db::Result<()> {
    let change = Change {
        action: "messaging.form.submit",
        event: "messaging.form.submitted",
        noun: "form_submission",
        target: submission.id.to_string(),
        client: Some(tenant.client),
        sequence: 1,
        before: None,
        // Not what it says, which is the person's.
        after: json!({
            "id": submission.id,
            "form_endpoint_id": submission.endpoint,
            "lead_id": submission.lead,
            "problems": submission.problems.iter().map(|problem| &problem.field).collect::<Vec<_>>(),
            "submitted_at": submission.submitted_at,
        }),
    };
    record::write(conn, by, change).await?;
    let Some(lead) = submission.lead else {
        return Ok(());
    };
    let said: Map<String, Value> = submission
        .fields
        .iter()
        .map(|field| (rules::callable(&field.name), json!(field.value)))
        .collect();
    let occasion = Occasion {
        trigger: Trigger::FormSubmitted,
        key: format!("form:{}", submission.webhook),
        lead,
        conversation: None,
        sender: None,
        facts: json!({ "form": said }),
        starts_at: None,
    };
    occasion::happened(conn, tenant, &occasion, by.now).await?;
    Ok(())
}
