//! How the answers of several services become one. Deliberately absent: asking them.

use mainstay_rpc::{ErrorReason, Problem};
use mainstay_types::ServiceName;

use super::DeadLetter;

/// The first `limit` of what each service has, each of which gave its own first `limit`.
pub fn merged(parts: Vec<Vec<DeadLetter>>, limit: usize) -> Vec<DeadLetter> {
    let mut all: Vec<DeadLetter> = parts.into_iter().flatten().collect();
    all.sort_unstable_by_key(|letter| std::cmp::Reverse(letter.place));
    all.truncate(limit);
    all
}

/// What all services together say of one dead letter: whose it is, where one has it. Only when each says that it has
/// none is there none; as long as one is silent that is not known.
pub fn owner<T>(
    answers: Vec<(ServiceName, Result<T, Problem>)>,
) -> Result<(ServiceName, T), Problem> {
    let mut silent = None;
    for (service, answer) in answers {
        match answer {
            Ok(found) => return Ok((service, found)),
            Err(problem) if problem.reason() == ErrorReason::NotFound => {}
            // It has it, and says why not.
            Err(problem) if problem.reason() == ErrorReason::DeadLetterSuperseded => {
                return Err(problem);
            }
            Err(problem) => silent = Some(unanswered(service, problem)),
        }
    }
    Err(silent.unwrap_or_else(|| Problem::not_found("dead letter")))
}

/// A service that cannot be asked makes the whole unknown: half of an answer would look like all of it.
pub fn unanswered(service: ServiceName, problem: Problem) -> Problem {
    match problem.reason() {
        ErrorReason::Unavailable | ErrorReason::DeadlineExceeded => Problem::new(
            ErrorReason::Unavailable,
            format!("{service} does not answer now; `service` asks one of the others alone."),
        )
        .retry_after(problem.retry_after_seconds().unwrap_or(1))
        .with_source(problem),
        _ => Problem::internal(problem),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::dead_letter::Place;

    fn letter(service: ServiceName, dead_at_us: i64) -> DeadLetter {
        DeadLetter {
            service,
            place: Place {
                dead_at_us,
                job: Uuid::from_u128(dead_at_us as u128),
            },
            kind: "some_work".into(),
            client: None,
            attempts: 20,
            error: "it failed".into(),
            traceparent: None,
            enqueued_at: None,
        }
    }

    #[test]
    fn the_last_given_up_of_all_services_comes_first() {
        let billing = |at| letter(ServiceName::Billing, at);
        let identity = |at| letter(ServiceName::Identity, at);
        let merged = merged(
            vec![
                vec![billing(9), billing(4), billing(1)],
                vec![],
                vec![identity(7), identity(5)],
            ],
            4,
        );
        assert_eq!(merged, [billing(9), identity(7), identity(5), billing(4)]);
    }

    #[test]
    fn a_dead_letter_is_unknown_only_when_every_service_says_so() {
        let none = || Err::<(), _>(Problem::not_found("dead letter"));
        let away = || Err(Problem::unavailable("connection refused"));
        let superseded = || {
            Err(Problem::new(
                ErrorReason::DeadLetterSuperseded,
                "Another is queued.",
            ))
        };
        for (answers, expected) in [
            (vec![none(), none()], Err(ErrorReason::NotFound)),
            (vec![none(), away()], Err(ErrorReason::Unavailable)),
            (vec![away(), Ok(())], Ok(1)),
            (vec![Ok(()), away()], Ok(0)),
            (
                vec![away(), superseded()],
                Err(ErrorReason::DeadLetterSuperseded),
            ),
            (
                vec![none(), Err(Problem::internal("a bug"))],
                Err(ErrorReason::Internal),
            ),
        ] {
            let services = [ServiceName::Identity, ServiceName::Billing];
            let owner = owner(services.into_iter().zip(answers).collect());
            let owner = owner
                .map(|(service, ())| usize::from(service == ServiceName::Billing))
                .map_err(|problem| problem.reason());
            assert_eq!(owner, expected);
        }
    }
}
