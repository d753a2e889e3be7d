//! Decisions about clients. Pure.
//! Deliberately absent: the moves to suspended and canceled, which bring their own effects with them (`closing.rs`).

use super::{Client, Edit, State};

/// The client after the edit; none when nothing would change.
pub fn edit(client: &Client, edit: Edit) -> Option<Client> {
    let mut after = client.clone();
    if let Some(name) = edit.name {
        after.name = name;
    }
    if let Some(email) = edit.email {
        after.email = email;
    }
    if let Some(phone) = edit.phone {
        after.phone = Some(phone);
    }
    if let Some(time_zone) = edit.time_zone {
        after.time_zone = time_zone;
    }
    (after != *client).then_some(after)
}

/// The client after it has paid: in service, if it was not yet. A suspended one stays withheld until the agency says
/// otherwise, and a canceled one is gone for ever. None when nothing changes.
pub fn after_payment(client: &Client) -> Option<Client> {
    match client.state {
        State::Prospect | State::Onboarding => Some(Client {
            state: State::Active,
            ..client.clone()
        }),
        State::Active | State::Suspended | State::Canceled => None,
    }
}

/// What a caller sends back to say which version it has read.
pub fn etag(version: i64) -> String {
    format!("v{version}")
}

/// Whether the caller has read the client as it stands. Whoever sends none takes what there is.
pub fn is_current(client: &Client, sent: Option<&str>) -> bool {
    // If-Match arrives quoted, the body's etag does not.
    sent.is_none_or(|sent| sent.trim_matches('"') == etag(client.version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use mainstay_types::ClientId;

    fn acme() -> Client {
        let at = DateTime::from_timestamp(1_800_000_000, 0).expect("a valid time");
        Client {
            id: ClientId::generate(),
            name: "Acme".into(),
            email: "owner@acme.test".into(),
            phone: None,
            time_zone: "America/Chicago".into(),
            state: State::Active,
            version: 3,
            created_at: at,
            updated_at: at,
        }
    }

    #[test]
    fn an_edit_changes_what_it_names_and_nothing_else() {
        let client = acme();
        let after = edit(
            &client,
            Edit {
                phone: Some("+15125550100".into()),
                ..Edit::default()
            },
        )
        .expect("a change");
        assert_eq!(after.phone.as_deref(), Some("+15125550100"));
        assert_eq!(after.name, client.name);
    }

    #[test]
    fn an_edit_to_what_stands_already_is_no_change() {
        let client = acme();
        let same = Edit {
            name: Some("Acme".into()),
            ..Edit::default()
        };
        assert_eq!(edit(&client, same), None);
    }

    #[test]
    fn whoever_pays_is_in_service_unless_the_agency_withholds_it() {
        let paid = |state| after_payment(&Client { state, ..acme() }).map(|after| after.state);
        assert_eq!(paid(State::Prospect), Some(State::Active));
        assert_eq!(paid(State::Onboarding), Some(State::Active));
        for stays in [State::Active, State::Suspended, State::Canceled] {
            assert_eq!(paid(stays), None, "{stays:?}");
        }
    }

    #[test]
    fn an_old_etag_is_refused() {
        let client = acme();
        assert!(is_current(&client, None));
        assert!(is_current(&client, Some("v3")));
        assert!(is_current(&client, Some("\"v3\"")));
        assert!(!is_current(&client, Some("v2")));
        assert!(!is_current(&client, Some("")));
    }
}
