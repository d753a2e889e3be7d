//! Addresses that websites' forms are sent to: found by a token that is shown once, and taken for one client.

use mainstay_proto::integrations::v1 as proto;
use tonic::{Code, Request};

use crate::agency::{Agency, World, faults};

fn wanted(agency: &Agency<'_>, origins: &[&str]) -> proto::CreateFormEndpointRequest {
    proto::CreateFormEndpointRequest {
        client_id: agency.client.to_string(),
        name: Some("Quote form".to_owned()),
        allowed_origins: origins.iter().map(|origin| (*origin).to_owned()).collect(),
    }
}

async fn known(world: &World, token: &str) -> Option<(String, Vec<String>)> {
    let asked = proto::ListVerificationSecretsRequest {
        provider: "forms".to_owned(),
        endpoint_token: token.to_owned(),
    };
    match world.intake().list_verification_secrets(asked).await {
        Ok(known) => {
            let known = known.into_inner();
            assert!(known.secrets.is_empty());
            Some((known.account, known.allowed_origins))
        }
        Err(status) => {
            assert_eq!(status.code(), Code::NotFound, "{status}");
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_shown_once_found_by_its_token_and_gone_when_it_is_deleted() {
    let mut world = World::new().await;
    let (id, token, client) = {
        let agency = world.agency();
        let mut forms = agency.forms();
        let once = |request| {
            let mut request = Request::new(request);
            let key = "once".parse().expect("ASCII");
            request.metadata_mut().insert("idempotency-key", key);
            request
        };
        let request = || once(wanted(&agency, &["https://acme.test"]));
        let made = forms.create_form_endpoint(request()).await;
        let made = made.expect("made").into_inner();
        let (id, token) = (made.id.expect("an id"), made.token.expect("a token"));
        let again = forms.create_form_endpoint(request()).await;
        let again = again.expect("the same").into_inner();
        assert_eq!((again.id.as_ref(), again.token), (Some(&id), None));
        let listed = forms
            .list_form_endpoints(proto::ListFormEndpointsRequest {
                client_id: agency.client.to_string(),
                ..Default::default()
            })
            .await
            .expect("listed")
            .into_inner();
        assert_eq!(listed.data.len(), 1);
        assert!(!format!("{listed:?}").contains(&token));
        assert!(
            !world.dump().await.contains(&token),
            "only its hash is kept"
        );
        let origins = vec!["https://acme.test".to_owned()];
        assert_eq!(known(&world, &token).await, Some((id.clone(), origins)));
        assert_eq!(known(&world, "made-up").await, None);
        let delete = || proto::DeleteFormEndpointRequest {
            client_id: agency.client.to_string(),
            form_endpoint_id: id.clone(),
        };
        forms.delete_form_endpoint(delete()).await.expect("deleted");
        let gone = forms.delete_form_endpoint(delete()).await;
        assert_eq!(gone.expect_err("gone").code(), Code::NotFound);
        (id, token, agency.client)
    };
    assert_eq!(known(&world, &token).await, None);
    // What was taken before still finds its client.
    world
        .store(proto::Webhook {
            provider: "forms".to_owned(),
            account: id,
            event_key: "1".to_owned(),
            r#type: "form.submitted".to_owned(),
            body: b"{}".as_slice().into(),
            content_type: "application/json".to_owned(),
            received_at: None,
            traceparent: None,
        })
        .await;
    let heard = world.messaging_hears().await;
    assert_eq!(heard.client_id, Some(client.to_string()));
    assert_eq!(
        (heard.account_id, heard.r#type.as_str()),
        (None, "form.submitted")
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_no_browser_sends_is_named_by_its_place() {
    let world = World::new().await;
    let agency = world.agency();
    let request = wanted(&agency, &["https://acme.test", "*", "https://acme.test/"]);
    let refused = agency.forms().create_form_endpoint(request).await;
    assert_eq!(
        faults(&refused.expect_err("refused")),
        ["allowed_origins[1]", "allowed_origins[2]"]
    );
    world.stop().await;
}
