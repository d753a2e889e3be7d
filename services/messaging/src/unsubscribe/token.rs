//! What stands in a link: the message by its ids, signed.
//! Deliberately absent: an address, a name, a time. A mail that is handed over again is the same mail.

use mainstay_runtime::link::LinkTokens;
use mainstay_types::{AgencyId, ClientId, MessageId, Tenant};

/// What the tokens are for.
const FOR: &str = "mainstay unsubscribe link 1";

/// What a link is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subject {
    /// Whose message.
    pub tenant: Tenant,
    /// Which.
    pub message: MessageId,
}

/// Makes links and reads them.
#[derive(Debug, Clone)]
pub struct Links {
    tokens: LinkTokens,
    public: String,
}

impl Links {
    /// With a key that is derived from this one, below the gateway's address.
    pub fn new(secret: &[u8; 32], public: &str) -> Self {
        Links {
            tokens: LinkTokens::new(secret, FOR),
            public: public.trim_end_matches('/').to_owned(),
        }
    }

    /// The address that a message's reader unsubscribes at.
    pub(crate) fn link(&self, subject: Subject) -> String {
        let Subject { tenant, message } = subject;
        let ids = [tenant.agency.uuid(), tenant.client.uuid(), message.uuid()];
        format!("{}/unsubscribe/{}", self.public, self.tokens.make(&ids))
    }

    /// What a token is about; none unless it was made here.
    pub(crate) fn read(&self, token: &str) -> Option<Subject> {
        let [agency, client, message] = self.tokens.read(token)?;
        Some(Subject {
            tenant: Tenant {
                agency: AgencyId::from_uuid(agency),
                client: ClientId::from_uuid(client),
            },
            message: MessageId::from_uuid(message),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn links() -> Links {
        Links::new(&[9; 32], "https://a.test/")
    }

    #[test]
    fn a_link_is_read_as_it_was_made() {
        let subject = Subject {
            tenant: Tenant {
                agency: AgencyId::generate(),
                client: ClientId::generate(),
            },
            message: MessageId::generate(),
        };
        let link = links().link(subject);
        let token = link.strip_prefix("https://a.test/unsubscribe/");
        let token = token.expect("below the public address");
        assert!(token.len() <= 200, "what the RPC takes: {}", token.len());
        assert_eq!(links().read(token), Some(subject));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic_or_believe(text in ".{0,200}") {
            prop_assert_eq!(links().read(&text), None);
        }
    }
}
