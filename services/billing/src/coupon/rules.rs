//! What a coupon may say, whom it is for, and what it takes off.
//! Deliberately absent: the last word on a redemption. What is judged here from a reading is judged again by the statement
//! that reserves; these are the words for why it says no.

use chrono::{DateTime, Utc};
use mainstay_types::Money;

use super::redemption::Purchase;
use super::{Coupon, CouponError, CouponRefusal, CouponState, Duration, Off, Terms};

/// Stripe charges no more at once, so no more can be taken off.
pub(crate) const MOST_OFF_MINOR: i64 = 99_999_999;

/// A code as it is looked for: people do not remember its case.
pub(crate) fn folded(code: &str) -> String {
    code.to_ascii_uppercase()
}

/// Reads the code of a new coupon.
pub(crate) fn code(text: &str) -> Result<String, &'static str> {
    let code = folded(text);
    let mut letters = code.bytes();
    let starts = letters.next().is_some_and(|c| c.is_ascii_alphanumeric());
    if starts && letters.all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_') {
        Ok(code)
    } else {
        Err("must be letters, digits, `-` and `_`, starting with a letter or digit")
    }
}

/// Reads a percentage to hundredths of a per cent. A decimal fraction has no exact float; the nearest hundredth is what
/// was meant, unless it is not near at all.
pub(crate) fn percent(value: f64) -> Result<i32, &'static str> {
    let hundredths = (value * 100.0).round();
    if !(100.0..=10_000.0).contains(&hundredths) {
        return Err("must be from 1 to 100");
    }
    if (value * 100.0 - hundredths).abs() > 1e-6 {
        return Err("has at most two decimals");
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "between 100 and 10000, checked above"
    )]
    Ok(hundredths as i32)
}

/// What is taken off, as a request has it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct OffInput {
    pub percent_off: Option<f64>,
    /// An amount was given, be it readable or not.
    pub amount_given: bool,
    pub amount_off: Option<Money>,
}

/// A field of a coupon and what is wrong with it.
pub(crate) type Fault = (&'static str, &'static str);

/// Reads what is taken off: exactly one of the two.
pub(crate) fn off(input: OffInput) -> Result<Option<Off>, Fault> {
    match (input.percent_off, input.amount_given) {
        (None, false) => Err(("percent_off", "is required unless `amount_off` is given")),
        (Some(_), true) => Err(("amount_off", "cannot be given beside `percent_off`")),
        (Some(value), false) => percent(value)
            .map(|bp| Some(Off::Percent { bp }))
            .map_err(|wrong| ("percent_off", wrong)),
        (None, true) => match input.amount_off {
            Some(amount) if !(1..=MOST_OFF_MINOR).contains(&amount.amount_minor) => {
                Err(("amount_off.amount_minor", "must be from 1 to 99999999"))
            }
            // An unreadable one has been told already.
            amount => Ok(amount.map(|amount| Off::Amount { amount })),
        },
    }
}

/// Reads for how long it takes off.
pub(crate) fn duration(kind: Option<&'static str>, months: Option<i32>) -> Result<Duration, Fault> {
    match (kind, months) {
        (Some("repeating"), Some(months)) => Ok(Duration::Repeating { months }),
        (Some("repeating"), None) => Err((
            "duration_in_months",
            "is required when `duration` is `repeating`",
        )),
        (Some(_), Some(_)) => Err((
            "duration_in_months",
            "has a meaning only when `duration` is `repeating`",
        )),
        (Some("once"), None) => Ok(Duration::Once),
        (Some("forever"), None) => Ok(Duration::Forever),
        _ => Err(("duration", "is required: `once`, `repeating` or `forever`")),
    }
}

/// What fields say of each other.
pub(crate) fn faults_between(terms: &Terms) -> Vec<Fault> {
    let mut faults = Vec::new();
    if terms
        .max_redemptions
        .zip(terms.max_redemptions_per_client)
        .is_some_and(|(all, one)| one > all)
    {
        faults.push((
            "max_redemptions_per_client",
            "cannot be more than `max_redemptions`",
        ));
    }
    if terms
        .starts_at
        .zip(terms.expires_at)
        .is_some_and(|(start, end)| start >= end)
    {
        faults.push(("expires_at", "must be after `starts_at`"));
    }
    faults
}

/// A coupon whose window is over could never be redeemed.
pub(crate) fn window_ahead(terms: &Terms, now: DateTime<Utc>) -> Result<(), CouponError> {
    match terms.expires_at {
        Some(end) if end <= now => Err(CouponError::WindowOver),
        _ => Ok(()),
    }
}

/// What is known of the client.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Past {
    /// How often it has redeemed this coupon, what is reserved included.
    pub redemptions: i64,
    /// Whether it ever had a subscription.
    pub subscribed: bool,
}

/// Whether the coupon can be redeemed, by what was read. What concerns the purchase comes before what is merely used up.
pub(crate) fn judge(
    coupon: &Coupon,
    purchase: &Purchase,
    past: &Past,
) -> Result<(), CouponRefusal> {
    let terms = &coupon.terms;
    let code = || terms.code.clone();
    if coupon.state == CouponState::Deactivated {
        return Err(CouponRefusal::Deactivated { code: code() });
    }
    if let Some(starts_at) = terms.starts_at.filter(|start| purchase.now < *start) {
        let code = code();
        return Err(CouponRefusal::NotYet { code, starts_at });
    }
    if let Some(expires_at) = terms.expires_at.filter(|end| purchase.now >= *end) {
        let code = code();
        return Err(CouponRefusal::Expired { code, expires_at });
    }
    if !terms.plans.is_empty() && !terms.plans.contains(&purchase.plan) {
        return Err(CouponRefusal::NotForPlan { code: code() });
    }
    if let Off::Amount { amount } = terms.off
        && amount.currency != purchase.currency()
    {
        return Err(CouponRefusal::CurrencyMismatch {
            code: code(),
            coupon: amount.currency,
            subscription: purchase.currency(),
        });
    }
    if terms.first_time_only && past.subscribed {
        return Err(CouponRefusal::FirstTimeOnly { code: code() });
    }
    if let Some(limit) = terms.max_redemptions_per_client
        && past.redemptions >= i64::from(limit)
    {
        let code = code();
        return Err(CouponRefusal::ClientLimit { code, limit });
    }
    match terms.max_redemptions {
        Some(limit) if coupon.times_redeemed >= limit => {
            let code = code();
            Err(CouponRefusal::Exhausted { code, limit })
        }
        _ => Ok(()),
    }
}

/// What the counter of a coupon with so many redemptions should say. More than it allows cannot be written, and means that
/// nobody redeems any more; that is what the limit itself says.
pub(crate) fn counter(redemptions: i64, max_redemptions: Option<i32>) -> i32 {
    let counted = i32::try_from(redemptions).unwrap_or(i32::MAX);
    max_redemptions.map_or(counted, |most| counted.min(most))
}

/// What is taken off a charge of `amount_minor`: half a unit is rounded up, as Stripe does, and never more than the charge.
pub(crate) fn discount_minor(off: Off, amount_minor: i64) -> i64 {
    match off {
        Off::Amount { amount } => amount.amount_minor.min(amount_minor),
        Off::Percent { bp } => {
            let off = (i128::from(amount_minor) * i128::from(bp) + 5_000) / 10_000;
            i64::try_from(off).unwrap_or(amount_minor).min(amount_minor)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_types::{CouponId, Currency, PlanId, SagaId, SubscriptionId};

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).expect("a time")
    }

    fn coupon() -> Coupon {
        Coupon {
            id: CouponId::generate(),
            terms: Terms {
                code: "SAVE20".into(),
                off: Off::Percent { bp: 2_000 },
                duration: Duration::Once,
                max_redemptions: Some(100),
                max_redemptions_per_client: None,
                plans: Vec::new(),
                first_time_only: false,
                starts_at: None,
                expires_at: None,
            },
            state: CouponState::Active,
            times_redeemed: 99,
            revision: 1,
            created_at: at(0),
            deactivated_at: None,
        }
    }

    #[test]
    fn a_coupon_is_refused_with_what_stands_against_it() {
        let plan = PlanId::generate();
        let purchase = Purchase {
            plan,
            price: Money::new(99_700, Currency::USD),
            subscription: SubscriptionId::generate(),
            saga: SagaId::generate(),
            now: at(1_000),
        };
        let eur = Money::new(500, "eur".parse().expect("a currency"));
        let nothing = Past::default();
        let subscribed = Past {
            subscribed: true,
            redemptions: 2,
        };
        type Change = fn(&mut Coupon);
        let cases: [(Change, Past, Option<&str>); 9] = [
            (|_| {}, nothing, None),
            (
                |c| c.times_redeemed = 100,
                nothing,
                Some("SAVE20 has been redeemed 100 of 100 times."),
            ),
            (
                |c| c.state = CouponState::Deactivated,
                nothing,
                Some("SAVE20 was deactivated."),
            ),
            (
                |c| c.terms.starts_at = DateTime::from_timestamp(1_001, 0),
                nothing,
                Some("SAVE20 can be redeemed from 1970-01-01T00:16:41Z on."),
            ),
            (
                |c| c.terms.starts_at = DateTime::from_timestamp(1_000, 0),
                nothing,
                None,
            ),
            (
                |c| c.terms.expires_at = DateTime::from_timestamp(1_000, 0),
                nothing,
                Some("SAVE20 could be redeemed until 1970-01-01T00:16:40Z."),
            ),
            (
                |c| c.terms.plans = vec![PlanId::generate()],
                nothing,
                Some("SAVE20 is not for this plan."),
            ),
            (
                |c| c.terms.first_time_only = true,
                subscribed,
                Some("SAVE20 is only for clients that never had a subscription."),
            ),
            (
                |c| c.terms.max_redemptions_per_client = Some(2),
                subscribed,
                Some("The client has redeemed SAVE20 2 of 2 times."),
            ),
        ];
        for (change, past, wanted) in cases {
            let mut coupon = coupon();
            change(&mut coupon);
            let told = judge(&coupon, &purchase, &past).err();
            assert_eq!(told.map(|told| told.to_string()).as_deref(), wanted);
        }
        let mut for_this_plan = coupon();
        for_this_plan.terms.plans = vec![PlanId::generate(), plan];
        assert_eq!(judge(&for_this_plan, &purchase, &nothing), Ok(()));
        let mut in_euro = coupon();
        in_euro.terms.off = Off::Amount { amount: eur };
        let told = judge(&in_euro, &purchase, &nothing).expect_err("another currency");
        assert_eq!(
            told.to_string(),
            "SAVE20 takes off an amount in eur; the subscription is in usd."
        );
    }

    #[test]
    fn a_discount_is_rounded_half_up_and_is_never_more_than_the_charge() {
        let percent = |bp, amount| discount_minor(Off::Percent { bp }, amount);
        assert_eq!(percent(2_000, 99_700), 19_940);
        assert_eq!(percent(3_333, 1_000), 333);
        assert_eq!(percent(5_000, 1), 1);
        assert_eq!(percent(100, 49), 0);
        assert_eq!(percent(100, 50), 1);
        assert_eq!(percent(10_000, 12_345), 12_345);
        let amount = Money::new(500, Currency::USD);
        assert_eq!(discount_minor(Off::Amount { amount }, 300), 300);
        assert_eq!(discount_minor(Off::Amount { amount }, 900), 500);
    }

    #[test]
    fn a_counter_says_what_there_is_up_to_what_is_allowed() {
        assert_eq!(counter(3, None), 3);
        assert_eq!(counter(3, Some(5)), 3);
        assert_eq!(counter(7, Some(5)), 5);
    }

    #[test]
    fn a_percentage_has_two_decimals_and_no_more() {
        let cases = [
            (1.0, Ok(100)),
            (20.0, Ok(2_000)),
            (33.33, Ok(3_333)),
            (99.99, Ok(9_999)),
            (100.0, Ok(10_000)),
            (33.333, Err("has at most two decimals")),
            (0.5, Err("must be from 1 to 100")),
            (100.01, Err("must be from 1 to 100")),
            (f64::NAN, Err("must be from 1 to 100")),
        ];
        for (value, wanted) in cases {
            assert_eq!(percent(value), wanted, "{value}");
        }
    }

    #[test]
    fn a_code_is_kept_in_upper_case_and_has_only_what_people_can_type() {
        assert_eq!(code("save-20_x").as_deref(), Ok("SAVE-20_X"));
        for wrong in ["", "-20", "save 20", "save%", "sävé"] {
            assert!(code(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn either_a_percentage_or_an_amount_is_taken_off() {
        let amount = Some(Money::new(500, Currency::USD));
        let input = |percent_off, amount_off: Option<Money>| OffInput {
            percent_off,
            amount_given: amount_off.is_some(),
            amount_off,
        };
        assert_eq!(off(input(None, None)).map_err(|f| f.0), Err("percent_off"));
        assert_eq!(
            off(input(Some(20.0), amount)).map_err(|f| f.0),
            Err("amount_off")
        );
        assert_eq!(
            off(input(Some(20.0), None)),
            Ok(Some(Off::Percent { bp: 2_000 }))
        );
        let none = Some(Money::new(0, Currency::USD));
        assert_eq!(
            off(input(None, none)).map_err(|f| f.0),
            Err("amount_off.amount_minor")
        );
    }

    #[test]
    fn months_belong_to_a_repeating_coupon_alone() {
        assert_eq!(
            duration(Some("repeating"), Some(3)),
            Ok(Duration::Repeating { months: 3 })
        );
        assert_eq!(duration(Some("once"), None), Ok(Duration::Once));
        let faults = [
            (duration(Some("repeating"), None), "duration_in_months"),
            (duration(Some("forever"), Some(3)), "duration_in_months"),
            (duration(None, None), "duration"),
        ];
        for (read, field) in faults {
            assert_eq!(read.map_err(|fault| fault.0), Err(field));
        }
    }
}
