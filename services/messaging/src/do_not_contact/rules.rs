//! Decisions about the lists. Pure.
//! Deliberately absent: whether a reason is a good one. Whoever asks to be left alone needs none.

use mainstay_jobs::record::By;
use serde_json::{Value, json};

use super::{List, Listing};
use crate::address::Address;

/// What putting an address on a list comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Adding {
    /// It is on it with this reason: nothing changes, whoever asks again.
    Stands(Listing),
    /// It is from now on, or has another reason.
    New(Listing),
}

/// Puts an address on a list over what stands.
pub fn add(standing: Option<&Listing>, reason: String, by: &By) -> Adding {
    match standing {
        Some(listing) if listing.reason == reason => Adding::Stands(listing.clone()),
        _ => Adding::New(Listing {
            reason,
            listed_by: by.actor.clone(),
            listed_at: by.now,
        }),
    }
}

/// The audit action, the event and the noun.
pub fn names(list: &List, listed: bool) -> (&'static str, &'static str, &'static str) {
    match (list, listed) {
        (List::Client(_), true) => (
            "messaging.do_not_contact.add",
            "messaging.do_not_contact.added",
            "do_not_contact",
        ),
        (List::Client(_), false) => (
            "messaging.do_not_contact.remove",
            "messaging.do_not_contact.removed",
            "do_not_contact",
        ),
        (List::Agency(_), true) => (
            "messaging.agency_do_not_contact.add",
            "messaging.agency_do_not_contact.added",
            "agency_do_not_contact",
        ),
        (List::Agency(_), false) => (
            "messaging.agency_do_not_contact.remove",
            "messaging.agency_do_not_contact.removed",
            "agency_do_not_contact",
        ),
    }
}

/// What audit and events call the row.
pub fn target(list: &List, address: &Address) -> String {
    match list {
        List::Client(tenant) => format!("{}/{}", tenant.client, address.as_str()),
        List::Agency(scope) => format!("{}/{}", scope.agency, address.as_str()),
    }
}

/// An address's place as audit and events have it.
pub fn told(address: &Address, listing: Option<&Listing>) -> Value {
    json!({
        "address": address,
        "listed": listing.is_some(),
        "reason": listing.map(|listing| listing.reason.as_str()),
        "listed_by": listing.map(|listing| listing.listed_by.as_str()),
        "listed_at": listing.map(|listing| listing.listed_at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use mainstay_types::AgencyId;

    #[test]
    fn the_same_reason_again_leaves_the_first_entry_and_another_reason_is_another_act() {
        let by = |actor: &str| By {
            agency: AgencyId::generate(),
            actor: actor.to_owned(),
            request_id: None,
            now: DateTime::from_timestamp(100, 0).expect("a time"),
        };
        let Adding::New(first) = add(None, "letter".into(), &by("mem_1")) else {
            panic!("it was not on the list");
        };
        let again = add(Some(&first), "letter".into(), &by("mem_2"));
        assert_eq!(again, Adding::Stands(first.clone()));
        let Adding::New(other) = add(Some(&first), "lawsuit".into(), &by("mem_2")) else {
            panic!("another reason");
        };
        assert_eq!(other.listed_by, "mem_2");
    }
}
