//! Sessions of people who signed in (IDN-04): an access token of a quarter of an hour, which is exchanged like every other
//! credential, and a refresh token that gives the next two and ends with that.
//!
//! ```text
//!  open ─▶ token 1 ─used─▶ token 2 ─used─▶ …      the next one follows from the one before and a key
//!             └ used again: within GRACE the same token 2, later the end of all
//! ```
//! A session is of one member in one agency, the one whose account carried the code. Another agency takes another code.
//! Deliberately absent: tokens at rest, and a token that outlives its session: whoever exchanges one looks at the session's row.

mod error;
mod rpc;
pub(crate) mod rules;
pub(crate) mod sql;

use chrono::{DateTime, Utc};
use mainstay_db::{Page, PageRequest};
use mainstay_jobs::record::{self, By, Change};
use mainstay_rpc::token::access::Bearer;
use mainstay_rpc::{Actor, Context};
use mainstay_types::{AgencyId, AgencyScope, MemberId, PersonId, SessionId, Visible};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

pub use error::Error;

use crate::keys::Purpose;
use crate::member::{self, Member};
use crate::{Identity, api_key};
use rules::Next;

/// A session as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Whose.
    pub person: PersonId,
    /// In which agency they act.
    pub agency: AgencyId,
    /// As which member.
    pub member: MemberId,
    /// When it was ended.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When its tokens were last renewed.
    pub last_used_at: DateTime<Utc>,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When it ends by itself.
    pub expires_at: DateTime<Utc>,
}

/// A session with its tokens.
#[derive(Debug)]
pub struct Opened {
    /// The session.
    pub session: SessionId,
    /// In which agency.
    pub agency: AgencyId,
    /// As whom.
    pub member: Member,
    /// The access token.
    pub access_token: String,
    /// The refresh token.
    pub refresh_token: String,
}

/// Begins a session, in the caller's transaction for that agency.
pub(crate) async fn open(
    conn: &mut PgConnection,
    identity: &Identity,
    agency: AgencyId,
    member: Member,
    now: DateTime<Utc>,
) -> Result<Opened, Error> {
    let session = Session {
        id: SessionId::generate(),
        person: member.person_id,
        agency,
        member: member.id,
        revoked_at: None,
        last_used_at: now,
        created_at: now,
        expires_at: now + rules::SESSION_LIFE,
    };
    let token = rules::token(&rand::random());
    sql::insert(conn, &session).await?;
    let hash = identity.lookup.hash(Purpose::RefreshToken, &token);
    sql::insert_token(conn, &hash, &session, now).await?;
    let by = By {
        agency: session.agency,
        actor: session.member.to_string(),
        request_id: None,
        now,
    };
    let change = Change {
        action: "identity.session.create",
        event: "identity.session.created",
        noun: "session",
        target: session.id.to_string(),
        client: None,
        sequence: 1,
        before: None,
        after: image(&session, None),
    };
    record::write(conn, &by, change).await?;
    Ok(opened(identity, &session, member, token, now))
}

/// Gives the next tokens for a refresh token.
///
/// # Errors
/// [`Error::Ended`].
pub async fn refresh(identity: &Identity, token: &str) -> Result<Opened, Error> {
    let now = identity.clock.now();
    let token = rules::read(token).ok_or(Error::Ended)?;
    let hash = identity.lookup.hash(Purpose::RefreshToken, token);
    let mut tx = identity.database.directory().await?;
    let found = sql::find_token(tx.conn(), &hash).await?;
    tx.commit().await?;
    let (session, used_at) = found
        .filter(|(session, _)| alive(session, now))
        .ok_or(Error::Ended)?;
    if rules::next(used_at, now) == Next::Stolen {
        tracing::warn!(
            alert = "refresh_token_reused", session.id = %session.id,
            "a refresh token came again after its successor was given: its session is ended"
        );
        end(identity, &session, "refresh_token_reused", None).await?;
        return Err(Error::Ended);
    }
    let mut tx = identity.database.agency(&whole(session.agency)).await?;
    let member = member::sql::get(tx.conn(), session.agency, session.member).await?;
    let member = member
        .filter(|member| member.state == member::State::Active)
        .ok_or(Error::Ended)?;
    let session = Session {
        last_used_at: now,
        expires_at: now + rules::SESSION_LIFE,
        ..session
    };
    let successor = rules::token(&identity.sign_in.successor(token));
    // Of two who come at once one uses the token; the other comes after it, and gets the same successor.
    if sql::use_token(tx.conn(), &hash, now).await? {
        if !sql::renew(tx.conn(), &session).await? {
            return Err(Error::Ended);
        }
        let hash = identity.lookup.hash(Purpose::RefreshToken, &successor);
        sql::insert_token(tx.conn(), &hash, &session, now).await?;
    }
    tx.commit().await?;
    Ok(opened(identity, &session, member, successor, now))
}

/// A session that an access token of it may still act with, as it stands.
///
/// # Errors
/// Only the database's.
pub(crate) async fn find_alive(
    identity: &Identity,
    id: SessionId,
    now: DateTime<Utc>,
) -> mainstay_db::Result<Option<Session>> {
    let mut tx = identity.database.directory().await?;
    let session = sql::get(tx.conn(), id).await?;
    tx.commit().await?;
    Ok(session.filter(|session| alive(session, now)))
}

/// The caller's sessions in the agency that have not ended, newest first.
///
/// # Errors
/// Only the database's.
pub async fn list(
    identity: &Identity,
    ctx: &Context,
    request: &PageRequest<Uuid>,
) -> Result<Page<Session>, Error> {
    let Some(person) = person(identity, ctx).await? else {
        return Ok(request.page(Vec::new(), |last: &Session| last.id.uuid()));
    };
    let now = identity.clock.now();
    let mut tx = identity.database.directory().await?;
    let after = request.after().copied();
    let rows = sql::list(tx.conn(), person, ctx.agency, after, now, request.limit()).await?;
    tx.commit().await?;
    Ok(request.page(rows, |last| last.id.uuid()))
}

/// Ends one of the caller's sessions. One that has ended already stays so.
///
/// # Errors
/// [`Error::NotFound`] for whatever is not the caller's.
pub async fn revoke(identity: &Identity, ctx: &Context, id: SessionId) -> Result<(), Error> {
    let person = person(identity, ctx).await?.ok_or(Error::NotFound)?;
    let mut tx = identity.database.directory().await?;
    let session = sql::get(tx.conn(), id).await?;
    tx.commit().await?;
    let session = session
        .filter(|session| (session.person, session.agency) == (person, ctx.agency))
        .ok_or(Error::NotFound)?;
    end(identity, &session, "revoked", Some(ctx)).await
}

/// Ends the session that the caller acts with, if it acts with one.
///
/// # Errors
/// Only the database's.
pub async fn sign_out(identity: &Identity, ctx: &Context) -> Result<(), Error> {
    match ctx.session() {
        Some(id) => match revoke(identity, ctx, id).await {
            // It was deleted, long after it ended.
            Err(Error::NotFound) => Ok(()),
            done => done,
        },
        None => Ok(()),
    }
}

/// Ends the sessions in which somebody acts as this member, in the caller's transaction.
pub(crate) async fn end_of_member(
    conn: &mut PgConnection,
    by: &By,
    member: MemberId,
) -> mainstay_db::Result<()> {
    for session in sql::revoke_of_member(conn, by.agency, member, by.now).await? {
        note_end(conn, by, &session, "member_deactivated").await?;
    }
    Ok(())
}

async fn end(
    identity: &Identity,
    session: &Session,
    why: &'static str,
    ctx: Option<&Context>,
) -> Result<(), Error> {
    let now = identity.clock.now();
    let by = By {
        agency: session.agency,
        actor: ctx.map_or_else(|| session.member.to_string(), Context::principal),
        request_id: ctx.map(|ctx| ctx.request_id.clone()),
        now,
    };
    let mut tx = identity.database.agency(&whole(session.agency)).await?;
    if sql::revoke(tx.conn(), session.id, now).await? {
        note_end(tx.conn(), &by, session, why).await?;
    }
    tx.commit().await?;
    Ok(())
}

async fn note_end(
    conn: &mut PgConnection,
    by: &By,
    session: &Session,
    why: &'static str,
) -> mainstay_db::Result<()> {
    let change = Change {
        action: "identity.session.revoke",
        event: "identity.session.revoked",
        noun: "session",
        target: session.id.to_string(),
        client: None,
        sequence: 2,
        before: Some(image(session, None)),
        after: image(session, Some(why)),
    };
    record::write(conn, by, change).await
}

fn image(session: &Session, ended_because: Option<&str>) -> serde_json::Value {
    json!({
        "id": session.id,
        "person_id": session.person,
        "member_id": session.member,
        "ended_because": ended_because,
    })
}

fn opened(
    identity: &Identity,
    session: &Session,
    member: Member,
    refresh_token: String,
    now: DateTime<Utc>,
) -> Opened {
    let bearer = Bearer {
        person: session.person,
        session: session.id,
        agency: session.agency,
        member: session.member,
    };
    Opened {
        session: session.id,
        agency: session.agency,
        member,
        access_token: identity.access.issue(bearer, now),
        refresh_token,
    }
}

fn alive(session: &Session, now: DateTime<Utc>) -> bool {
    session.revoked_at.is_none() && session.expires_at > now
}

fn whole(agency: AgencyId) -> AgencyScope {
    AgencyScope {
        agency,
        visible: Visible::All,
    }
}

/// The person who acts; of a member's key, that member's person; none of an agency's key.
async fn person(identity: &Identity, ctx: &Context) -> mainstay_db::Result<Option<PersonId>> {
    let key = match &ctx.actor {
        Actor::Member { person, .. } => return Ok(Some(*person)),
        Actor::ApiKey { key } => *key,
        Actor::Service(_) | Actor::Anonymous => return Ok(None),
    };
    let agency = ctx.agency;
    let mut tx = identity.database.agency(&whole(agency)).await?;
    let key = api_key::sql::get(tx.conn(), agency, key).await?;
    let member = match key.and_then(|key| key.member_id) {
        Some(member) => member::sql::get(tx.conn(), agency, member).await?,
        None => None,
    };
    tx.commit().await?;
    Ok(member.map(|member| member.person_id))
}
