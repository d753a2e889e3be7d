//! Taking an escalation, giving it back, giving it to somebody else, and ending it (ESC-02, ESC-03). One conditional update
//! decides who has it; whoever lost is told who won.
//! Deliberately absent: telling people. The notices are written here, with the change, and told by a job.

use chrono::{DateTime, Utc};
use mainstay_jobs::record::By;
use mainstay_rpc::{Actor, Context};
use mainstay_runtime::telemetry;
use mainstay_types::{EscalationId, MemberId, ServiceName, Tenant};
use sqlx::PgConnection;

use super::sql::Happened;
use super::{Claim, Error, Escalation, State, note, sql, timer};
use crate::Escalating;
use crate::ladder::Place;
use crate::link::Subject;
use crate::notice;

/// What it takes to act for others.
pub(crate) const ASSIGN: &str = "escalation.escalations.assign";
/// How long a link takes an escalation.
const LINK_LASTS: chrono::TimeDelta = chrono::TimeDelta::days(3);

/// Whoever asks.
struct Asker {
    /// The member, if it is one.
    member: Option<MemberId>,
    /// Whether they may act for others.
    assigns: bool,
}

impl Asker {
    fn of(ctx: &Context, tenant: Tenant) -> Self {
        let member = match &ctx.actor {
            Actor::Member { member, .. } => Some(*member),
            Actor::ApiKey { .. } | Actor::Service(_) | Actor::Anonymous => None,
        };
        let assigns = ctx.grants().iter().any(|grant| {
            grant.permissions.iter().any(|held| held == ASSIGN) && grant.reaches(tenant.client)
        });
        Asker { member, assigns }
    }

    /// For whom something is taken.
    fn takes_for(&self, named: Option<MemberId>) -> Result<MemberId, Error> {
        match (named, self.member) {
            (None, None) => Err(Error::ForWhom),
            (None, Some(own)) => Ok(own),
            (Some(named), Some(own)) if named == own => Ok(own),
            // A key has the permission to take, and no self that it could take for.
            (Some(named), None) => Ok(named),
            (Some(named), Some(_)) if self.assigns => Ok(named),
            (Some(_), Some(_)) => Err(Error::OnlyOneself),
        }
    }

    /// Whether they may give back or end what somebody has.
    fn may_end(&self, claim: &Claim) -> bool {
        self.assigns || self.member.is_some_and(|own| own == claim.member)
    }
}

/// Takes one.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Claimed`], [`Error::Ended`], [`Error::NoMember`].
pub async fn claim(
    escalating: &Escalating,
    ctx: &Context,
    id: EscalationId,
    named: Option<MemberId>,
) -> Result<Escalation, Error> {
    let found = super::get(escalating, &ctx.agency_scope(), id).await?;
    let member = Asker::of(ctx, found.tenant).takes_for(named)?;
    let by = By::actor(ctx, escalating.clock.now());
    take(escalating, &found, member, &by).await
}

/// What somebody who has a link sees.
#[derive(Debug)]
pub enum Seen {
    /// It can be taken.
    Open(Escalation),
    /// They have it.
    Yours(Escalation),
    /// Somebody else has it.
    Taken(Escalation, Claim),
    /// It is done with.
    Ended(Escalation),
    /// The link is too old, or its member has left.
    Expired(Escalation),
}

/// What a link is about.
///
/// # Errors
/// [`Error::NoLink`].
pub async fn show(escalating: &Escalating, token: &str) -> Result<Seen, Error> {
    let subject = escalating.links.read(token).ok_or(Error::NoLink)?;
    let mut tx = escalating.database.tenant(subject.tenant).await?;
    let found = sql::find(tx.conn(), subject.tenant.agency, subject.escalation).await?;
    let found = found.filter(|found| found.tenant == subject.tenant);
    let found = found.ok_or(Error::NoLink)?;
    let gone = sql::has_departed(tx.conn(), subject.tenant.agency, subject.member).await?;
    tx.commit().await?;
    Ok(seen(found, subject, gone, escalating.clock.now()))
}

fn seen(found: Escalation, subject: Subject, gone: bool, now: DateTime<Utc>) -> Seen {
    match (found.state, found.claim.clone()) {
        (State::Resolved | State::Expired, _) => Seen::Ended(found),
        (State::Claimed, Some(claim)) if claim.member == subject.member => Seen::Yours(found),
        (State::Claimed, Some(claim)) => Seen::Taken(found, claim),
        (State::Claimed, None) | (State::Pending, _) => {
            match gone || now > found.created_at + LINK_LASTS {
                true => Seen::Expired(found),
                false => Seen::Open(found),
            }
        }
    }
}

/// Takes one for the member whose link it is.
///
/// # Errors
/// [`Error::NoLink`], [`Error::LinkExpired`], [`Error::Claimed`], [`Error::Ended`].
pub async fn claim_by_link(escalating: &Escalating, token: &str) -> Result<Escalation, Error> {
    let subject = escalating.links.read(token).ok_or(Error::NoLink)?;
    match show(escalating, token).await? {
        Seen::Yours(found) => Ok(found),
        Seen::Taken(_, claim) => Err(Error::Claimed(claim)),
        Seen::Ended(found) => Err(Error::Ended(found.state)),
        Seen::Expired(_) => Err(Error::LinkExpired),
        Seen::Open(found) => {
            let by = By {
                agency: subject.tenant.agency,
                actor: subject.member.to_string(),
                request_id: None,
                now: escalating.clock.now(),
            };
            match take(escalating, &found, subject.member, &by).await {
                Err(Error::NoMember(_)) => Err(Error::LinkExpired),
                done => done,
            }
        }
    }
}

/// Takes one for a member. Whoever has it already has it still.
async fn take(
    escalating: &Escalating,
    found: &Escalation,
    member: MemberId,
    by: &By,
) -> Result<Escalation, Error> {
    let (tenant, id) = (found.tenant, found.id);
    if let (State::Claimed, Some(claim)) = (found.state, &found.claim)
        && claim.member == member
    {
        return Ok(found.clone());
    }
    let name = escalating.members.serving(tenant, member).await?;
    let name = name.ok_or(Error::NoMember(member))?;
    let mut tx = escalating.database.tenant(tenant).await?;
    sql::lock_member(tx.conn(), member).await?;
    let won = sql::claim(tx.conn(), tenant, id, (member, &name), by.now).await?;
    let now_is = sql::find(tx.conn(), tenant.agency, id).await?;
    let after = now_is.ok_or(Error::NotFound)?;
    if !won {
        let departed = sql::has_departed(tx.conn(), tenant.agency, member).await?;
        tx.rollback().await?;
        return match (after.state, after.claim.clone()) {
            (State::Claimed, Some(claim)) if claim.member == member => Ok(after),
            (State::Claimed, Some(claim)) => Err(Error::Claimed(claim)),
            (State::Pending, _) if departed => Err(Error::NoMember(member)),
            (state, _) => Err(Error::Ended(state)),
        };
    }
    let names = (
        "escalation.escalation.claim",
        "escalation.escalation.claimed",
    );
    let entry = Happened {
        kind: "claimed",
        member: Some(member),
        reason: None,
    };
    note(tx.conn(), by, names, entry, Some(found), &after).await?;
    notice::claimed(tx.conn(), &after, member, by.now).await?;
    tx.commit().await?;
    escalating.jobs.wake();
    // Under the trace of what it was raised for: from a lead's text to whoever took it is one.
    let span = tracing::info_span!("escalation claimed", "mainstay.role" = "escalation", escalation.id = %id, member.id = %member);
    if let Some(traceparent) = &after.traceparent {
        telemetry::set_parent(&span, traceparent);
    }
    span.in_scope(|| tracing::info!("somebody has taken an escalation"));
    Ok(after)
}

/// Gives one back: it waits again, and its ladder begins anew.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Claimed`], [`Error::Unclaimed`], [`Error::Ended`].
pub async fn release(
    escalating: &Escalating,
    ctx: &Context,
    id: EscalationId,
    reason: Option<&str>,
) -> Result<Escalation, Error> {
    let found = super::get(escalating, &ctx.agency_scope(), id).await?;
    let (tenant, by) = (found.tenant, By::actor(ctx, escalating.clock.now()));
    let mut tx = escalating.database.tenant(tenant).await?;
    let before = sql::lock(tx.conn(), tenant, id).await?;
    let before = before.ok_or(Error::NotFound)?;
    let claim = match (before.state, before.claim.clone()) {
        (State::Claimed, Some(claim)) => claim,
        (State::Pending | State::Claimed, _) => return Err(Error::Unclaimed),
        (state, _) => return Err(Error::Ended(state)),
    };
    if !Asker::of(ctx, tenant).may_end(&claim) {
        return Err(Error::Claimed(claim));
    }
    let after = let_go(tx.conn(), &by, &before, reason).await?;
    tx.commit().await?;
    escalating.jobs.wake();
    Ok(after)
}

/// Lets go of one that is claimed, in the caller's transaction and under its lock.
async fn let_go(
    conn: &mut PgConnection,
    by: &By,
    before: &Escalation,
    reason: Option<&str>,
) -> mainstay_db::Result<Escalation> {
    let after = Escalation {
        state: State::Pending,
        claim: None,
        place: Place::FIRST,
        next_step_at: Some(by.now),
        fence: before.fence + 1,
        revision: before.revision + 1,
        ..before.clone()
    };
    sql::apply(conn, &after, by.now).await?;
    let names = (
        "escalation.escalation.release",
        "escalation.escalation.released",
    );
    let entry = Happened {
        kind: "released",
        member: before.claim.as_ref().map(|claim| claim.member),
        reason,
    };
    note(conn, by, names, entry, Some(before), &after).await?;
    timer(conn, &after, by.now).await?;
    Ok(after)
}

/// Lets go of one whose owner has left, if they have it still.
pub(crate) async fn release_of(
    escalating: &Escalating,
    tenant: Tenant,
    id: EscalationId,
    member: MemberId,
) -> mainstay_db::Result<bool> {
    let by = By::itself(
        ServiceName::Escalation,
        tenant.agency,
        escalating.clock.now(),
    );
    let mut tx = escalating.database.tenant(tenant).await?;
    let before = sql::lock(tx.conn(), tenant, id).await?;
    let theirs = |found: &Escalation| {
        found.state == State::Claimed
            && found
                .claim
                .as_ref()
                .is_some_and(|claim| claim.member == member)
    };
    let Some(before) = before.filter(theirs) else {
        tx.rollback().await?;
        return Ok(false);
    };
    let_go(tx.conn(), &by, &before, Some("its owner has left")).await?;
    tx.commit().await?;
    escalating.jobs.wake();
    Ok(true)
}

/// Gives one to a member, whoever has it.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Ended`], [`Error::NoMember`].
pub async fn reassign(
    escalating: &Escalating,
    ctx: &Context,
    id: EscalationId,
    member: MemberId,
    reason: Option<&str>,
) -> Result<Escalation, Error> {
    let found = super::get(escalating, &ctx.agency_scope(), id).await?;
    let (tenant, by) = (found.tenant, By::actor(ctx, escalating.clock.now()));
    let name = escalating.members.serving(tenant, member).await?;
    let name = name.ok_or(Error::NoMember(member))?;
    let mut tx = escalating.database.tenant(tenant).await?;
    sql::lock_member(tx.conn(), member).await?;
    let before = sql::lock(tx.conn(), tenant, id).await?;
    let before = before.ok_or(Error::NotFound)?;
    if matches!(before.state, State::Resolved | State::Expired) {
        return Err(Error::Ended(before.state));
    }
    if before
        .claim
        .as_ref()
        .is_some_and(|claim| claim.member == member)
    {
        return Ok(before);
    }
    if sql::has_departed(tx.conn(), tenant.agency, member).await? {
        return Err(Error::NoMember(member));
    }
    let at = by.now;
    let after = Escalation {
        state: State::Claimed,
        claim: Some(Claim { member, name, at }),
        next_step_at: None,
        fence: before.fence + 1,
        revision: before.revision + 1,
        ..before.clone()
    };
    sql::apply(tx.conn(), &after, by.now).await?;
    let names = (
        "escalation.escalation.reassign",
        "escalation.escalation.reassigned",
    );
    let entry = Happened {
        kind: "reassigned",
        member: Some(member),
        reason,
    };
    note(tx.conn(), &by, names, entry, Some(&before), &after).await?;
    notice::claimed(tx.conn(), &after, member, by.now).await?;
    if let Some(claim) = &before.claim {
        notice::tell(tx.conn(), &after, claim.member, notice::Kind::Taken, by.now).await?;
    }
    tx.commit().await?;
    escalating.jobs.wake();
    Ok(after)
}

/// Says that one is done with. One that is resolved stays as it was.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Claimed`], [`Error::Ended`].
pub async fn resolve(
    escalating: &Escalating,
    ctx: &Context,
    id: EscalationId,
    resolution: Option<String>,
) -> Result<Escalation, Error> {
    let found = super::get(escalating, &ctx.agency_scope(), id).await?;
    let (tenant, by) = (found.tenant, By::actor(ctx, escalating.clock.now()));
    let mut tx = escalating.database.tenant(tenant).await?;
    let before = sql::lock(tx.conn(), tenant, id).await?;
    let before = before.ok_or(Error::NotFound)?;
    match before.state {
        State::Resolved => return Ok(before),
        State::Expired => return Err(Error::Ended(State::Expired)),
        State::Pending | State::Claimed => {}
    }
    if let Some(claim) = &before.claim
        && !Asker::of(ctx, tenant).may_end(claim)
    {
        return Err(Error::Claimed(claim.clone()));
    }
    let after = end(tx.conn(), &by, &before, resolution).await?;
    tx.commit().await?;
    Ok(after)
}

async fn end(
    conn: &mut PgConnection,
    by: &By,
    before: &Escalation,
    resolution: Option<String>,
) -> mainstay_db::Result<Escalation> {
    let after = Escalation {
        state: State::Resolved,
        next_step_at: None,
        resolution,
        ended_at: Some(by.now),
        revision: before.revision + 1,
        ..before.clone()
    };
    sql::apply(conn, &after, by.now).await?;
    let names = (
        "escalation.escalation.resolve",
        "escalation.escalation.resolved",
    );
    let entry = Happened {
        kind: "resolved",
        member: None,
        reason: after.resolution.as_deref(),
    };
    note(conn, by, names, entry, Some(before), &after).await?;
    Ok(after)
}

/// Ends all that is open with a client that has left: nobody is called for it any more.
pub(crate) async fn end_of_client(
    conn: &mut PgConnection,
    by: &By,
    tenant: Tenant,
) -> mainstay_db::Result<()> {
    for id in sql::all_open(conn, tenant).await? {
        let open = sql::lock(conn, tenant, id).await?;
        if let Some(before) = open.filter(|found| found.ended_at.is_none()) {
            let resolution = Some("the client has left".to_owned());
            end(conn, by, &before, resolution).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(member: Option<MemberId>, assigns: bool) -> Asker {
        Asker { member, assigns }
    }

    #[test]
    fn everybody_takes_for_themselves_and_only_some_for_others() {
        let (own, other) = (MemberId::generate(), MemberId::generate());
        let takes = |asker: Asker, named| asker.takes_for(named).ok();
        assert_eq!(takes(asker(Some(own), false), None), Some(own));
        assert_eq!(takes(asker(Some(own), false), Some(own)), Some(own));
        assert_eq!(takes(asker(Some(own), false), Some(other)), None);
        assert_eq!(takes(asker(Some(own), true), Some(other)), Some(other));
        assert_eq!(takes(asker(None, false), None), None, "a key has no self");
        assert_eq!(takes(asker(None, false), Some(other)), Some(other));
    }
}
