//! What is decided about leads: no way leads back but the one with a reason, and everybody keeps what is theirs.
//! Deliberately absent: the database, which repeats what it can of this.

use chrono::DateTime;
use mainstay_types::{LeadId, MemberId};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::lead::{Source, TaskPriority};

fn lead() -> Lead {
    let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
    blank(LeadId::generate(), Source::Form, now)
}

fn address(text: &str) -> Address {
    Address::parse(text).expect("an address")
}

fn with(addresses: &[(IdentityKind, &str)]) -> Lead {
    let addresses = addresses.iter().map(|(kind, text)| (*kind, address(text)));
    let edit_with = Edit {
        addresses: addresses.collect(),
        ..Edit::default()
    };
    edit(&lead(), edit_with)
        .expect("not too much")
        .expect("a change")
}

fn status() -> impl Strategy<Value = Status> {
    proptest::sample::select(Status::ALL)
}

const IN_ORDER: [Status; 5] = [
    Status::New,
    Status::Contacted,
    Status::Engaged,
    Status::Qualified,
    Status::Booked,
];

/// Where a status stands on the way, said apart from the code that decides.
fn place(status: Status) -> usize {
    let found = IN_ORDER.iter().position(|known| *known == status);
    found.unwrap_or(IN_ORDER.len())
}

#[test]
fn every_step_on_is_allowed_and_every_step_back_wants_a_reason() {
    for from in Status::ALL.iter().copied() {
        for to in Status::ALL.iter().copied() {
            let on = place(to) > place(from);
            let back = place(to) < place(from);
            assert_eq!(advance(from, to), on.then_some(to), "{from:?} {to:?}");
            let without = match (from == to, on) {
                (true, _) => Ok(None),
                (_, true) => Ok(Some(to)),
                _ => Err(Backwards),
            };
            assert_eq!(change(from, to, false), without, "{from:?} {to:?}");
            let with = if back { Ok(Some(to)) } else { without };
            assert_eq!(change(from, to, true), with, "{from:?} {to:?}");
        }
    }
}

#[test]
fn nobody_goes_from_one_end_to_the_other() {
    for (from, to) in [(Status::Won, Status::Lost), (Status::Lost, Status::Won)] {
        assert_eq!(change(from, to, true), Err(Backwards));
        assert_eq!(advance(from, to), None);
    }
}

proptest! {
    #[test]
    fn no_run_of_automations_and_people_moves_back_without_a_reason(
        start in status(),
        steps in proptest::collection::vec((status(), any::<bool>()), 0..40),
    ) {
        let mut now = start;
        for (to, by_automation) in steps {
            let next = if by_automation {
                advance(now, to)
            } else {
                change(now, to, false).unwrap_or(None)
            };
            if let Some(next) = next {
                prop_assert!(place(next) > place(now), "{now:?} to {next:?}");
                now = next;
            }
        }
        prop_assert!(place(now) >= place(start));
    }

    #[test]
    fn merging_moves_nobody_back_and_a_lost_one_closes_nobody(from in status(), into in status()) {
        let after = merged_status(from, into).unwrap_or(into);
        prop_assert!(place(after) >= place(into));
        prop_assert!(from != Status::Lost || after == into);
    }

    #[test]
    fn whoever_is_named_owns_else_whoever_did(named: Option<u128>, own: Option<u128>, other: Option<u128>) {
        let member = |id: Option<u128>| id.map(|id| MemberId::from_uuid(uuid::Uuid::from_u128(id)));
        let decided = owner(member(named), member(own), member(other));
        let expected = if named.is_some() { named } else if own.is_some() { own } else { other };
        prop_assert_eq!(decided, member(expected));
    }
}

#[test]
fn a_new_number_is_written_to_and_the_old_one_stays_the_leads() {
    let before = with(&[(IdentityKind::Phone, "+15125550101")]);
    let edit_with = Edit {
        addresses: vec![(IdentityKind::Phone, address("+15125550102"))],
        ..Edit::default()
    };
    let after = edit(&before, edit_with.clone())
        .expect("fits")
        .expect("a change");
    assert_eq!(after.identities.len(), 2);
    assert_eq!(
        reached(&after.identities, Channel::Sms),
        Some(&address("+15125550102"))
    );
    assert_eq!(edit(&after, edit_with), Ok(None), "it is so already");
}

#[test]
fn a_number_is_one_address_whatever_it_was_given_for() {
    let phone = address("+15125550101");
    let both = with(&[
        (IdentityKind::Phone, "+15125550101"),
        (IdentityKind::Whatsapp, "+15125550101"),
    ]);
    assert_eq!(both.identities.len(), 1);
    for channel in [Channel::Sms, Channel::Whatsapp, Channel::Voice] {
        assert_eq!(reached(&both.identities, channel), Some(&phone));
    }
    assert_eq!(reached(&both.identities, Channel::Email), None);

    let apart = with(&[
        (IdentityKind::Phone, "+15125550101"),
        (IdentityKind::Whatsapp, "+15125550102"),
    ]);
    let other = address("+15125550102");
    assert_eq!(reached(&apart.identities, Channel::Whatsapp), Some(&other));
    assert_eq!(reached(&apart.identities, Channel::Sms), Some(&phone));
    let together = Edit {
        addresses: vec![(IdentityKind::Whatsapp, phone.clone())],
        ..Edit::default()
    };
    let together = edit(&apart, together).expect("fits").expect("a change");
    assert_eq!(
        reached(&together.identities, Channel::Whatsapp),
        Some(&phone)
    );
    assert_eq!(together.identities.len(), 2);

    let only = with(&[(IdentityKind::Whatsapp, "+15125550101")]);
    assert_eq!(reached(&only.identities, Channel::Sms), Some(&phone));
}

#[test]
fn null_takes_a_custom_field_away_and_what_is_not_named_stays() {
    let fields = |value: Value| match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    let set = Edit {
        custom_fields: fields(json!({"roof": "slate", "floors": 2, "urgent": true})),
        ..Edit::default()
    };
    let before = edit(&lead(), set).expect("fits").expect("a change");
    let change = Edit {
        custom_fields: fields(json!({"roof": null, "floors": 3})),
        ..Edit::default()
    };
    let after = edit(&before, change).expect("fits").expect("a change");
    assert_eq!(
        Value::Object(after.custom_fields),
        json!({"floors": 3, "urgent": true})
    );
}

#[test]
fn an_import_adds_tags_and_takes_no_lead_from_whoever_has_it() {
    let (ana, bob) = (MemberId::generate(), MemberId::generate());
    let before = Lead {
        owner: Some(ana),
        tags: vec!["roof".into()],
        status: Status::Qualified,
        ..lead()
    };
    let row = Edit {
        owner: Some(bob),
        tags: Some(vec!["hail".into(), "roof".into()]),
        ..Edit::default()
    };
    let after = import(&before, row.clone())
        .expect("fits")
        .expect("a change");
    assert_eq!((after.owner, after.status), (Some(ana), Status::Qualified));
    assert_eq!(after.tags, ["hail", "roof"]);
    assert_eq!(import(&after, row.clone()), Ok(None), "twice is once");
    let nobodys = Lead {
        owner: None,
        ..after
    };
    let after = import(&nobodys, row).expect("fits").expect("a change");
    assert_eq!(after.owner, Some(bob));
}

#[test]
fn too_much_is_refused_by_field() {
    let tags = (0..=MOST_TAGS).map(|at| format!("tag{at}")).collect();
    let refused = edit(
        &lead(),
        Edit {
            tags: Some(tags),
            ..Edit::default()
        },
    );
    assert_eq!(refused.expect_err("too many").field, "tags");
    let fields = (0..=MOST_CUSTOM_FIELDS).map(|at| (format!("f{at}"), json!(at)));
    let refused = edit(
        &lead(),
        Edit {
            custom_fields: fields.collect(),
            ..Edit::default()
        },
    );
    assert_eq!(refused.expect_err("too many").field, "custom_fields");
    let addresses = (0..=MOST_IDENTITIES).map(|at| {
        let number = address(&format!("+151255501{at:02}"));
        (IdentityKind::Phone, number)
    });
    let refused = edit(
        &lead(),
        Edit {
            addresses: addresses.collect(),
            ..Edit::default()
        },
    );
    assert_eq!(refused.expect_err("too many").field, "identities");
}

#[test]
fn a_merge_fills_in_what_is_missing_and_loses_no_address() {
    let (ana, bob) = (MemberId::generate(), MemberId::generate());
    let from = Lead {
        name: Some("Mike".into()),
        owner: Some(ana),
        engagement: Engagement::Hot,
        tags: vec!["hail".into()],
        ..with(&[
            (IdentityKind::Phone, "+15125550102"),
            (IdentityKind::Email, "mike@lead.test"),
        ])
    };
    let into = Lead {
        name: Some("Michael".into()),
        task_priority: TaskPriority::High,
        tags: vec!["roof".into()],
        ..with(&[(IdentityKind::Phone, "+15125550101")])
    };
    let (gone, one) = merge(&from, &into).expect("merged");
    assert_eq!(gone.merged_into, Some(into.id));
    assert!(gone.identities.is_empty());
    assert_eq!(one.name.as_deref(), Some("Michael"));
    assert_eq!(one.owner, Some(ana), "of a returning lead the owner stays");
    assert_eq!(one.tags, ["hail", "roof"]);
    assert_eq!(
        (one.engagement, one.task_priority),
        (Engagement::Hot, TaskPriority::High)
    );
    assert_eq!(one.identities.len(), 3);
    let reached = |channel| reached(&one.identities, channel).cloned();
    assert_eq!(reached(Channel::Sms), Some(address("+15125550101")));
    assert_eq!(reached(Channel::Email), Some(address("mike@lead.test")));
    let owned = Lead {
        owner: Some(bob),
        ..into.clone()
    };
    let (_, kept) = merge(&from, &owned).expect("merged");
    assert_eq!(kept.owner, Some(bob));
    assert!(merge(&into, &into).is_err());
}

#[test]
fn an_old_etag_is_refused() {
    let lead = Lead {
        revision: 3,
        ..lead()
    };
    assert!(is_current(&lead, None));
    assert!(is_current(&lead, Some("v3")));
    assert!(is_current(&lead, Some("\"v3\"")));
    assert!(!is_current(&lead, Some("v2")));
}

#[test]
fn somebody_who_says_more_about_themselves_takes_nothing_from_what_is_known() {
    let known = Lead {
        name: Some("Ann".to_owned()),
        ..with(&[(IdentityKind::Email, "ann@lead.test")])
    };
    let (mail, phone) = (address("ann@home.test"), address("+15125550123"));
    let more = vec![(IdentityKind::Email, mail), (IdentityKind::Phone, phone)];
    let name = Some("Anna".to_owned());
    let after = joined(&known, name.clone(), Some("Etc/UTC".to_owned()), more);
    let after = after.expect("something new");
    assert_eq!(after.name.as_deref(), Some("Ann"));
    assert_eq!(after.time_zone.as_deref(), Some("Etc/UTC"));
    let first = |kind| primary(&after.identities, kind).map(Address::as_str);
    assert_eq!(first(IdentityKind::Email), Some("ann@lead.test"));
    assert_eq!(first(IdentityKind::Phone), Some("+15125550123"));
    assert_eq!(after.identities.len(), 3);
    assert_eq!(joined(&known, name, None, Vec::new()), None);
}
