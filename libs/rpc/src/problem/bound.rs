//! How large a refusal may be on the wire. It travels in a header, and a peer that meets one larger than it takes breaks
//! the whole connection, with every other call on it.
//!
//! Deliberately absent: judging what matters most. The typed detail goes first, then faults in their order.

use mainstay_proto::errors::v1::{FieldViolation, Problem};
use prost::Message;
use prost::encoding::encoded_len_varint;

/// The most bytes that a status's details may have, before base64.
pub(crate) const DETAILS_MOST: usize = 32 * 1024;
/// The most bytes of an occurrence's words; they travel three times, once percent-encoded.
const WORDS_MOST: usize = 2 * 1024;
/// What the envelope and the closing violation need.
const AROUND: usize = 512;

/// Cuts a problem to what fits; a closing violation says what does not.
pub(super) fn bound(mut problem: Problem) -> Problem {
    shorten(&mut problem.detail);
    let data = problem.data.take();
    let errors = std::mem::take(&mut problem.errors);
    // The words stand in the envelope as well.
    let mut left = DETAILS_MOST - AROUND - problem.encoded_len() - problem.detail.len();

    let mut left_out = Vec::new();
    if let Some(data) = data {
        match left.checked_sub(field_len(data.encoded_len())) {
            Some(rest) => {
                left = rest;
                problem.data = Some(data);
            }
            None => left_out.push("the details".to_owned()),
        }
    }
    let all = errors.len();
    for error in errors {
        let Some(rest) = left.checked_sub(field_len(error.encoded_len())) else {
            break;
        };
        left = rest;
        problem.errors.push(error);
    }
    let more = all - problem.errors.len();
    if more > 0 {
        left_out.push(format!("{more} more faults"));
    }
    if !left_out.is_empty() {
        problem.errors.push(FieldViolation {
            field: String::new(),
            message: format!("{} do not fit in one answer", left_out.join(" and ")),
        });
    }
    problem
}

/// What a message takes as a field: its tag, its length, itself.
fn field_len(message: usize) -> usize {
    1 + encoded_len_varint(message as u64) + message
}

fn shorten(words: &mut String) {
    if words.len() > WORDS_MOST {
        words.truncate(words.floor_char_boundary(WORDS_MOST - '…'.len_utf8()));
        words.push('…');
    }
}

#[cfg(test)]
mod tests {
    use mainstay_proto::errors::v1::{ErrorReason, GrantExceedsOwn};
    use tonic::Status;

    use super::DETAILS_MOST;
    use crate::problem::Problem;

    /// A problem as it arrives, and how large it was.
    fn sent(problem: Problem) -> (Problem, usize) {
        let status = Status::from(problem);
        (Problem::from_status(&status), status.details().len())
    }

    fn faults(number: usize, size: usize) -> Problem {
        let problem = Problem::new(ErrorReason::InvalidRequest, "no");
        (0..number).fold(problem, |problem, nth| {
            problem.violation(format!("field[{nth}]"), "x".repeat(size))
        })
    }

    fn lacking(number: usize) -> Problem {
        let permissions = (0..number).map(|nth| format!("a.b.{nth:0>60}")).collect();
        Problem::new(ErrorReason::GrantExceedsOwn, "no").with_data(&GrantExceedsOwn { permissions })
    }

    #[test]
    fn what_fits_is_not_touched() {
        let (told, size) = sent(faults(100, 250));
        assert!(size > 24 * 1024);
        assert_eq!(told.errors(), faults(100, 250).errors());
        let (told, _) = sent(lacking(400));
        assert!(told.data_as::<GrantExceedsOwn>().is_some() && told.errors().is_empty());
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let (told, size) = sent(faults(5_000, 100));
        assert!(size <= DETAILS_MOST);
        let (closing, whole) = told.errors().split_last().expect("some");
        assert!(whole.len() > 200);
        let more = 5_000 - whole.len();
        assert_eq!(
            (closing.field.as_str(), closing.message.as_str()),
            (
                "",
                format!("{more} more faults do not fit in one answer").as_str()
            )
        );

        let (told, size) = sent(lacking(1_000).violation("permissions", "too many"));
        assert!(size <= DETAILS_MOST && told.data().is_none());
        let messages: Vec<&str> = told.errors().iter().map(|e| e.message.as_str()).collect();
        assert_eq!(
            messages,
            ["too many", "the details do not fit in one answer"]
        );
    }

    #[test]
    fn no_size_of_any_part_makes_it_larger() {
        for size in [
            0, 1, 126, 127, 128, 129, 1_000, 16_383, 16_384, 32_000, 33_000, 100_000,
        ] {
            for number in [0, 1, 2, 100, 1_000] {
                let words = "ä".repeat(size);
                let problem = (0..number).fold(
                    Problem::new(ErrorReason::GrantExceedsOwn, words.as_str()),
                    |problem, _| problem.violation("f", "x".repeat(size)),
                );
                let permissions = vec!["y".repeat(size)];
                let status = Status::from(problem.with_data(&GrantExceedsOwn { permissions }));
                assert!(status.details().len() <= DETAILS_MOST, "{number} of {size}");
                assert!(status.message().len() <= 2 * 1024);
            }
        }
    }
}
