//! What a failure at Stripe is to a saga step: a definitive no that the payer can act on, or not known.
//! Deliberately absent: guesses. A refusal that does not prove that nothing happened is not one.

use mainstay_providers::stripe::StripeFailure;
use mainstay_rpc::ErrorReason;

use crate::saga::definition::{Failure, Refusal, Stop};

/// Codes by which Stripe says that the payer must act before the payment can go on.
const NEEDS_AUTHENTICATION: [&str; 4] = [
    "authentication_required",
    "invoice_payment_intent_requires_action",
    "subscription_payment_intent_requires_action",
    "payment_intent_action_required",
];

/// Whether the payment waits for its payer: nothing is refused, and nothing is charged yet.
pub(crate) fn needs_authentication(failure: &StripeFailure) -> bool {
    matches!(failure, StripeFailure::Refused { code: Some(code), .. }
        if NEEDS_AUTHENTICATION.contains(&code.as_str()))
}

/// Classes a failure of a mutating call.
pub(crate) fn stop(failure: StripeFailure) -> Stop {
    let (status, kind, code, decline_code, message) = match &failure {
        StripeFailure::Refused {
            status,
            kind,
            code,
            decline_code,
            message,
            ..
        } => (
            *status,
            kind.as_str(),
            code.as_deref(),
            decline_code.clone(),
            message.clone(),
        ),
        StripeFailure::Unknown { .. } => {
            return Stop::Unknown(Failure {
                key_is_spent: answered_with_error(&failure),
                ..Failure::new(failure.to_string())
            });
        }
        StripeFailure::NotSent { retry_after, .. } => {
            return Stop::Unknown(Failure {
                retry_after: *retry_after,
                ..Failure::new(failure.to_string())
            });
        }
    };
    // Said before Stripe looks at the key: it proves nothing about an earlier try. And it is ours to mend, not the payer's.
    if matches!(status, 401 | 403) || kind == "idempotency_error" {
        return Failure::new(failure.to_string()).into();
    }
    if kind == "card_error" || status == 402 {
        return Refusal {
            decline_code: decline_code.or_else(|| code.map(str::to_owned)),
            ..Refusal::new(ErrorReason::PaymentDeclined, message)
        }
        .into();
    }
    Refusal::new(
        ErrorReason::ProviderRefused,
        format!("Stripe refused: {message}"),
    )
    .into()
}

/// Whether Stripe answered with an error of its own: then no request under this key is under way any more, and the same
/// answer is all that the key will ever give. A key that is still in use, or no answer at all, is not that.
fn answered_with_error(failure: &StripeFailure) -> bool {
    match failure {
        // Also where the stack left Stripe alone after such an answer. Its words are all that tells them apart.
        StripeFailure::Unknown { cause, .. } => cause.contains(" answered 5"),
        StripeFailure::Refused { .. } | StripeFailure::NotSent { .. } => false,
    }
}

/// What is told when Stripe failed and, asked again, turned out to have done nothing.
pub(crate) fn did_not_happen() -> Stop {
    Refusal::new(
        ErrorReason::ProviderRefused,
        "Stripe failed to carry it out. Nothing was charged; it can be tried again.",
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, kind: &str, code: Option<&str>) -> Stop {
        stop(StripeFailure::Refused {
            status,
            kind: kind.to_owned(),
            code: code.map(str::to_owned),
            decline_code: None,
            param: None,
            message: "no".to_owned(),
            request_id: None,
        })
    }

    fn reason(stop: Stop) -> Option<ErrorReason> {
        match stop {
            Stop::Refused(refusal) => Some(refusal.reason()),
            Stop::Unknown(_) | Stop::Waiting(_) => None,
        }
    }

    #[test]
    fn only_what_proves_that_nothing_happened_is_a_refusal() {
        let declined = refused(402, "card_error", Some("card_declined"));
        assert_eq!(reason(declined), Some(ErrorReason::PaymentDeclined));
        let missing = refused(400, "invalid_request_error", Some("resource_missing"));
        assert_eq!(reason(missing), Some(ErrorReason::ProviderRefused));
        assert_eq!(reason(refused(401, "invalid_request_error", None)), None);
        assert_eq!(reason(refused(400, "idempotency_error", None)), None);
        let unknown = StripeFailure::Unknown {
            cause: "timed out".to_owned(),
            request_id: None,
        };
        assert_eq!(reason(stop(unknown)), None);
    }
}
