//! What a plan may say, and what an edit makes of it.
//! Deliberately absent: anything that asks the database; whether a version was sold is told.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use mainstay_types::{Interval, Money};

use super::{Edit, Limit, Plan, PlanError, PlanState, Price, Terms};

/// A limit as a request has it, before it is known to be whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LimitInput {
    pub included: Option<i64>,
    pub beyond: Option<BeyondInput>,
    pub block_size: Option<i64>,
    pub price: Option<Money>,
    /// A price was given, be it readable or not.
    pub price_given: bool,
}

/// What is to happen past a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BeyondInput {
    Block,
    Overage,
    Unlimited,
}

/// A field of a limit and what is wrong with it.
pub(crate) type Fault = (&'static str, &'static str);

/// Reads a limit; all its faults at once. Nothing is implied: what a kind of limit needs must be there, what it has no
/// use for must not.
pub(crate) fn limit(input: LimitInput) -> Result<Limit, Vec<Fault>> {
    let Some(beyond) = input.beyond else {
        return Err(vec![(
            "beyond",
            "is required: `block`, `overage` or `unlimited`",
        )]);
    };
    let mut faults = Vec::new();
    let metered = beyond != BeyondInput::Unlimited;
    if metered && input.included.is_none() {
        faults.push(("included", "is required unless `beyond` is `unlimited`"));
    }
    if !metered && input.included.is_some() {
        faults.push(("included", "has no meaning when `beyond` is `unlimited`"));
    }
    let billed = beyond == BeyondInput::Overage;
    if billed && input.block_size.is_none() {
        faults.push(("block_size", "is required when `beyond` is `overage`"));
    }
    if !billed && input.block_size.is_some() {
        faults.push((
            "block_size",
            "has a meaning only when `beyond` is `overage`",
        ));
    }
    if billed && !input.price_given {
        faults.push(("price", "is required when `beyond` is `overage`"));
    }
    if !billed && input.price_given {
        faults.push(("price", "has a meaning only when `beyond` is `overage`"));
    }
    let whole = match beyond {
        BeyondInput::Unlimited => Some(Limit::Unlimited),
        BeyondInput::Block => input.included.map(|included| Limit::Block { included }),
        BeyondInput::Overage => match (input.included, input.block_size, input.price) {
            (Some(included), Some(block_size), Some(price)) => Some(Limit::Overage {
                included,
                block_size,
                price,
            }),
            _ => None,
        },
    };
    match whole {
        Some(limit) if faults.is_empty() => Ok(limit),
        _ => Err(faults),
    }
}

/// The places of prices that repeat the currency and interval of an earlier one.
pub(crate) fn repeated_prices(prices: &[(usize, Price)]) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    let repeats = prices
        .iter()
        .filter(|(_, price)| !seen.insert((price.currency, price.interval)));
    repeats.map(|(place, _)| *place).collect()
}

/// What the edit makes of the plan's latest version. A version that was sold stays as it is and the result is its
/// successor; one that was not is replaced. An edit that changes nothing gives the plan unchanged.
pub(crate) fn edit(plan: &Plan, edit: &Edit, now: DateTime<Utc>) -> Result<Plan, PlanError> {
    if edit.revision.is_some_and(|read| read != plan.revision) {
        return Err(PlanError::Stale);
    }
    if plan.state == PlanState::Archived {
        return Err(PlanError::Archived);
    }
    let old = &plan.terms;
    let terms = Terms {
        name: edit.name.clone().unwrap_or_else(|| old.name.clone()),
        prices: edit.prices.clone().unwrap_or_else(|| old.prices.clone()),
        trial_days: edit.trial_days.unwrap_or(old.trial_days),
        grants: edit.grants.clone().unwrap_or_else(|| old.grants.clone()),
    };
    if terms == plan.terms {
        return Ok(plan.clone());
    }
    Ok(Plan {
        version: plan.version + i32::from(plan.sold),
        sold: false,
        revision: plan.revision + 1,
        terms,
        version_created_at: now,
        ..plan.clone()
    })
}

/// The price for a currency and interval, if the plan has it. Never converted.
pub(crate) fn price(
    terms: &Terms,
    currency: mainstay_types::Currency,
    interval: Interval,
) -> Option<Price> {
    let mut prices = terms.prices.iter();
    prices
        .find(|price| price.currency == currency && price.interval == interval)
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Grants;
    use mainstay_types::{Currency, PlanId};

    fn plan(sold: bool) -> Plan {
        Plan {
            id: PlanId::generate(),
            state: PlanState::Active,
            revision: 4,
            version: 2,
            sold,
            terms: Terms {
                name: "Pro".into(),
                prices: vec![Price {
                    currency: Currency::USD,
                    interval: Interval::Month,
                    amount_minor: 99_700,
                }],
                trial_days: 0,
                grants: Grants::default(),
            },
            created_at: DateTime::UNIX_EPOCH,
            version_created_at: DateTime::UNIX_EPOCH,
        }
    }

    fn renamed() -> Edit {
        Edit {
            name: Some("Pro+".into()),
            ..Edit::default()
        }
    }

    #[test]
    fn editing_a_sold_version_makes_its_successor() {
        let after = edit(&plan(true), &renamed(), DateTime::UNIX_EPOCH).expect("editable");
        assert_eq!((after.version, after.sold, after.revision), (3, false, 5));
        assert_eq!(after.terms.name, "Pro+");
    }

    #[test]
    fn editing_a_version_nobody_bought_replaces_it() {
        let after = edit(&plan(false), &renamed(), DateTime::UNIX_EPOCH).expect("editable");
        assert_eq!((after.version, after.revision), (2, 5));
    }

    #[test]
    fn an_edit_that_says_the_same_changes_nothing() {
        let same = Edit {
            name: Some("Pro".into()),
            ..Edit::default()
        };
        let before = plan(true);
        assert_eq!(
            edit(&before, &same, DateTime::UNIX_EPOCH).expect("editable"),
            before
        );
    }

    #[test]
    fn a_stale_or_archived_plan_is_not_edited() {
        let stale = Edit {
            revision: Some(3),
            ..renamed()
        };
        let result = edit(&plan(false), &stale, DateTime::UNIX_EPOCH);
        assert!(matches!(result, Err(PlanError::Stale)));
        let archived = Plan {
            state: PlanState::Archived,
            ..plan(false)
        };
        let result = edit(&archived, &renamed(), DateTime::UNIX_EPOCH);
        assert!(matches!(result, Err(PlanError::Archived)));
    }

    #[test]
    fn a_limit_says_what_happens_beyond_it_and_nothing_is_implied() {
        let price = Some(Money::new(200, Currency::USD));
        let input = LimitInput::default();
        let block = LimitInput {
            beyond: Some(BeyondInput::Block),
            ..input
        };
        let overage = LimitInput {
            beyond: Some(BeyondInput::Overage),
            ..input
        };
        let unlimited = LimitInput {
            beyond: Some(BeyondInput::Unlimited),
            ..input
        };
        let fields = |input| -> Vec<&str> {
            let faults = limit(input).expect_err("faulty");
            faults.into_iter().map(|(field, _)| field).collect()
        };
        assert_eq!(fields(input), ["beyond"]);
        assert_eq!(fields(block), ["included"]);
        assert_eq!(fields(overage), ["included", "block_size", "price"]);
        let unlimited_but = LimitInput {
            included: Some(5),
            block_size: Some(1),
            price,
            price_given: true,
            ..unlimited
        };
        assert_eq!(fields(unlimited_but), ["included", "block_size", "price"]);
        let block_but = LimitInput {
            included: Some(5),
            price_given: true,
            ..block
        };
        assert_eq!(fields(block_but), ["price"]);
        assert_eq!(limit(unlimited), Ok(Limit::Unlimited));
        let whole = LimitInput {
            included: Some(500),
            block_size: Some(100),
            price,
            price_given: true,
            ..overage
        };
        assert!(matches!(
            limit(whole),
            Ok(Limit::Overage {
                included: 500,
                block_size: 100,
                ..
            })
        ));
    }

    #[test]
    fn one_price_a_currency_and_interval() {
        let price = |interval| Price {
            currency: Currency::USD,
            interval,
            amount_minor: 1,
        };
        let prices = [
            (0, price(Interval::Month)),
            (1, price(Interval::Year)),
            (2, price(Interval::Month)),
        ];
        assert_eq!(repeated_prices(&prices), [2]);
    }
}
