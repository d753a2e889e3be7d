//! What a plan grants, in the shape that services keep it in, read from and written to the message they exchange.
//! Deliberately absent: what a limit means for any one kind of use. Whoever does the work asks and counts.

use std::collections::BTreeMap;

use mainstay_proto::common::v1 as proto;
use serde::{Deserialize, Serialize};

use crate::problem::Violations;

/// What happens past a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Beyond {
    /// Further use is refused.
    Block,
    /// Further use is billed by the block.
    Overage,
    /// There is no limit.
    Unlimited,
}

/// One limit, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Units a period.
    pub included: Option<i64>,
    /// What happens past them.
    pub beyond: Beyond,
    /// Units a block of overage has.
    pub block_size: Option<i64>,
    /// Price of a block, in minor units.
    pub price_amount_minor: Option<i64>,
    /// Its currency.
    pub price_currency: Option<String>,
}

/// Limits by name.
pub type Limits = BTreeMap<String, Limit>;

/// The features given, each once and in order.
pub fn features(mut given: Vec<String>) -> Vec<String> {
    given.sort_unstable();
    given.dedup();
    given
}

/// The limits given; one that does not say what happens beyond it is noted as a fault.
pub fn limits(given: BTreeMap<String, proto::Limit>, faults: &mut Violations) -> Limits {
    let mut limits = Limits::new();
    for (name, given) in given {
        match limit(given) {
            Some(limit) => {
                limits.insert(name, limit);
            }
            None => faults.add(
                format!("entitlements.limits.{name}.beyond"),
                "must say what happens beyond the limit",
            ),
        }
    }
    limits
}

/// The limits as answers have them.
pub fn limits_answer(limits: Limits) -> BTreeMap<String, proto::Limit> {
    limits
        .into_iter()
        .map(|(name, limit)| (name, limit_answer(limit)))
        .collect()
}

fn limit(given: proto::Limit) -> Option<Limit> {
    let beyond = match given.beyond() {
        proto::Beyond::Unspecified => return None,
        proto::Beyond::Block => Beyond::Block,
        proto::Beyond::Overage => Beyond::Overage,
        proto::Beyond::Unlimited => Beyond::Unlimited,
    };
    let (price_amount_minor, price_currency) = given
        .price
        .map_or((None, None), |price| (price.amount_minor, price.currency));
    Some(Limit {
        included: given.included,
        beyond,
        block_size: given.block_size,
        price_amount_minor,
        price_currency,
    })
}

fn limit_answer(limit: Limit) -> proto::Limit {
    let beyond = match limit.beyond {
        Beyond::Block => proto::Beyond::Block,
        Beyond::Overage => proto::Beyond::Overage,
        Beyond::Unlimited => proto::Beyond::Unlimited,
    };
    let price = limit.price_currency.map(|currency| proto::Money {
        amount_minor: limit.price_amount_minor,
        currency: Some(currency),
    });
    proto::Limit {
        included: limit.included,
        beyond: Some(beyond.into()),
        block_size: limit.block_size,
        price,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_come_back_as_they_were_given_and_a_silent_one_is_a_fault() {
        let overage = proto::Limit {
            included: Some(1000),
            beyond: Some(proto::Beyond::Overage.into()),
            block_size: Some(100),
            price: Some(proto::Money {
                amount_minor: Some(200),
                currency: Some("usd".into()),
            }),
        };
        let given = BTreeMap::from([("messages".to_owned(), overage)]);
        let mut faults = Violations::new();
        assert_eq!(limits_answer(limits(given.clone(), &mut faults)), given);
        assert!(faults.is_empty());
        let silent = BTreeMap::from([("messages".to_owned(), proto::Limit::default())]);
        assert!(limits(silent, &mut faults).is_empty());
        let problem = faults.finish().expect_err("a fault");
        assert_eq!(
            problem.errors()[0].field,
            "entitlements.limits.messages.beyond"
        );
    }
}
