//! Imports: rows of a list become leads, each in a transaction of its own.
//! Deliberately absent: status and consent. A list says nothing that people did, and moves nobody.

use mainstay_jobs::record::By;
use mainstay_rpc::{Context, FieldViolation};
use mainstay_types::{LeadId, MemberId, Tenant};

use super::edit::{insert, is_taken, may_own};
use super::{Act, Edit, Error, IdentityKind, Source, TRIES, lock, rules, sql, write};
use crate::Messaging;

/// A row that can be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Where a lead that it makes came from.
    pub source: Source,
    /// What it says.
    pub edit: Edit,
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A lead was made.
    Created,
    /// A lead was edited.
    Updated,
    /// The lead was there, just so.
    Unchanged,
    /// It cannot be kept.
    Rejected,
}

/// What became of a row, of which lead, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// What.
    pub outcome: Outcome,
    /// The lead, unless it was rejected.
    pub lead: Option<LeadId>,
    /// Why it was.
    pub faults: Vec<FieldViolation>,
}

impl Imported {
    fn kept(outcome: Outcome, lead: LeadId) -> Self {
        Imported {
            outcome,
            lead: Some(lead),
            faults: Vec::new(),
        }
    }

    fn rejected(faults: Vec<FieldViolation>) -> Self {
        Imported {
            outcome: Outcome::Rejected,
            lead: None,
            faults,
        }
    }
}

/// Imports rows in order. A row that cannot be kept holds up no other; when the database fails in the middle, the same
/// import again finds what is done already.
///
/// # Errors
/// Only about the owner, and the database's.
pub async fn import(
    messaging: &Messaging,
    ctx: &Context,
    rows: Vec<Result<Row, Vec<FieldViolation>>>,
    owner: Option<MemberId>,
) -> Result<Vec<Imported>, Error> {
    let tenant = ctx.tenant();
    let by = By::actor(ctx, messaging.clock.now());
    if let Some(owner) = owner {
        may_own(messaging, tenant, owner).await?;
    }
    let mut imported = Vec::with_capacity(rows.len());
    for row in rows {
        imported.push(match row {
            Err(faults) => Imported::rejected(faults),
            Ok(mut row) => {
                row.edit.owner = owner;
                keep(messaging, tenant, &by, row).await?
            }
        });
    }
    Ok(imported)
}

async fn keep(messaging: &Messaging, tenant: Tenant, by: &By, row: Row) -> Result<Imported, Error> {
    for _ in 0..TRIES {
        match attempt(messaging, tenant, by, row.clone()).await {
            // Somebody made, meanwhile, the lead that the row is about: now it is known.
            Err(error) if is_taken(&error) => {}
            Err(Error::Invalid(faults)) => return Ok(Imported::rejected(faults)),
            ended => return ended,
        }
    }
    Err(Error::Contended)
}

async fn attempt(
    messaging: &Messaging,
    tenant: Tenant,
    by: &By,
    mut row: Row,
) -> Result<Imported, Error> {
    let mut tx = messaging.database.tenant(tenant).await?;
    let known = sql::find(tx.conn(), tenant, &row.edit).await?;
    let Some(id) = known.first().map(|known| known.lead) else {
        let lead = insert(tx.conn(), tenant, by, Act::Import, (row.source, row.edit)).await?;
        tx.commit().await?;
        return Ok(Imported::kept(Outcome::Created, lead.id));
    };
    let others: Vec<_> = known.iter().filter(|known| known.lead != id).collect();
    if !others.is_empty() {
        let faults = known.iter().map(|known| elsewhere(&row.edit, known));
        return Ok(Imported::rejected(faults.collect()));
    }
    let lead = lock(tx.conn(), tenant, id).await?;
    if lead.merged_into.is_some() {
        // Between the two statements; it is found elsewhere now.
        return Err(Error::Taken);
    }
    if known.iter().any(|known| known.address.is_none()) {
        // It is known by that name, be it the name of one that was merged into it.
        row.edit.external_id = None;
    } else if let (Some(other), Some(_)) = (&lead.external_id, &row.edit.external_id) {
        let message = format!("{id} has this address and is called {other}");
        return Ok(Imported::rejected(vec![FieldViolation {
            field: "external_id".to_owned(),
            message,
        }]));
    }
    let outcome = match rules::import(&lead, row.edit)? {
        None => Outcome::Unchanged,
        Some(after) => {
            write(tx.conn(), tenant, by, Act::Import, &lead, after).await?;
            Outcome::Updated
        }
    };
    tx.commit().await?;
    Ok(Imported::kept(outcome, id))
}

/// Which lead a field of the row belongs to, when they belong to several.
fn elsewhere(edit: &Edit, known: &sql::Known) -> FieldViolation {
    let field = match &known.address {
        None => "external_id",
        Some(address) => edit
            .addresses
            .iter()
            .find(|(_, given)| given.as_str() == address)
            .map_or("phone", |(kind, _)| field(*kind)),
    };
    FieldViolation {
        field: field.to_owned(),
        message: format!(
            "belongs to {}, and other fields to another lead",
            known.lead
        ),
    }
}

/// The field of a request that holds an address of this kind.
pub(super) const fn field(kind: IdentityKind) -> &'static str {
    match kind {
        IdentityKind::Phone => "phone",
        IdentityKind::Email => "email",
        IdentityKind::Whatsapp => "whatsapp",
    }
}
