//! How a command fails: one sentence for the cause, one for the next step, on standard error.
//! Deliberately absent: exit codes beyond 0 and 1. A script that must tell causes apart reads `--json` of a working command.

use std::fmt;

/// A cause with what to do about it. Works as an error of its own and as context around another.
#[derive(Debug)]
pub struct Advice {
    cause: String,
    next: String,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

impl std::error::Error for Advice {}

/// An error that stands alone.
pub fn refuse(cause: impl Into<String>, next: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Advice {
        cause: cause.into(),
        next: next.into(),
    })
}

/// Adds cause and next step around an error below.
pub trait Advise<T> {
    /// The error of `self` stays as the source.
    fn advise(self, cause: impl Into<String>, next: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> Advise<T> for Result<T, E> {
    fn advise(self, cause: impl Into<String>, next: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|error| {
            error.into().context(Advice {
                cause: cause.into(),
                next: next.into(),
            })
        })
    }
}

/// The text for standard error.
pub fn text(error: &anyhow::Error) -> String {
    let mut causes: Vec<String> = Vec::new();
    for cause in error.chain().map(ToString::to_string) {
        // Some errors print their source themselves; the same words twice help nobody.
        if !causes.iter().any(|said| said.contains(&cause)) {
            causes.push(cause);
        }
    }
    let mut text = format!("error: {}", causes.join(": "));
    if let Some(advice) = error.downcast_ref::<Advice>() {
        text.push_str("\n next: ");
        text.push_str(&advice.next);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_its_causes_once_and_the_next_step() {
        let refused: Result<(), _> = Err(std::io::Error::other("connection refused"));
        let error = refused
            .advise("the gateway does not answer", "start it with `mainstay up`")
            .expect_err("it was an error");
        assert_eq!(
            text(&error),
            "error: the gateway does not answer: connection refused\n next: start it with `mainstay up`"
        );
        assert_eq!(text(&refuse("no", "yes")), "error: no\n next: yes");
    }
}
