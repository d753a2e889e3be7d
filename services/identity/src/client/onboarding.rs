//! Clients that begin outside: whoever pays a payment link is a client from then on, exactly once.
//! Deliberately absent: what was paid for. Billing subscribes the client that it is given here.

use mainstay_jobs::record::By;
use mainstay_rpc::Context;
use mainstay_types::{AgencyId, AgencyScope, ClientId};
use sqlx::PgConnection;

use super::{Client, Error, NewClient, note, rules, sql};
use crate::{Identity, agency};

/// How often it begins again when somebody else makes, meanwhile, a client of the same email by another way.
const TRIES: u32 = 3;

/// What a client begins with, unique for ever within its agency: `stripe_checkout/cs_…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(pub String);

/// The client of this origin: the one it began before, the one that has the email, or a new one. Also whether it was
/// made now.
///
/// # Errors
/// [`Error::NoSuchAgency`].
pub async fn ensure(
    identity: &Identity,
    ctx: &Context,
    scope: &AgencyScope,
    origin: &Origin,
    new: &NewClient,
) -> Result<(Client, bool), Error> {
    for _ in 0..TRIES {
        match attempt(identity, ctx, scope, origin, new).await {
            Err(Error::Database(error)) if error.constraint() == Some("client_email_key") => {}
            ended => return ended,
        }
    }
    Err(Error::Contended)
}

async fn attempt(
    identity: &Identity,
    ctx: &Context,
    scope: &AgencyScope,
    origin: &Origin,
    new: &NewClient,
) -> Result<(Client, bool), Error> {
    let agency = scope.agency;
    let by = By::service(ctx, agency, identity.clock.now());
    let mut tx = identity.database.agency(scope).await?;
    // Repeats, which are most calls, wait for nobody.
    if let Some(known) = sql::find_by_origin(tx.conn(), agency, &origin.0).await? {
        let client = begun(tx.conn(), agency, known).await?;
        tx.commit().await?;
        return Ok((client, false));
    }
    // Those that begin at the same moment go one after the other; whoever waited sees what the one before left.
    if !agency::lock(tx.conn(), agency).await? {
        return Err(Error::NoSuchAgency);
    }
    if let Some(known) = sql::find_by_origin(tx.conn(), agency, &origin.0).await? {
        let client = begun(tx.conn(), agency, known).await?;
        tx.commit().await?;
        return Ok((client, false));
    }
    let (client, created) = match sql::find_by_email(tx.conn(), agency, &new.email).await? {
        Some(known) => (paid(tx.conn(), &by, known).await?, false),
        None => {
            let made = sql::insert(tx.conn(), agency, ClientId::generate(), new, by.now).await?;
            note(
                tx.conn(),
                &by,
                "identity.client.onboard",
                "identity.client.created",
                None,
                &made,
            )
            .await?;
            (made, true)
        }
    };
    sql::insert_origin(tx.conn(), agency, &origin.0, client.id, by.now).await?;
    tx.commit().await?;
    Ok((client, created))
}

async fn begun(conn: &mut PgConnection, agency: AgencyId, id: ClientId) -> Result<Client, Error> {
    sql::get(conn, agency, id).await?.ok_or(Error::NotFound)
}

/// A client that stood before and has paid now.
async fn paid(conn: &mut PgConnection, by: &By, id: ClientId) -> Result<Client, Error> {
    let tenant = mainstay_types::Tenant {
        agency: by.agency,
        client: id,
    };
    let before = sql::lock(conn, tenant).await?.ok_or(Error::NotFound)?;
    let Some(after) = rules::after_payment(&before) else {
        return Ok(before);
    };
    let after = sql::apply(conn, by.agency, &after, by.now).await?;
    note(
        conn,
        by,
        "identity.client.onboard",
        "identity.client.updated",
        Some(&before),
        &after,
    )
    .await?;
    Ok(after)
}
