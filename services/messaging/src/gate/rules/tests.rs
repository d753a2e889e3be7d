//! The table and the decision, case by case.
//! Deliberately absent: quiet hours themselves; those are proven beside their own code.

use chrono_tz::Tz;

use super::*;
use crate::gate::hours;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

/// Noon in Chicago, a Wednesday.
fn noon() -> DateTime<Utc> {
    at("2026-06-10T17:00:00Z")
}

fn chicago() -> Vec<Place> {
    vec![Place {
        zone: Tz::America__Chicago,
        hours: &hours::FEDERAL,
    }]
}

/// Somebody to whom everything may be sent.
fn willing() -> Facts {
    Facts {
        closed: Fact::Known(None),
        hold: Fact::Known(None),
        opted_out: Fact::Known(None),
        do_not_contact: Fact::Known(None),
        consent: Fact::Known(Some(Consent {
            basis: Basis::ExpressWritten,
            given_at: at("2026-01-01T00:00:00Z"),
        })),
        suppressed: Fact::Known(None),
        monthly: Fact::Known(Monthly {
            hard_limit: Some(1000),
            used: 10,
            ends_at: Some(at("2026-07-01T00:00:00Z")),
        }),
        sent_at: Fact::Known(Vec::new()),
        places: Fact::Known(chicago()),
        last_inbound_at: Fact::Known(None),
    }
}

/// The same with one rule's fact such that it refuses, at [`noon`].
fn refusing(rule: Rule) -> Facts {
    let mut facts = willing();
    match rule {
        Rule::ClientActive => facts.closed = Fact::Known(Some(noon())),
        Rule::SendingHold => facts.hold = Fact::Known(Some("abuse".into())),
        Rule::OptOut => facts.opted_out = Fact::Known(Some(noon())),
        Rule::DoNotContact => facts.do_not_contact = Fact::Known(Some(ListLevel::Agency)),
        Rule::Consent => facts.consent = Fact::Known(None),
        Rule::Suppression => facts.suppressed = Fact::Known(Some("30005".into())),
        Rule::MonthlyLimit => {
            facts.monthly = Fact::Known(Monthly {
                hard_limit: Some(10),
                used: 10,
                ends_at: Some(at("2026-07-01T00:00:00Z")),
            });
        }
        Rule::FrequencyCap => facts.sent_at = Fact::Known(vec![noon() - TimeDelta::hours(1); CAP]),
        Rule::QuietHours => {
            facts.places = Fact::Known(vec![Place {
                zone: Tz::Asia__Tokyo,
                hours: &hours::FEDERAL,
            }]);
        }
    }
    facts
}

fn unknowing(rule: Rule) -> Facts {
    let mut facts = willing();
    let why = || "the database did not answer".to_owned();
    match rule {
        Rule::ClientActive => facts.closed = Fact::Unknown(why()),
        Rule::SendingHold => facts.hold = Fact::Unknown(why()),
        Rule::OptOut => facts.opted_out = Fact::Unknown(why()),
        Rule::DoNotContact => facts.do_not_contact = Fact::Unknown(why()),
        Rule::Consent => facts.consent = Fact::Unknown(why()),
        Rule::Suppression => facts.suppressed = Fact::Unknown(why()),
        Rule::MonthlyLimit => facts.monthly = Fact::Unknown(why()),
        Rule::FrequencyCap => facts.sent_at = Fact::Unknown(why()),
        Rule::QuietHours => facts.places = Fact::Unknown(why()),
    }
    facts
}

/// What a reviewer reads: X binds, a unless answering, . free; by purpose in order.
#[test]
fn the_table_of_rules_is_the_one_that_was_reviewed() {
    let table = Rule::ALL.map(|rule| {
        let cells: String = Purpose::ALL
            .iter()
            .map(|purpose| match binding(*purpose, rule) {
                Binding::Binds => 'X',
                Binding::UnlessAnswering => 'a',
                Binding::Free => '.',
            })
            .collect();
        format!("{cells} {}", rule.as_str())
    });
    let reviewed = [
        "XXXXXX client_active",
        "XXX... sending_hold",
        "XXX.X. opt_out",
        "XXX.XX do_not_contact",
        "XaX... consent",
        "XXXXXX suppression",
        "XXX... monthly_limit",
        "Xa.... frequency_cap",
        "XaX... quiet_hours",
    ];
    assert_eq!(table, reviewed);
}

#[test]
fn every_rule_refuses_exactly_the_purposes_and_channels_it_binds() {
    for rule in Rule::ALL {
        for purpose in Purpose::ALL {
            for channel in Channel::ALL {
                let bound =
                    binding(purpose, rule) != Binding::Free && !exempt(channel, purpose, rule);
                for facts in [refusing(rule), unknowing(rule)] {
                    match decide(&facts, purpose, channel, noon()) {
                        Decision::Allowed { evidence } => {
                            assert!(!bound, "{rule:?} let {purpose:?} pass on {channel:?}");
                            assert!(evidence.iter().all(|found| found.rule != rule));
                        }
                        Decision::Refused {
                            rule: first, all, ..
                        } => {
                            assert!(bound, "{rule:?} kept {purpose:?} from {channel:?}");
                            assert_eq!((first, all.len()), (rule, 1));
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn what_could_not_be_learned_is_a_no_that_says_when_to_ask_again() {
    for rule in Rule::ALL {
        let decision = decide(&unknowing(rule), Purpose::Marketing, Channel::Sms, noon());
        let Decision::Refused {
            reason, retry_at, ..
        } = decision
        else {
            panic!("{rule:?} was let pass unknown");
        };
        assert_eq!(reason, Reason::CheckUnavailable, "{rule:?}");
        assert_eq!(retry_at, Some(noon() + ASK_AGAIN), "{rule:?}");
    }
}

#[test]
fn a_yes_says_what_every_binding_rule_found() {
    let decision = decide(&willing(), Purpose::Marketing, Channel::Sms, noon());
    let Decision::Allowed { evidence } = decision else {
        panic!("refused: {decision:?}");
    };
    let rules: Vec<Rule> = evidence.iter().map(|found| found.rule).collect();
    assert_eq!(rules, Rule::ALL);
    assert_eq!(
        evidence.last().expect("eight").found,
        "12:00 America/Chicago"
    );
}

#[test]
fn the_time_that_is_told_is_one_at_which_it_is_allowed_and_a_second_before_it_is_not() {
    let mut facts = refusing(Rule::FrequencyCap);
    // The cap ends in the night, the night at eight, and by then the period's last day is over too.
    facts.sent_at = Fact::Known(vec![at("2026-06-30T03:00:00Z"); CAP]);
    facts.monthly = Fact::Known(Monthly {
        hard_limit: Some(1),
        used: 1,
        ends_at: Some(at("2026-07-01T05:00:00Z")),
    });
    let now = at("2026-06-30T17:00:00Z");
    let Decision::Refused {
        retry_at,
        all,
        rule,
        ..
    } = decide(&facts, Purpose::Marketing, Channel::Sms, now)
    else {
        panic!("allowed");
    };
    assert_eq!((rule, all.len()), (Rule::MonthlyLimit, 2));
    let told = retry_at.expect("waiting helps");
    assert_eq!(told, at("2026-07-01T13:00:00Z"));
    for (when, allowed) in [(told, true), (told - TimeDelta::seconds(1), false)] {
        let decision = decide(&facts, Purpose::Marketing, Channel::Sms, when);
        assert_eq!(
            matches!(decision, Decision::Allowed { .. }),
            allowed,
            "{when}"
        );
    }
}

#[test]
fn waiting_does_not_help_where_a_person_has_to_change_their_mind() {
    for rule in [
        Rule::SendingHold,
        Rule::OptOut,
        Rule::DoNotContact,
        Rule::Consent,
        Rule::Suppression,
    ] {
        let mut facts = refusing(rule);
        facts.places = refusing(Rule::QuietHours).places;
        let decision = decide(&facts, Purpose::Marketing, Channel::Sms, noon());
        let Decision::Refused { retry_at, all, .. } = decision else {
            panic!("allowed");
        };
        assert_eq!((retry_at, all.len()), (None, 2), "{rule:?}");
    }
}

#[test]
fn who_writes_at_night_is_answered_at_night_for_an_hour_and_not_sold_to() {
    let mut facts = refusing(Rule::QuietHours);
    facts.consent = Fact::Known(None);
    facts.last_inbound_at = Fact::Known(Some(noon()));
    let allowed = |purpose, when| {
        matches!(
            decide(&facts, purpose, Channel::Sms, when),
            Decision::Allowed { .. }
        )
    };
    assert!(allowed(Purpose::Conversational, noon()));
    assert!(allowed(
        Purpose::Conversational,
        noon() + ANSWER_WINDOW - TimeDelta::seconds(1)
    ));
    assert!(!allowed(Purpose::Conversational, noon() + ANSWER_WINDOW));
    assert!(!allowed(
        Purpose::Conversational,
        noon() - TimeDelta::seconds(1)
    ));
    assert!(!allowed(Purpose::Marketing, noon()));
}

#[test]
fn consent_has_to_be_strong_enough_for_the_purpose_and_not_lapsed() {
    let given_at = at("2026-03-10T17:00:00Z");
    let cases = [
        (
            Basis::Inquiry,
            Purpose::Conversational,
            Channel::Sms,
            "2026-06-10T16:59:59Z",
            true,
        ),
        (
            Basis::Inquiry,
            Purpose::Conversational,
            Channel::Sms,
            "2026-06-10T17:00:00Z",
            false,
        ),
        (
            Basis::Inquiry,
            Purpose::Marketing,
            Channel::Email,
            "2026-03-11T17:00:00Z",
            false,
        ),
        (
            Basis::ExistingRelationship,
            Purpose::Marketing,
            Channel::Email,
            "2027-09-09T17:00:00Z",
            true,
        ),
        (
            Basis::ExistingRelationship,
            Purpose::Marketing,
            Channel::Email,
            "2027-09-10T17:00:00Z",
            false,
        ),
        (
            Basis::Express,
            Purpose::Marketing,
            Channel::Sms,
            "2026-06-10T17:00:00Z",
            false,
        ),
        (
            Basis::ExpressWritten,
            Purpose::Marketing,
            Channel::Voice,
            "2036-06-10T17:00:00Z",
            true,
        ),
    ];
    for (basis, purpose, channel, when, enough) in cases {
        let mut facts = willing();
        facts.consent = Fact::Known(Some(Consent { basis, given_at }));
        facts.monthly = Fact::Known(Monthly {
            hard_limit: None,
            used: 0,
            ends_at: None,
        });
        let decision = decide(&facts, purpose, channel, at(when));
        let allowed = matches!(decision, Decision::Allowed { .. });
        assert_eq!(
            allowed, enough,
            "{basis:?} {purpose:?} {channel:?} {when}: {decision:?}"
        );
    }
}
