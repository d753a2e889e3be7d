//! The reasons to refuse, as the protos state them: title, HTTP status, page text, typed detail.
//! Deliberately absent: when to refuse; services decide that.

use mainstay_proto::errors::v1::{ErrorReason, Reason};
use prost_reflect::DescriptorPool;

/// One reason and what it says about itself.
#[derive(Debug, Clone)]
pub struct ReasonInfo {
    /// The reason.
    pub reason: ErrorReason,
    /// Its name in problem documents and page addresses: `plan_archived`.
    pub code: String,
    /// The heading, the same for every occurrence.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened, and why.
    pub explanation: String,
    /// What the caller can do.
    pub mend: String,
    /// Full name of the message whose fields join the problem document.
    pub detail: Option<String>,
}

/// Reads every reason but the unspecified one; a reason without its option is a problem.
pub(crate) fn read(pool: &DescriptorPool, problems: &mut Vec<String>) -> Vec<ReasonInfo> {
    let (Some(reasons), Some(extension)) = (
        pool.get_enum_by_name("mainstay.errors.v1.ErrorReason"),
        pool.get_extension_by_name("mainstay.errors.v1.reason"),
    ) else {
        return Vec::new();
    };
    let mut out = Vec::new();
    for value in reasons.values().filter(|value| value.number() != 0) {
        let options = value.options();
        let told = options
            .has_extension(&extension)
            .then(|| options.get_extension(&extension))
            .and_then(|told| told.as_message().cloned())
            .and_then(|told| told.transcode_to::<Reason>().ok());
        let (Some(told), Ok(reason)) = (told, ErrorReason::try_from(value.number())) else {
            problems.push(format!("{}: no reason option", value.full_name()));
            continue;
        };
        let status = u16::try_from(told.status).unwrap_or_default();
        if !(400..600).contains(&status) || told.title.is_empty() {
            problems.push(format!(
                "{}: needs a title and a status from 400 to 599",
                value.full_name()
            ));
        }
        if !told.detail.is_empty() && pool.get_message_by_name(&told.detail).is_none() {
            problems.push(format!(
                "{}: detail {} is no message",
                value.full_name(),
                told.detail
            ));
        }
        out.push(ReasonInfo {
            reason,
            code: value.name().to_ascii_lowercase(),
            title: told.title,
            status,
            explanation: told.explanation,
            mend: told.mend,
            detail: (!told.detail.is_empty()).then_some(told.detail),
        });
    }
    out
}
