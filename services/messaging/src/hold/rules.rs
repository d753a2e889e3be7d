//! Decisions about holds. Pure.
//! Deliberately absent: whether a reason is a good one. That is for the people who read it.

use mainstay_jobs::record::By;
use serde_json::{Value, json};

use super::Hold;

/// What placing a hold comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Placing {
    /// One with this reason stands: nothing changes, whoever asks again.
    Stands(Hold),
    /// It is placed now, or has another reason from now on.
    New(Hold),
}

/// Places a hold over what stands.
pub fn place(standing: Option<&Hold>, reason: String, by: &By) -> Placing {
    match standing {
        Some(hold) if hold.reason == reason => Placing::Stands(hold.clone()),
        _ => Placing::New(Hold {
            reason,
            placed_by: by.actor.clone(),
            placed_at: by.now,
        }),
    }
}

/// A hold as audit and events have it.
pub fn told(hold: Option<&Hold>) -> Value {
    match hold {
        None => json!({"on_hold": false}),
        Some(hold) => json!({
            "on_hold": true,
            "reason": hold.reason,
            "placed_by": hold.placed_by,
            "placed_at": hold.placed_at,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use mainstay_types::AgencyId;

    fn by(actor: &str, at: i64) -> By {
        By {
            agency: AgencyId::generate(),
            actor: actor.to_owned(),
            request_id: None,
            now: DateTime::from_timestamp(at, 0).expect("a time"),
        }
    }

    #[test]
    fn the_same_reason_again_leaves_the_first_hold_and_its_author() {
        let Placing::New(first) = place(None, "spam".into(), &by("mem_1", 100)) else {
            panic!("none stood before");
        };
        assert_eq!(
            place(Some(&first), "spam".into(), &by("mem_2", 200)),
            Placing::Stands(first)
        );
    }

    #[test]
    fn another_reason_is_another_act_with_its_own_author() {
        let Placing::New(first) = place(None, "spam".into(), &by("mem_1", 100)) else {
            panic!("none stood before");
        };
        let Placing::New(second) = place(Some(&first), "court order".into(), &by("mem_2", 200))
        else {
            panic!("another reason");
        };
        assert_eq!(
            (second.reason.as_str(), second.placed_by.as_str()),
            ("court order", "mem_2")
        );
        assert!(second.placed_at > first.placed_at);
    }
}
