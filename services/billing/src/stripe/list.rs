//! Reading Stripe's lists page by page, for reconciliation: one function a question, at most one page an answer.
//! Deliberately absent: walking. Whoever walks keeps the place where the next page starts, and sets the pace.

use serde::Deserialize;
use serde_json::Value;

use super::{Result, StripeGateway};

/// Objects a page; the most that Stripe gives.
const PAGE: &str = "100";
/// Refunds of one payment are few.
const MOST_REFUNDS: usize = 1_000;

/// One page of a list, newest first.
#[derive(Debug, Deserialize)]
pub(crate) struct Listing {
    /// The objects, as Stripe writes them.
    pub data: Vec<Value>,
    /// Whether another page follows.
    #[serde(default)]
    pub has_more: bool,
}

impl Listing {
    /// Where the next page starts, if there is one.
    pub(crate) fn next(&self) -> Option<String> {
        let last = self.data.last().filter(|_| self.has_more)?;
        last.get("id")?.as_str().map(str::to_owned)
    }
}

#[derive(Deserialize)]
struct Refund {
    #[serde(default)]
    amount: i64,
    #[serde(default)]
    status: Option<String>,
}

impl StripeGateway {
    /// A page of the objects at `path`, after this one.
    pub(crate) async fn page(
        &self,
        path: &str,
        filters: &[(&str, &str)],
        after: Option<&str>,
    ) -> Result<Listing> {
        let mut query = filters.to_vec();
        query.push(("limit", PAGE));
        if let Some(after) = after {
            query.push(("starting_after", after));
        }
        self.api.get(path, &query).await
    }

    /// An object as Stripe writes it; none when there is no such object.
    pub(crate) async fn find_object(&self, path: &str, id: &str) -> Result<Option<Value>> {
        match self.api.get(&format!("{path}/{id}"), &[]).await {
            Ok(object) => Ok(Some(object)),
            Err(failure) if failure.is_missing() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// What was given back of a payment. A refund that failed or was canceled gave nothing.
    pub(crate) async fn refunded(&self, payment_intent: &str) -> Result<i64> {
        let query = [("payment_intent", payment_intent)];
        let (refunds, _): (Vec<Refund>, _) =
            self.api.list_all("/refunds", &query, MOST_REFUNDS).await?;
        let given = refunds
            .iter()
            .filter(|refund| !matches!(refund.status.as_deref(), Some("failed" | "canceled")));
        Ok(given.map(|refund| refund.amount).sum())
    }
}
