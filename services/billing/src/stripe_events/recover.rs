//! Webhooks that never came: Stripe's list of events is walked from where the last walk ended, with an overlap, and every
//! event that had no effect here is given it, through the same door. `delivery_success` is not asked: what Stripe calls
//! delivered may have been lost behind the gateway, and billing's own inbox is the truth. Integrations' store of webhooks
//! is not told, and need not be: a webhook that comes after all finds its event had its effect.
//! Deliberately absent: our clock. Where a walk begins and ends is told in Stripe's time, by its events.

use mainstay_jobs::enqueue;
use mainstay_providers::stripe::StripeFailure;
use serde::Deserialize;
use serde_json::Value;
use sqlx::PgConnection;

use super::{Handled, Intake, IntakeError, Outcome, StripeEvent, handle, sql};
use crate::jobs::recover_stripe_event;

/// How far a walk goes back behind where the last one ended: events are listed a little after they are made.
const OVERLAP_SECONDS: i64 = 3_600;

/// Pages of a hundred that one run looks at; what is left waits for the next, which is soon.
const PAGES: u32 = 50;

/// What a walk did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Walked {
    /// Events looked at.
    pub looked_at: u64,
    /// Those that had no effect yet and have it now.
    pub recovered: u64,
    /// Those that cannot have it yet: each is tried again on its own, for days, and is then a dead letter that a person sees.
    pub waiting: Vec<String>,
    /// Whether the walk came to its end.
    pub ended: bool,
}

/// Where the last walk ended, and one in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cursor {
    read_through: i64,
    /// The newest event that the walk began with, and the last one it looked at.
    walk: Option<(i64, String)>,
}

/// What is read of an event in the list before it is handled.
#[derive(Deserialize)]
struct Listed {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    created: i64,
}

/// Walks the list, at most so many pages; goes on where the last run stopped.
///
/// # Errors
/// When Stripe or the database cannot be asked. What was done stays done; the next run goes on from there.
pub async fn walk(intake: &Intake) -> Result<Walked, IntakeError> {
    let mut walked = Walked::default();
    let Some(mut cursor) = begin(intake).await? else {
        walked.ended = true;
        return Ok(walked);
    };
    let since = cursor.read_through.saturating_sub(OVERLAP_SECONDS);
    for _ in 0..PAGES {
        let older_than = cursor.walk.as_ref().map(|(_, after)| after.as_str());
        let page = match intake.stripe.events(Some(since), older_than).await {
            Ok(page) => page,
            // The event that the walk stopped at is older than Stripe keeps any: begin anew.
            Err(failure) if failure.is_missing() || is_bad_request(&failure) => {
                cursor.walk = None;
                leave(intake, &cursor, &[]).await?;
                return Ok(walked);
            }
            Err(failure) => return Err(IntakeError::Stripe(failure)),
        };
        let mut listed = Vec::with_capacity(page.data.len());
        for body in &page.data {
            // What is no event at all is no reason to stop at it for ever.
            if let Ok(event) = Listed::deserialize(body) {
                listed.push((event, body));
            }
        }
        let waiting = take(intake, &listed, &mut walked).await?;
        let newest = cursor.walk.as_ref().map(|(newest, _)| *newest);
        let newest = newest.or(listed.first().map(|(event, _)| event.created));
        match (newest, listed.last(), page.has_more) {
            (Some(newest), Some((last, _)), true) => {
                cursor.walk = Some((newest, last.id.clone()));
                leave(intake, &cursor, &waiting).await?;
                walked.waiting.extend(waiting);
            }
            (newest, _, _) => {
                let through = newest.unwrap_or(cursor.read_through);
                cursor = Cursor {
                    read_through: through.max(cursor.read_through),
                    walk: None,
                };
                leave(intake, &cursor, &waiting).await?;
                walked.waiting.extend(waiting);
                walked.ended = true;
                return Ok(walked);
            }
        }
    }
    Ok(walked)
}

fn is_bad_request(failure: &StripeFailure) -> bool {
    matches!(failure, StripeFailure::Refused { status: 400, .. })
}

/// Gives the unseen of a page their effect, oldest first: most then find what they are about. Gives those that cannot have it
/// yet.
async fn take(
    intake: &Intake,
    listed: &[(Listed, &Value)],
    walked: &mut Walked,
) -> Result<Vec<String>, IntakeError> {
    let mut waiting = Vec::new();
    let ids: Vec<String> = listed.iter().map(|(event, _)| event.id.clone()).collect();
    let mut worker = intake.database.worker().connection().await?;
    let seen = sql::seen_of(worker.conn(), &ids).await?;
    drop(worker);
    walked.looked_at += u64::try_from(listed.len()).unwrap_or_default();
    for (event, body) in listed.iter().rev() {
        if seen.contains(&event.id) {
            continue;
        }
        match recover(intake, event, body).await? {
            Some(Outcome::Retry) | None => waiting.push(event.id.clone()),
            Some(Outcome::Applied | Outcome::Ignored) => walked.recovered += 1,
            Some(Outcome::Duplicate) => {}
        }
    }
    Ok(waiting)
}

/// One event's effect. A failure of Stripe about one object is that event's, to be tried again with it alone; a failure of
/// the database ends the walk.
async fn recover(
    intake: &Intake,
    listed: &Listed,
    body: &Value,
) -> Result<Option<Outcome>, IntakeError> {
    let bytes = body.to_string();
    let Ok(event) = StripeEvent::read(listed.id.clone(), listed.kind.clone(), bytes.as_bytes())
    else {
        return Ok(Some(Outcome::Ignored));
    };
    match handle(intake, &event).await {
        Ok(handled) => {
            told(&event, &handled);
            Ok(Some(handled.outcome))
        }
        Err(error @ IntakeError::Database(_)) => Err(error),
        Err(error @ (IntakeError::Stripe(_) | IntakeError::Identity(_))) => {
            tracing::info!(
                event = event.id,
                error = &error as &dyn std::error::Error,
                "an event cannot be recovered yet"
            );
            Ok(None)
        }
    }
}

fn told(event: &StripeEvent, handled: &Handled) {
    if handled.outcome == Outcome::Applied {
        tracing::info!(
            event = event.id,
            kind = event.kind,
            detail = handled.detail,
            "recovered an event whose webhook had not come"
        );
    }
}

/// One event that could not have its effect when it was walked past, read again at Stripe.
///
/// # Errors
/// When it cannot have it now either.
pub async fn again(intake: &Intake, id: &str) -> Result<Handled, IntakeError> {
    let body = match intake.stripe.event(id).await {
        Ok(body) => body,
        Err(failure) if failure.is_missing() => {
            let detail = "Stripe does not keep this event any more";
            return Ok(Handled::new(Outcome::Ignored, detail, None));
        }
        Err(failure) => return Err(IntakeError::Stripe(failure)),
    };
    let bytes = body.to_string();
    let kind = body["type"].as_str().unwrap_or_default().to_owned();
    match StripeEvent::read(id.to_owned(), kind, bytes.as_bytes()) {
        Ok(event) => handle(intake, &event).await,
        Err(_) => Ok(Handled::new(Outcome::Ignored, "it is no event", None)),
    }
}

/// The cursor; none when Stripe has no event at all. The first walk of an installation begins where Stripe is now: what
/// happened before was nobody's here.
async fn begin(intake: &Intake) -> Result<Option<Cursor>, IntakeError> {
    let mut worker = intake.database.worker().connection().await?;
    let known = find(worker.conn()).await?;
    drop(worker);
    if known.is_some() {
        return Ok(known);
    }
    let page = intake.stripe.events(None, None).await;
    let page = page.map_err(IntakeError::Stripe)?;
    let newest = page.data.first().and_then(|body| body["created"].as_i64());
    let Some(newest) = newest else {
        return Ok(None);
    };
    let cursor = Cursor {
        read_through: newest,
        walk: None,
    };
    leave(intake, &cursor, &[]).await?;
    Ok(Some(cursor))
}

async fn find(conn: &mut PgConnection) -> mainstay_db::Result<Option<Cursor>> {
    let row = sqlx::query!("select read_through, walk_newest, walk_after from stripe_event_cursor")
        .fetch_optional(conn)
        .await?;
    Ok(row.map(|row| Cursor {
        read_through: row.read_through,
        walk: row.walk_newest.zip(row.walk_after),
    }))
}

/// Notes how far the walk has come, together with the events that it leaves behind waiting: no walk looks at them again.
async fn leave(intake: &Intake, cursor: &Cursor, waiting: &[String]) -> Result<(), IntakeError> {
    let (newest, after) = match &cursor.walk {
        Some((newest, after)) => (Some(*newest), Some(after.as_str())),
        None => (None, None),
    };
    let mut tx = intake.database.worker().tx().await?;
    let now = intake.clock.now();
    for id in waiting {
        enqueue(tx.conn(), recover_stripe_event::job(id, now)).await?;
    }
    sqlx::query!(
        r#"
        insert into stripe_event_cursor (read_through, walk_newest, walk_after) values ($1, $2, $3)
        on conflict (singleton) do update set read_through = excluded.read_through, walk_newest = excluded.walk_newest,
          walk_after = excluded.walk_after
        "#,
        cursor.read_through,
        newest,
        after
    )
    .execute(tx.conn())
    .await
    .map_err(mainstay_db::Error::from)?;
    tx.commit().await?;
    Ok(())
}
