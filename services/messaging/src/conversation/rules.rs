//! Decisions about conversations. Pure.
//! Deliberately absent: who is a member. Identity says that.

use chrono::{DateTime, Utc};
use mainstay_rpc::Violations;

use super::{Act, Conversation, Edit};

/// Most characters of a label.
const LONGEST_LABEL: usize = 50;

/// For If-Match.
pub(super) fn etag(revision: i64) -> String {
    format!("v{revision}")
}

/// Whether the caller has read the conversation as it stands. Whoever sends none takes what there is.
pub(super) fn is_current(conversation: &Conversation, sent: Option<&str>) -> bool {
    // If-Match arrives quoted, the body's etag does not.
    sent.is_none_or(|sent| sent.trim_matches('"') == etag(conversation.revision))
}

/// A label as it is kept and looked for.
pub(super) fn label(text: &str) -> String {
    text.trim().to_lowercase()
}

/// Labels as they are kept: each once, in order. Every one that cannot be kept is noted as a fault.
pub(super) fn labels(given: &[String], faults: &mut Violations) -> Vec<String> {
    let mut labels = Vec::with_capacity(given.len());
    for (at, text) in given.iter().enumerate() {
        let label = label(text);
        if (1..=LONGEST_LABEL).contains(&label.chars().count()) {
            labels.push(label);
        } else {
            faults.add(format!("labels[{at}]"), "must have from 1 to 50 characters");
        }
    }
    labels.sort_unstable();
    labels.dedup();
    labels
}

/// Fewest characters of a part of an address: two stand in every other number.
const SHORTEST_PART: usize = 3;

/// The part of an address that somebody may look for with this, as addresses are kept: digits alone of what looks like a number,
/// however it is written; else one word. None when it is neither.
pub(super) fn part(asked: &str) -> Option<String> {
    let asked = asked.trim();
    let of_number = |c: char| c.is_ascii_digit() || " +-().".contains(c);
    let part: String = match asked.chars().all(of_number) {
        true => asked.chars().filter(char::is_ascii_digit).collect(),
        false => asked.to_lowercase(),
    };
    let fits = part.chars().count() >= SHORTEST_PART && !part.contains(char::is_whitespace);
    fits.then_some(part)
}

/// The rating that a text is: just a number from 1 to 5.
pub(super) fn rating(text: &str) -> Option<i16> {
    let number = text.trim().trim_end_matches(['.', '!']).parse().ok()?;
    let one_digit = text.trim().starts_with(['1', '2', '3', '4', '5']);
    (one_digit && (1..=5).contains(&number)).then_some(number)
}

/// The conversation after the edit; none when nothing would change.
pub(super) fn edit(before: &Conversation, edit: Edit) -> Option<Conversation> {
    let mut after = before.clone();
    if let Some(assigned_to) = edit.assigned_to {
        after.assigned_to = assigned_to;
    }
    if let Some(labels) = edit.labels {
        after.labels = labels;
    }
    (after != *before).then_some(after)
}

/// The conversation after somebody did this; none when nothing would change.
pub(super) fn act(
    before: &Conversation,
    act: Act,
    actor: &str,
    now: DateTime<Utc>,
) -> Option<Conversation> {
    let mut after = before.clone();
    match act {
        Act::Read => after.unread = 0,
        Act::TakeOver => after.taken_over_by = Some(actor.to_owned()),
        Act::HandBack => after.taken_over_by = None,
        Act::Close => close(&mut after, now),
        Act::Delete => {
            close(&mut after, now);
            after.deleted_at = Some(now);
        }
        Act::Restore => after.deleted_at = None,
    }
    (after != *before).then_some(after)
}

fn close(conversation: &mut Conversation, now: DateTime<Utc>) {
    if conversation.open {
        conversation.open = false;
        conversation.closed_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use mainstay_runtime::Clock;
    use mainstay_types::{ConversationId, LeadId, MemberId};

    use super::*;
    use crate::gate::Channel;

    fn open() -> Conversation {
        Conversation {
            id: ConversationId::generate(),
            lead: LeadId::generate(),
            lead_name: None,
            channel: Channel::Sms,
            sender: "+15125550100".to_owned(),
            address: "+15125550123".to_owned(),
            open: true,
            unread: 2,
            last_activity_at: Clock::system(0).now(),
            revision: 7,
            taken_over_by: None,
            assigned_to: None,
            labels: Vec::new(),
            rating_asked_at: None,
            rating: None,
            closed_at: None,
            deleted_at: None,
        }
    }

    #[test]
    fn labels_are_trimmed_in_lower_case_in_order_and_each_once() {
        let given = |texts: &[&str]| {
            let mut faults = Violations::new();
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            let kept = labels(&texts, &mut faults);
            let faults = faults.finish().err();
            let fields = faults.map(|problem| {
                let errors = problem.errors().iter();
                errors.map(|fault| fault.field.clone()).collect::<Vec<_>>()
            });
            (kept, fields.unwrap_or_default())
        };
        assert_eq!(
            given(&[" Roof ", "urgent", "ROOF"]),
            (vec!["roof".to_owned(), "urgent".to_owned()], vec![])
        );
        assert_eq!(given(&[]), (vec![], vec![]));
        let long = "x".repeat(51);
        assert_eq!(
            given(&["a", "  ", &long]).1,
            ["labels[1]".to_owned(), "labels[2]".to_owned()]
        );
    }

    #[test]
    fn a_part_of_an_address_is_looked_for_as_addresses_are_kept() {
        for (asked, wanted) in [
            ("5550123", Some("5550123")),
            (" +1 (512) 555-0123 ", Some("15125550123")),
            ("512.555.01", Some("51255501")),
            ("Mike@Lead.test", Some("mike@lead.test")),
            ("lead", Some("lead")),
            ("roof leaks", None),
            ("12", None),
            ("(-) .", None),
            ("", None),
        ] {
            assert_eq!(part(asked).as_deref(), wanted, "{asked:?}");
        }
    }

    #[test]
    fn a_rating_is_just_a_number_from_one_to_five() {
        for (text, wanted) in [
            ("5", Some(5)),
            (" 1\n", Some(1)),
            ("4.", Some(4)),
            ("3!!", Some(3)),
            ("0", None),
            ("6", None),
            ("+5", None),
            ("05", None),
            ("10", None),
            ("5 stars", None),
            ("4.5", None),
            ("five", None),
            ("", None),
        ] {
            assert_eq!(rating(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn an_edit_changes_what_it_says_and_nothing_else() {
        let before = open();
        let ana = MemberId::generate();
        assert_eq!(edit(&before, Edit::default()), None);
        let nobody = Edit {
            assigned_to: Some(None),
            ..Edit::default()
        };
        assert_eq!(edit(&before, nobody.clone()), None, "it is nobody's");
        let anas = Edit {
            assigned_to: Some(Some(ana)),
            ..Edit::default()
        };
        let hers = edit(&before, anas).expect("changed");
        assert_eq!((hers.assigned_to, hers.labels.len()), (Some(ana), 0));
        let back = edit(&hers, nobody).expect("changed");
        assert_eq!(back, before);
    }

    #[test]
    fn what_was_closed_before_stays_closed_at_that_time() {
        let now = Clock::system(0).now();
        let later = now + chrono::TimeDelta::hours(1);
        let closed = act(&open(), Act::Close, "mem_1", now).expect("closed");
        assert_eq!((closed.open, closed.closed_at), (false, Some(now)));
        assert_eq!(act(&closed, Act::Close, "mem_1", later), None);
        let deleted = act(&closed, Act::Delete, "mem_1", later).expect("deleted");
        assert_eq!(
            (deleted.closed_at, deleted.deleted_at),
            (Some(now), Some(later))
        );
        let back = act(&deleted, Act::Restore, "mem_1", later).expect("restored");
        assert_eq!(back, closed);
        let at_once = act(&open(), Act::Delete, "mem_1", now).expect("deleted");
        assert_eq!((at_once.open, at_once.closed_at), (false, Some(now)));
    }
}
