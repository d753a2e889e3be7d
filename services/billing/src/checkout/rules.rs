//! What the metadata of a checkout session orders.
//! Deliberately absent: prices. What a plan costs is the plan's to say.

use std::collections::HashMap;

use super::Order;

const KIND: &str = "mainstay_kind";
const NEW_CLIENT: &str = "new_client";
const AGENCY: &str = "mainstay_agency_id";
const CLIENT: &str = "mainstay_client_id";
const PLAN: &str = "mainstay_plan_id";
const CURRENCY: &str = "mainstay_currency";
const INTERVAL: &str = "mainstay_interval";

/// What a session is to us.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ordered {
    /// A plan, for a client or for somebody who becomes one.
    Plan(Order),
    /// Nothing that ends with a subscription of ours.
    Nothing,
    /// It says that it is ours, and cannot be read: every fault.
    Unreadable(Vec<String>),
}

pub(crate) fn order(metadata: &HashMap<String, String>) -> Ordered {
    let text = |name: &str| metadata.get(name).map(String::as_str);
    let is_new = text(KIND) == Some(NEW_CLIENT);
    if !is_new && (text(CLIENT).is_none() || text(PLAN).is_none()) {
        return Ordered::Nothing;
    }
    let mut faults = Vec::new();
    let mut fault = |name: &str, what: String| faults.push(format!("{name} {what}"));
    macro_rules! read {
        ($name:expr) => {
            match text($name) {
                None => {
                    fault($name, "is missing".to_owned());
                    None
                }
                Some(given) => match given.parse() {
                    Ok(read) => Some(read),
                    Err(error) => {
                        fault($name, format!("{error}"));
                        None
                    }
                },
            }
        };
    }
    let client = match is_new {
        true => None,
        false => read!(CLIENT),
    };
    let (agency, plan) = (read!(AGENCY), read!(PLAN));
    let (currency, interval) = (read!(CURRENCY), read!(INTERVAL));
    match (agency, plan, currency, interval) {
        (Some(agency), Some(plan), Some(currency), Some(interval)) if faults.is_empty() => {
            Ordered::Plan(Order {
                agency,
                client,
                plan,
                currency,
                interval,
            })
        }
        _ => Ordered::Unreadable(faults),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_types::{AgencyId, ClientId, PlanId};

    fn metadata(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        let owned = pairs
            .iter()
            .map(|(name, text)| ((*name).into(), (*text).into()));
        owned.collect()
    }

    #[test]
    fn a_session_says_whom_it_is_for_and_what_it_ordered() {
        let (agency, plan) = (
            AgencyId::generate().to_string(),
            PlanId::generate().to_string(),
        );
        let client = ClientId::generate();
        let named = client.to_string();
        let mut pairs = vec![
            (AGENCY, agency.as_str()),
            (PLAN, plan.as_str()),
            (CURRENCY, "usd"),
            (INTERVAL, "month"),
        ];
        assert_eq!(order(&metadata(&pairs)), Ordered::Nothing, "for nobody");
        pairs.push((KIND, NEW_CLIENT));
        let Ordered::Plan(new) = order(&metadata(&pairs)) else {
            panic!("a plan is ordered");
        };
        assert_eq!((new.client, new.plan.to_string()), (None, plan.clone()));
        pairs.pop();
        pairs.push((CLIENT, &named));
        let Ordered::Plan(existing) = order(&metadata(&pairs)) else {
            panic!("a plan is ordered");
        };
        assert_eq!(existing.client, Some(client));
        assert_eq!(order(&HashMap::new()), Ordered::Nothing);
    }

    #[test]
    fn every_fault_of_a_session_is_named() {
        let broken = metadata(&[(KIND, NEW_CLIENT), (PLAN, "cli_1"), (CURRENCY, "usd")]);
        let Ordered::Unreadable(faults) = order(&broken) else {
            panic!("unreadable");
        };
        assert_eq!(faults.len(), 3, "{faults:?}");
    }
}
