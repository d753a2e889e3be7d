//! The link in a notice (IDN-05): one for an escalation and a member.
//! Deliberately absent: an end. Whether it still takes anything is the escalation's to say.

use mainstay_runtime::link::LinkTokens;
use mainstay_types::{AgencyId, ClientId, EscalationId, MemberId, Tenant};

/// What the tokens are for.
const FOR: &str = "mainstay claim link 1";

/// What a link is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// Whose escalation.
    pub tenant: Tenant,
    /// Which.
    pub escalation: EscalationId,
    /// Who may take it by this link.
    pub member: MemberId,
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

    /// The address at which a member takes an escalation.
    pub(crate) fn link(&self, subject: Subject) -> String {
        let ids = [
            subject.tenant.agency.uuid(),
            subject.tenant.client.uuid(),
            subject.escalation.uuid(),
            subject.member.uuid(),
        ];
        format!("{}/claims/{}", self.public, self.tokens.make(&ids))
    }

    /// What a token is about; none unless it was made here.
    pub(crate) fn read(&self, token: &str) -> Option<Subject> {
        let [agency, client, escalation, member] = self.tokens.read(token)?;
        Some(Subject {
            tenant: Tenant {
                agency: AgencyId::from_uuid(agency),
                client: ClientId::from_uuid(client),
            },
            escalation: EscalationId::from_uuid(escalation),
            member: MemberId::from_uuid(member),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_read_as_it_was_made() {
        let subject = Subject {
            tenant: Tenant {
                agency: AgencyId::generate(),
                client: ClientId::generate(),
            },
            escalation: EscalationId::generate(),
            member: MemberId::generate(),
        };
        let links = Links::new(&[9; 32], "https://a.test/");
        let link = links.link(subject);
        let token = link.strip_prefix("https://a.test/claims/");
        let token = token.expect("below the public address");
        assert!(token.len() <= 200, "what the RPC takes: {}", token.len());
        assert_eq!(links.read(token), Some(subject));
        assert_eq!(Links::new(&[8; 32], "https://a.test").read(token), None);
    }
}
