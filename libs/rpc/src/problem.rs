//! Refusals: what the caller is told, and what only we know, as two things that never mix.
//!
//! Deliberately absent: logging. A problem's source is logged once, by the server stack, where the call ends.

mod bound;

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use mainstay_proto::errors::v1::{self as proto, ErrorReason, FieldViolation};
use mainstay_transcode::Schema;
use prost::Message;
use tonic::{Code, Status};

use crate::wire::RpcStatus;

/// Why a call is refused. Becomes a gRPC status, and at the gateway an RFC 9457 document.
#[derive(Clone)]
pub struct Problem(Box<Told>);

/// Boxed, because refusals are rare and results are everywhere.
#[derive(Clone)]
struct Told {
    reason: ErrorReason,
    detail: String,
    errors: Vec<FieldViolation>,
    retry_after_seconds: Option<i32>,
    data: Option<prost_types::Any>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl Problem {
    /// A refusal; `detail` says this occurrence in words for the caller.
    pub fn new(reason: ErrorReason, detail: impl Into<String>) -> Self {
        Problem(Box::new(Told {
            reason,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after_seconds: None,
            data: None,
            source: None,
        }))
    }

    /// There is no such object for this caller. The same text whether it never was or belongs to others.
    pub fn not_found(noun: &str) -> Self {
        Self::new(ErrorReason::NotFound, format!("There is no such {noun}."))
    }

    /// The request has these faults.
    pub fn invalid(errors: Vec<FieldViolation>) -> Self {
        let detail = match errors.as_slice() {
            [one] => format!("{}: {}", one.field, one.message),
            many => format!("{} fields are not valid.", many.len()),
        };
        let mut problem = Self::new(ErrorReason::InvalidRequest, detail);
        problem.0.errors = errors;
        problem
    }

    /// No credential, or one that does not hold.
    pub fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(ErrorReason::Unauthenticated, detail)
    }

    /// The permission is missing.
    pub fn permission_denied(permission: &str) -> Self {
        let data = proto::PermissionDenied {
            permission: permission.to_owned(),
        };
        Self::new(
            ErrorReason::PermissionDenied,
            format!("This needs the permission {permission}."),
        )
        .with_data(&data)
    }

    /// A bug, or something of ours that should work and does not. The caller learns nothing but that.
    pub fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(ErrorReason::Internal, "Internal error.").with_source(source)
    }

    /// It cannot be done now; nothing was done. Trying again after a second may help.
    pub fn unavailable(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(ErrorReason::Unavailable, "Temporarily unavailable.")
            .retry_after(1)
            .with_source(source)
    }

    /// The typed detail that the reason names.
    pub fn with_data<M: Message + prost::Name>(mut self, data: &M) -> Self {
        self.0.data = Some(prost_types::Any {
            type_url: M::type_url(),
            value: data.encode_to_vec(),
        });
        self
    }

    /// What only we know. Never sent.
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// A field at fault.
    pub fn violation(mut self, field: impl Into<String>, message: impl Into<String>) -> Self {
        self.0.errors.push(FieldViolation {
            field: field.into(),
            message: message.into(),
        });
        self
    }

    /// When trying again may help.
    pub fn retry_after(mut self, seconds: i32) -> Self {
        self.0.retry_after_seconds = Some(seconds);
        self
    }

    /// Why.
    pub fn reason(&self) -> ErrorReason {
        self.0.reason
    }

    /// This occurrence, in words for the caller.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// Every field at fault.
    pub fn errors(&self) -> &[FieldViolation] {
        &self.0.errors
    }

    /// When trying again may help.
    pub fn retry_after_seconds(&self) -> Option<i32> {
        self.0.retry_after_seconds
    }

    /// The typed detail, as packed.
    pub fn data(&self) -> Option<&prost_types::Any> {
        self.0.data.as_ref()
    }

    /// The typed detail as `M`; none when there is none or it is another.
    pub fn data_as<M: Message + prost::Name + Default>(&self) -> Option<M> {
        self.0.data.as_ref()?.to_msg::<M>().ok()
    }

    /// The HTTP status that the reason declares.
    pub fn http_status(&self) -> u16 {
        Schema::mainstay()
            .reason(self.0.reason)
            .map_or(500, |info| info.status)
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.0.reason,
            ErrorReason::Unavailable
                | ErrorReason::DeadlineExceeded
                | ErrorReason::RateLimited
                | ErrorReason::IdempotencyInFlight
        )
    }

    /// The problem that a failed call carries. A status without one (a broken connection, a foreign server) is told by
    /// its code, with the status as the source.
    pub fn from_status(status: &Status) -> Problem {
        if let Some(problem) = carried(status) {
            return problem;
        }
        let problem = match status.code() {
            Code::Unavailable => {
                Self::new(ErrorReason::Unavailable, "Temporarily unavailable.").retry_after(1)
            }
            Code::DeadlineExceeded | Code::Cancelled => Self::new(
                ErrorReason::DeadlineExceeded,
                "The call did not finish in its time.",
            ),
            Code::ResourceExhausted => {
                Self::new(ErrorReason::PayloadTooLarge, "The message is too large.")
            }
            _ => Self::new(ErrorReason::Internal, "Internal error."),
        };
        problem.with_source(status.clone())
    }
}

fn carried(status: &Status) -> Option<Problem> {
    if status.details().is_empty() {
        return None;
    }
    let envelope = RpcStatus::decode(status.details()).ok()?;
    let packed = envelope
        .details
        .iter()
        .find_map(|any| any.to_msg::<proto::Problem>().ok())?;
    Some(Problem(Box::new(Told {
        // A reason newer than this binary is told as a bug rather than guessed.
        reason: ErrorReason::try_from(packed.reason)
            .ok()
            .filter(|r| *r != ErrorReason::Unspecified)
            .unwrap_or(ErrorReason::Internal),
        detail: packed.detail,
        errors: packed.errors,
        retry_after_seconds: packed.retry_after_seconds,
        data: packed.data,
        source: Error::source(status)
            .map(|source| Arc::from(Box::<dyn Error + Send + Sync>::from(source.to_string()))),
    })))
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Status {
        let code = code_of(problem.http_status()).unwrap_or(Code::Internal);
        let problem = *problem.0;
        let packed = bound::bound(proto::Problem {
            reason: problem.reason.into(),
            detail: problem.detail,
            errors: problem.errors,
            retry_after_seconds: problem.retry_after_seconds,
            data: problem.data,
        });
        let any = prost_types::Any {
            type_url: <proto::Problem as prost::Name>::type_url(),
            value: packed.encode_to_vec(),
        };
        let envelope = RpcStatus {
            code: code.into(),
            message: packed.detail.clone(),
            details: vec![any],
        };
        let mut status = Status::with_details(code, packed.detail, envelope.encode_to_vec().into());
        if let Some(source) = problem.source {
            status.set_source(source);
        }
        status
    }
}

/// The gRPC code of an HTTP status: the one table. None for a status that no reason may declare.
fn code_of(http_status: u16) -> Option<Code> {
    Some(match http_status {
        400 | 415 | 422 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::NotFound,
        405 => Code::Unimplemented,
        409 => Code::FailedPrecondition,
        412 => Code::Aborted,
        413 | 429 => Code::ResourceExhausted,
        500 => Code::Internal,
        503 => Code::Unavailable,
        504 => Code::DeadlineExceeded,
        _ => return None,
    })
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.reason.as_str_name(), self.0.detail)
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Problem")
            .field("reason", &self.0.reason.as_str_name())
            .field("detail", &self.0.detail)
            .field("errors", &self.0.errors)
            .field("source", &self.0.source.as_ref().map(ToString::to_string))
            .finish_non_exhaustive()
    }
}

impl Error for Problem {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn Error + 'static))
    }
}

/// Collects every fault of a request before it is refused.
#[derive(Debug, Default)]
pub struct Violations(Vec<FieldViolation>);

impl Violations {
    /// None so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value, or its fault is noted.
    pub fn check<T, E: fmt::Display>(&mut self, field: &str, result: Result<T, E>) -> Option<T> {
        result
            .map_err(|error| self.add(field, error.to_string()))
            .ok()
    }

    /// The value that must be there, or its absence is noted.
    pub fn required<T>(&mut self, field: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.add(field, "is required");
        }
        value
    }

    /// Notes a fault.
    pub fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldViolation {
            field: field.into(),
            message: message.into(),
        });
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Goes on when there is none.
    ///
    /// # Errors
    /// `INVALID_REQUEST` with all of them.
    pub fn finish(self) -> Result<(), Problem> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Problem::invalid(self.0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_grpc_code() {
        for info in Schema::mainstay().reasons() {
            assert!(
                code_of(info.status).is_some(),
                "{} declares status {}",
                info.code,
                info.status
            );
        }
    }

    #[test]
    fn a_problem_survives_the_wire_and_its_source_does_not() {
        let sent = Problem::permission_denied("billing.plans.create")
            .with_source("role table is on fire")
            .retry_after(7);
        let status = Status::from(sent);
        assert_eq!(status.code(), Code::PermissionDenied);
        let mut headers = http::HeaderMap::new();
        status.add_header(&mut headers).expect("headers");
        assert!(!format!("{headers:?}").contains("fire"));
        let arrived = Problem::from_status(&Status::from_header_map(&headers).expect("a status"));
        assert_eq!(arrived.reason(), ErrorReason::PermissionDenied);
        assert_eq!(arrived.retry_after_seconds(), Some(7));
        assert_eq!(
            arrived
                .data_as::<proto::PermissionDenied>()
                .expect("detail")
                .permission,
            "billing.plans.create"
        );
        assert!(Error::source(&arrived).is_none());
    }

    #[test]
    fn a_status_of_a_stranger_is_told_by_its_code() {
        assert_eq!(
            Problem::from_status(&Status::unavailable("tcp connect error")).reason(),
            ErrorReason::Unavailable
        );
        assert_eq!(
            Problem::from_status(&Status::unknown("h2 says no")).reason(),
            ErrorReason::Internal
        );
        assert_eq!(
            Problem::from_status(&Status::unknown("h2 says no")).detail(),
            "Internal error."
        );
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let mut faults = Violations::new();
        assert_eq!(faults.check("amount", "12".parse::<i32>()), Some(12));
        faults.check("interval", "x".parse::<i32>());
        faults.required::<()>("name", None);
        let problem = faults.finish().expect_err("two faults");
        let fields: Vec<&str> = problem
            .errors()
            .iter()
            .map(|error| error.field.as_str())
            .collect();
        assert_eq!(fields, ["interval", "name"]);
    }
}
