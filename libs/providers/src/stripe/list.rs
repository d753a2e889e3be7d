//! Lists, page by page, as Stripe pages them: `starting_after` the last id, until `has_more` is false.
//!
//! Deliberately absent: lists without a bound.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use stripe_client_core::StripeClientErr;

use super::{StripeApi, StripeFailure};

#[derive(Deserialize)]
struct Page {
    data: Vec<Value>,
    #[serde(default)]
    has_more: bool,
}

impl StripeApi {
    /// Every object of a list, at most `most`; the flag says whether there are more.
    ///
    /// # Errors
    /// As [`get`](Self::get), for whichever page failed.
    pub async fn list_all<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        most: usize,
    ) -> Result<(Vec<T>, bool), StripeFailure> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let mut query = query.to_vec();
            query.push(("limit", "100"));
            if let Some(after) = &after {
                query.push(("starting_after", after));
            }
            let page: Page = self.get(path, &query).await?;
            after = page
                .data
                .last()
                .and_then(|last| last.get("id")?.as_str().map(str::to_owned));
            for item in page.data {
                if all.len() == most {
                    return Ok((all, true));
                }
                all.push(serde_json::from_value(item).map_err(StripeFailure::deserialize_err)?);
            }
            if !page.has_more {
                return Ok((all, false));
            }
            if after.is_none() {
                // More, and nothing to go on from: better told than repeated for ever.
                return Ok((all, true));
            }
        }
    }
}
