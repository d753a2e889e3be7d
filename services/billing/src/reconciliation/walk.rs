//! The walk of a run: Stripe's lists page by page, then our rows that were not met there, then what is open from before.
//! Each page is a job of its own; where the next one starts is written with what this one did.
//!
//! ```text
//! subscriptions → duplicates → customers → invoices → our_subscriptions → our_accounts → recheck
//! ```
//! Deliberately absent: what has ended at Stripe. Its list of live subscriptions is walked, and each of our live rows that
//! is not on it is asked for by itself; years of ended ones would be read for nothing.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use mainstay_db::Worker;
use mainstay_providers::stripe::StripeFailure;
use mainstay_runtime::clock::Clock;
use mainstay_types::{
    AgencyId, AgencyScope, ClientId, DiscrepancyId, SubscriptionId, Tenant, Visible,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::{Interval, MissedTickBehavior};

use super::discrepancy;
use super::ours::Owners;
use super::theirs::{Customer, Theirs};
use super::{Kind, Run, Tally, WalkError, sql};
use crate::stripe::StripeGateway;
use crate::stripe_events::Intake;

/// Stripe takes a hundred calls a second in all; this leaves most of them to those who wait for an answer.
const BETWEEN_CALLS: Duration = Duration::from_millis(50);
/// Rows of ours a page. Each may cost a call.
const ROWS: i64 = 50;
/// How often a list is begun again because the object it stopped at was deleted.
const MOST_RESTARTS: u8 = 3;
/// How far back invoices are compared: a month, and time for a run to have failed.
const INVOICES: TimeDelta = TimeDelta::days(35);

/// What runs are walked with. Clones keep one pace.
#[derive(Debug, Clone)]
pub struct Walker {
    pub(super) worker: Worker,
    pub(super) stripe: StripeGateway,
    /// The door of events, which repairs go through.
    pub(super) intake: Intake,
    pub(super) clock: Clock,
    pace: Arc<Mutex<Interval>>,
}

impl Walker {
    /// Over the same parts as events are taken with.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(intake: Intake) -> Self {
        let mut pace = tokio::time::interval(BETWEEN_CALLS);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            worker: intake.database.worker(),
            stripe: intake.stripe.clone(),
            clock: intake.clock.clone(),
            intake,
            pace: Arc::new(Mutex::new(pace)),
        }
    }

    /// The platform's time.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Stripe, when it is this walker's turn.
    pub(super) async fn stripe(&self) -> &StripeGateway {
        self.pace.lock().await.tick().await;
        &self.stripe
    }
}

/// A place in a list of Stripe's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    #[serde(default)]
    after: Option<String>,
    #[serde(default)]
    restarts: u8,
}

/// Where a page starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub(crate) enum Position {
    /// Stripe's live subscriptions.
    Subscriptions(Place),
    /// Clients of whom two were met.
    Duplicates { after: Option<ClientId> },
    /// Stripe's customers.
    Customers(Place),
    /// What was paid lately.
    Invoices(Place),
    /// Our live subscriptions that were not met.
    OurSubscriptions {
        agency: Option<AgencyId>,
        after: Option<SubscriptionId>,
    },
    /// Our accounts whose customer was not met.
    OurAccounts {
        agency: Option<AgencyId>,
        after: Option<ClientId>,
    },
    /// What earlier runs left open, and repairs that were begun.
    Recheck { after: Option<DiscrepancyId> },
}

impl Position {
    pub(crate) fn first() -> Self {
        Position::Subscriptions(Place::default())
    }

    pub(crate) fn to_json(&self) -> Value {
        serde_json::to_value(self).expect("a position is plain data")
    }
}

/// A page being done.
pub(super) struct Walk<'a> {
    pub with: &'a Walker,
    pub run: &'a Run,
    pub tally: Tally,
}

/// Does the page at which the run stands; gives what it adds, and where the next one starts.
pub(crate) async fn step(with: &Walker, run: &Run) -> Result<(Tally, Option<Position>), WalkError> {
    let position = Position::deserialize(&run.position).map_err(WalkError::Position)?;
    let mut walk = Walk {
        with,
        run,
        tally: Tally::default(),
    };
    let next = match position {
        Position::Subscriptions(place) => {
            let next = walk.subscriptions(&place).await?;
            Some(next.map_or(
                Position::Duplicates { after: None },
                Position::Subscriptions,
            ))
        }
        Position::Duplicates { after } => {
            let after = walk.duplicates(after).await?;
            Some(match after {
                Some(after) => Position::Duplicates { after: Some(after) },
                None => Position::Customers(Place::default()),
            })
        }
        Position::Customers(place) => {
            let next = walk.customers(&place).await?;
            Some(next.map_or(Position::Invoices(Place::default()), Position::Customers))
        }
        Position::Invoices(place) => {
            let next = walk.invoices(&place).await?;
            let ours = Position::OurSubscriptions {
                agency: None,
                after: None,
            };
            Some(next.map_or(ours, Position::Invoices))
        }
        Position::OurSubscriptions { agency, after } => {
            Some(walk.our_subscriptions(agency, after).await?)
        }
        Position::OurAccounts { agency, after } => Some(walk.our_accounts(agency, after).await?),
        Position::Recheck { after } => walk
            .recheck(after)
            .await?
            .map(|after| Position::Recheck { after: Some(after) }),
    };
    Ok((walk.tally, next))
}

impl Walk<'_> {
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.with.clock.now()
    }

    /// Whether the run looks at this client. Others' objects are neither counted nor told.
    pub(super) fn covers(&self, tenant: Tenant) -> bool {
        self.run.agency.is_none_or(|agency| agency == tenant.agency)
    }

    /// A page of a list, and where the next one starts.
    async fn listing(
        &self,
        path: &str,
        filters: &[(&str, &str)],
        place: &Place,
    ) -> Result<(Vec<Value>, Option<Place>), WalkError> {
        let stripe = self.with.stripe().await;
        match stripe.page(path, filters, place.after.as_deref()).await {
            Ok(listing) => {
                let next = listing.next().map(|after| Place {
                    after: Some(after),
                    restarts: place.restarts,
                });
                Ok((listing.data, next))
            }
            // The object that the page before ended with is gone; nobody says where it stood. Done twice does no harm.
            Err(StripeFailure::Refused { code, .. })
                if place.after.is_some() && code.as_deref() == Some("resource_missing") =>
            {
                if place.restarts == MOST_RESTARTS {
                    return Err(WalkError::Lost);
                }
                let again = Place {
                    after: None,
                    restarts: place.restarts + 1,
                };
                Ok((Vec::new(), Some(again)))
            }
            Err(failure) => Err(failure.into()),
        }
    }

    async fn subscriptions(&mut self, place: &Place) -> Result<Option<Place>, WalkError> {
        let (page, next) = self.listing("/subscriptions", &[], place).await?;
        let page: Vec<Theirs> = page.iter().map(Theirs::read).collect::<Result<_, _>>()?;
        let owners = self.owners_of(&page).await?;
        for theirs in &page {
            let owner = owners.of(&theirs.id, theirs.customer.as_deref(), theirs.named);
            self.subscription(theirs, owner).await?;
        }
        Ok(next)
    }

    async fn owners_of(&self, page: &[Theirs]) -> Result<Owners, WalkError> {
        let objects = page
            .iter()
            .flat_map(|theirs| {
                std::iter::once(theirs.id.as_str()).chain(theirs.customer.as_deref())
            })
            .collect();
        let sagas = page.iter().filter_map(|theirs| theirs.named.saga).collect();
        let mut worker = self.with.worker.connection().await?;
        Ok(Owners::load(worker.conn(), objects, sagas).await?)
    }

    async fn duplicates(&mut self, after: Option<ClientId>) -> Result<Option<ClientId>, WalkError> {
        let mut worker = self.with.worker.connection().await?;
        let doubled = sql::list_doubled(worker.conn(), self.run.id, after, ROWS).await?;
        drop(worker);
        let last = doubled.last().map(|(tenant, _)| tenant.client);
        for (tenant, ids) in &doubled {
            self.doubled(*tenant, ids).await?;
        }
        Ok(last.filter(|_| is_full(&doubled)))
    }

    async fn customers(&mut self, place: &Place) -> Result<Option<Place>, WalkError> {
        let (page, next) = self.listing("/customers", &[], place).await?;
        let page: Vec<Customer> = page.iter().map(Customer::read).collect::<Result<_, _>>()?;
        let objects = page.iter().map(|customer| customer.id.as_str()).collect();
        let sagas = page
            .iter()
            .filter_map(|customer| customer.named.saga)
            .collect();
        let mut worker = self.with.worker.connection().await?;
        let owners = Owners::load(worker.conn(), objects, sagas).await?;
        drop(worker);
        for customer in &page {
            let owner = owners.of(&customer.id, None, customer.named);
            self.customer(customer, owner).await?;
        }
        Ok(next)
    }

    async fn invoices(&mut self, place: &Place) -> Result<Option<Place>, WalkError> {
        let since = (self.run.created_at - INVOICES).timestamp().to_string();
        let filters = [("status", "paid"), ("created[gte]", since.as_str())];
        let (page, next) = self.listing("/invoices", &filters, place).await?;
        let page = page
            .iter()
            .map(super::theirs::read)
            .collect::<Result<Vec<_>, _>>()?;
        self.paid_invoices(&page).await?;
        Ok(next)
    }

    /// The agency whose rows come first, or next.
    async fn agency_after(&self, after: Option<AgencyId>) -> Result<Option<AgencyId>, WalkError> {
        match (self.run.agency, after) {
            (Some(own), None) => Ok(Some(own)),
            (Some(_), Some(_)) => Ok(None),
            (None, after) => {
                let mut worker = self.with.worker.connection().await?;
                Ok(sql::next_agency(worker.conn(), after).await?)
            }
        }
    }

    async fn our_subscriptions(
        &mut self,
        agency: Option<AgencyId>,
        after: Option<SubscriptionId>,
    ) -> Result<Position, WalkError> {
        let accounts = Position::OurAccounts {
            agency: None,
            after: None,
        };
        let current = match agency {
            Some(agency) => Some(agency),
            None => self.agency_after(None).await?,
        };
        let Some(current) = current else {
            return Ok(accounts);
        };
        let mut tx = self.with.worker.agency(&whole(current)).await?;
        let run = self.run.id;
        let unmet = sql::list_unmet_subscriptions(tx.conn(), current, run, after, ROWS).await?;
        drop(tx);
        for row in &unmet {
            let tenant = Tenant {
                agency: current,
                client: row.client,
            };
            self.tally.objects += 1;
            self.confirm(tenant, Some(row.id), &row.stripe_id).await?;
        }
        if let Some(last) = unmet.last().filter(|_| is_full(&unmet)) {
            return Ok(Position::OurSubscriptions {
                agency: Some(current),
                after: Some(last.id),
            });
        }
        Ok(match self.agency_after(Some(current)).await? {
            Some(next) => Position::OurSubscriptions {
                agency: Some(next),
                after: None,
            },
            None => accounts,
        })
    }

    async fn our_accounts(
        &mut self,
        agency: Option<AgencyId>,
        after: Option<ClientId>,
    ) -> Result<Position, WalkError> {
        let recheck = Position::Recheck { after: None };
        let current = match agency {
            Some(agency) => Some(agency),
            None => self.agency_after(None).await?,
        };
        let Some(current) = current else {
            return Ok(recheck);
        };
        let mut tx = self.with.worker.agency(&whole(current)).await?;
        let run = self.run.id;
        let unmet = sql::list_unmet_accounts(tx.conn(), current, run, after, ROWS).await?;
        drop(tx);
        for row in &unmet {
            let tenant = Tenant {
                agency: current,
                client: row.client,
            };
            self.tally.objects += 1;
            self.account(tenant, &row.stripe_id).await?;
        }
        if let Some(last) = unmet.last().filter(|_| is_full(&unmet)) {
            return Ok(Position::OurAccounts {
                agency: Some(current),
                after: Some(last.id),
            });
        }
        Ok(match self.agency_after(Some(current)).await? {
            Some(next) => Position::OurAccounts {
                agency: Some(next),
                after: None,
            },
            None => recheck,
        })
    }

    /// What is open and was not met by this run: looked at by itself, and settled where it is gone.
    async fn recheck(
        &mut self,
        after: Option<DiscrepancyId>,
    ) -> Result<Option<DiscrepancyId>, WalkError> {
        if self.run.dry_run {
            return Ok(None);
        }
        let mut worker = self.with.worker.connection().await?;
        let (agency, run) = (self.run.agency, self.run.id);
        let open = discrepancy::list_unmet(worker.conn(), agency, run, after, ROWS).await?;
        drop(worker);
        for row in &open {
            let tenant = match (row.agency_id, row.tenant_id) {
                (Some(agency), Some(client)) => Some(Tenant { agency, client }),
                _ => None,
            };
            let kind = Kind::from_text(&row.kind);
            match (tenant, kind) {
                (
                    Some(tenant),
                    Kind::SubscriptionUnknown
                    | Kind::SubscriptionOrphaned
                    | Kind::SubscriptionEndedHere
                    | Kind::SubscriptionGone
                    | Kind::SubscriptionDiffers
                    | Kind::SubscriptionPriceDiffers,
                ) => {
                    self.confirm(tenant, row.subscription_id, &row.subject)
                        .await?;
                }
                // One with an id of ours was met as two of a client; one with Stripe's names a row that lives elsewhere.
                (Some(tenant), Kind::SubscriptionDuplicated) if row.stripe_id.is_some() => {
                    self.confirm(tenant, row.subscription_id, &row.subject)
                        .await?;
                }
                (Some(tenant), Kind::SubscriptionDuplicated) => {
                    if !self.ours(tenant, None).await?.in_flight {
                        self.settle(&row.subject, &[]).await?;
                    }
                }
                (Some(tenant), Kind::CustomerUnknown | Kind::CustomerGone) => {
                    self.account(tenant, &row.subject).await?;
                }
                (
                    Some(_),
                    Kind::InvoiceMissing | Kind::InvoiceAmountDiffers | Kind::PaymentKept,
                ) => {
                    self.recheck_invoice(&row.subject).await?;
                }
                // Nobody's: this run walked all there are, and did not meet it.
                (_, Kind::Foreign) | (None, _) => self.settle(&row.subject, &[]).await?,
            }
        }
        Ok(open.last().filter(|_| is_full(&open)).map(|row| row.id))
    }
}

fn whole(agency: AgencyId) -> AgencyScope {
    AgencyScope {
        agency,
        visible: Visible::All,
    }
}

/// Whether another page may follow.
fn is_full<T>(rows: &[T]) -> bool {
    rows.len() == usize::try_from(ROWS).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written() {
        let positions = [
            Position::first(),
            Position::Customers(Place {
                after: Some("cus_1".into()),
                restarts: 2,
            }),
            Position::OurAccounts {
                agency: Some(AgencyId::generate()),
                after: None,
            },
            Position::Recheck { after: None },
        ];
        for position in positions {
            let written = position.to_json();
            assert_eq!(
                Position::deserialize(&written).expect("readable"),
                position,
                "{written}"
            );
        }
    }
}
