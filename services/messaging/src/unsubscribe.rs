//! Unsubscribing by a link (MSG-12, RFC 8058): which mail carries one, and what whoever follows it is spared.
//! Deliberately absent: the page, which is the gateway's; and a link that ends. A mail is read when it is read.
//!
//! Reading order: [`token`] (what stands in a link) → this → `rpc`.

mod rpc;
mod sql;
pub(crate) mod token;

use mainstay_jobs::failure;
use mainstay_jobs::record::By;
use mainstay_rpc::{Problem, ServiceName};

pub use token::Links;

use crate::consent::{self, Kind, Said};
use crate::gate::rules::{Binding, binding};
use crate::gate::{Channel, Purpose, Rule};
use crate::message::sql::lock_sending;
use crate::{Messaging, address::Address};

use token::Subject;

/// How an opt-out came that came by a link.
const SOURCE: &str = "unsubscribe_link";

/// Why not.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no link of ours.
    #[error("there is no such link")]
    NotFound,
    /// The database.
    #[error(transparent)]
    Database(#[from] mainstay_db::Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        match error {
            Error::NotFound => Problem::not_found("link"),
            Error::Database(error) => failure::database(error),
        }
    }
}

/// Whether a message carries a link: mail that an opt-out holds back, but for notices to staff, who joined and leave otherwise.
pub(crate) fn carries_link(channel: Channel, purpose: Purpose) -> bool {
    channel == Channel::Email
        && binding(purpose, Rule::OptOut) != Binding::Free
        && purpose != Purpose::StaffNotice
}

/// The text as it leaves: marketing says at its end how to get no more of it (15 U.S.C. 7704(a)(3)).
pub(crate) fn body(body: &str, purpose: Purpose, link: Option<&str>) -> String {
    match link {
        Some(link) if purpose == Purpose::Marketing => {
            format!("{}\n\nUnsubscribe: {link}\n", body.trim_end())
        }
        _ => body.to_owned(),
    }
}

/// Whether a token is one of ours, and of a message that there is.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn check(messaging: &Messaging, token: &str) -> Result<(), Error> {
    let subject = messaging.links.read(token).ok_or(Error::NotFound)?;
    let mut tx = messaging.database.tenant(subject.tenant).await?;
    let address = sql::find_address(tx.conn(), subject).await?;
    tx.commit().await?;
    address.map(|_| ()).ok_or(Error::NotFound)
}

/// Opts the address that the message went to out of mail. Again, it changes nothing.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn unsubscribe(messaging: &Messaging, token: &str) -> Result<(), Error> {
    let subject = messaging.links.read(token).ok_or(Error::NotFound)?;
    let Subject { tenant, message } = subject;
    let by = By::itself(ServiceName::Messaging, tenant.agency, messaging.clock.now());
    let mut tx = messaging.database.tenant(tenant).await?;
    lock_sending(tx.conn(), tenant).await?;
    let address: Address = sql::find_address(tx.conn(), subject)
        .await?
        .ok_or(Error::NotFound)?;
    let said = Said {
        source: SOURCE.to_owned(),
        text: Some(format!("the link in {message}")),
    };
    let what = (Kind::OptOut, said);
    let changed =
        consent::change_in(tx.conn(), tenant, &by, &address, &[Channel::Email], what).await?;
    tx.commit().await?;
    tracing::info!(message.id = %message, changed, "somebody followed the link in a mail");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_that_an_opt_out_ends_carries_a_link_and_nothing_else_does() {
        let carry: Vec<Purpose> = Purpose::ALL
            .iter()
            .copied()
            .filter(|purpose| carries_link(Channel::Email, *purpose))
            .collect();
        let wanted = [
            Purpose::Marketing,
            Purpose::Conversational,
            Purpose::Transactional,
        ];
        assert_eq!(carry, wanted);
        for channel in [Channel::Sms, Channel::Whatsapp, Channel::Voice] {
            assert!(
                Purpose::ALL
                    .iter()
                    .all(|purpose| !carries_link(channel, *purpose))
            );
        }
    }

    #[test]
    fn marketing_says_at_its_end_how_to_get_no_more_of_it() {
        let link = Some("https://a.test/unsubscribe/x");
        assert_eq!(
            body("Sale!\n", Purpose::Marketing, link),
            "Sale!\n\nUnsubscribe: https://a.test/unsubscribe/x\n"
        );
        assert_eq!(body("Hi\n", Purpose::Conversational, link), "Hi\n");
        assert_eq!(body("Sale!\n", Purpose::Marketing, None), "Sale!\n");
    }
}
