//! What websites' forms do: one submission a form, one lead a person, and no more consent than was given.
//! Deliberately absent: names of fields one by one; the rules have a table of them.

use futures_util::future::join_all;
use mainstay_proto::messaging::v1 as proto;
use mainstay_proto::messaging::v1::provider_event_service_client::ProviderEventServiceClient;
use mainstay_proto::messaging::v1::{ConsentBasis, ProviderEventOutcome};
use mainstay_rpc::ErrorReason;
use mainstay_types::{FormEndpointId, FormSubmissionId, ServiceName, WebhookEventId};
use tonic::Status;

use crate::world::{Agency, World, reason};

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// A form as integrations hands it on.
fn form(agency: &Agency<'_>, content_type: &str, body: &str) -> proto::HandleProviderEventRequest {
    proto::HandleProviderEventRequest {
        agency_id: agency.id.to_string(),
        client_id: Some(agency.client.to_string()),
        provider: "forms".to_owned(),
        account_id: None,
        event_key: "of no matter here".to_owned(),
        r#type: "form.submitted".to_owned(),
        content_type: content_type.to_owned(),
        body: body.as_bytes().to_vec(),
        received_at: None,
        form_endpoint_id: Some(FormEndpointId::generate().to_string()),
        webhook_event_id: WebhookEventId::generate().to_string(),
    }
}

async fn hand_over(
    agency: &Agency<'_>,
    request: proto::HandleProviderEventRequest,
) -> Result<proto::HandleProviderEventResponse, Status> {
    let channel = agency
        .world
        .stage
        .channel(ServiceName::Integrations, ServiceName::Messaging);
    let mut messaging = ProviderEventServiceClient::new(channel);
    Ok(messaging.handle_provider_event(request).await?.into_inner())
}

async fn take(agency: &Agency<'_>, kind: &str, body: &str) -> proto::HandleProviderEventResponse {
    let request = form(agency, kind, body);
    hand_over(agency, request).await.expect("taken")
}

async fn submissions(agency: &Agency<'_>) -> Vec<proto::FormSubmission> {
    let request = proto::ListFormSubmissionsRequest {
        client_id: agency.client.to_string(),
        ..Default::default()
    };
    let page = agency.forms().list_form_submissions(request).await;
    page.expect("a page").into_inner().data
}

async fn lead(agency: &Agency<'_>, id: &str) -> proto::Lead {
    let request = proto::GetLeadRequest {
        client_id: agency.client.to_string(),
        lead_id: id.to_owned(),
    };
    let found = agency.leads().get_lead(request).await;
    found.expect("a lead").into_inner()
}

/// On what grounds an address may be written to, by channel.
async fn grounds(agency: &Agency<'_>, address: &str) -> Vec<(proto::Channel, ConsentBasis)> {
    let request = proto::GetConsentRequest {
        client_id: agency.client.to_string(),
        address: address.to_owned(),
    };
    let contact = agency.consents().get_consent(request).await;
    let channels = contact.expect("a contact").into_inner().channels;
    let given = channels.iter().filter(|one| one.basis.is_some());
    given.map(|one| (one.channel(), one.basis())).collect()
}

const SUBMITTED: &str =
    "select count(*) from messaging.outbox_event where type = 'messaging.form.submitted'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_makes_a_lead_with_what_was_agreed_to_and_is_kept_as_it_was_sent() {
    let world = World::new().await;
    let agency = world.agency("forms").await;
    let body = "first_name=Ann&last_name=Lee&E-Mail=Ann%40Example.test&Phone=%28512%29+555-0123&message=My+roof+leaks\
                &sms_consent=on&sms_consent_text=I+agree+to+texts.&time_zone=America%2FChicago";
    let request = form(&agency, FORM, body);
    let endpoint = request.form_endpoint_id.clone().expect("an id");
    let taken = hand_over(&agency, request).await.expect("taken");
    assert_eq!(taken.outcome(), ProviderEventOutcome::Applied, "{taken:?}");
    let kept = submissions(&agency).await;
    assert_eq!(kept.len(), 1);
    let kept = &kept[0];
    assert_eq!(kept.form_endpoint_id.as_ref(), Some(&endpoint));
    assert!(kept.problems.is_empty(), "{kept:?}");
    let fields: Vec<_> = kept
        .fields
        .iter()
        .map(|one| (one.name(), one.value()))
        .collect();
    assert_eq!(fields[2], ("E-Mail", "Ann@Example.test"), "as it was sent");
    assert_eq!(fields.len(), 8);

    let id = kept.lead_id.clone().expect("a lead");
    let ann = lead(&agency, &id).await;
    assert_eq!(ann.name.as_deref(), Some("Ann Lee"));
    assert_eq!(ann.source(), proto::LeadSource::Form);
    assert_eq!(ann.time_zone.as_deref(), Some("America/Chicago"));
    assert_eq!(ann.phone.as_deref(), Some("+15125550123"));
    assert_eq!(ann.email.as_deref(), Some("ann@example.test"));
    assert_eq!(
        grounds(&agency, "+15125550123").await,
        [(proto::Channel::Sms, ConsentBasis::ExpressWritten)]
    );
    assert_eq!(
        grounds(&agency, "ann@example.test").await,
        [(proto::Channel::Email, ConsentBasis::Inquiry)]
    );
    let signed = format!(
        "select count(*) from messaging.consent_event where source = 'form:{endpoint}' and text = 'I agree to texts.'"
    );
    assert_eq!(world.postgres.count(&signed).await, 1);
    assert_eq!(world.postgres.count(SUBMITTED).await, 1);

    let request = |id: String| proto::GetFormSubmissionRequest {
        client_id: agency.client.to_string(),
        form_submission_id: id,
    };
    let one = request(kept.id.clone().expect("an id"));
    let one = agency.forms().get_form_submission(one).await.expect("it");
    assert_eq!(&one.into_inner(), kept);
    let none = request(FormSubmissionId::generate().to_string());
    let refused = agency.forms().get_form_submission(none).await;
    assert_eq!(reason(&refused.expect_err("none")), ErrorReason::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_form_handed_on_again_and_again_has_its_effect_once() {
    let world = World::new().await;
    let agency = world.agency("again").await;
    let request = form(
        &agency,
        JSON,
        r#"{"name": "Ann", "email": "ann@example.test"}"#,
    );
    let all = join_all((0..12).map(|_| hand_over(&agency, request.clone()))).await;
    let applied = all
        .into_iter()
        .map(|one| one.expect("taken").outcome())
        .filter(|outcome| *outcome == ProviderEventOutcome::Applied);
    assert_eq!(applied.count(), 1);
    assert_eq!(submissions(&agency).await.len(), 1);
    for sql in [
        SUBMITTED,
        "select count(*) from messaging.consent_event",
        "select count(*) from messaging.lead",
    ] {
        assert_eq!(world.postgres.count(sql).await, 1, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_forms_of_somebody_new_at_once_are_one_lead() {
    let world = World::new().await;
    let agency = world.agency("thirty").await;
    let body = "name=Ann&email=ann%40example.test&phone=%2B15125550123";
    // Beside them the same person is typed in by somebody, which may win or lose.
    let typed = async {
        let request = proto::CreateLeadRequest {
            client_id: agency.client.to_string(),
            email: Some("ann@example.test".to_owned()),
            ..Default::default()
        };
        drop(agency.leads().create_lead(request).await);
    };
    let forms = join_all((0..30).map(|_| take(&agency, FORM, body)));
    let (taken, ()) = tokio::join!(forms, typed);
    for one in taken {
        assert_eq!(one.outcome(), ProviderEventOutcome::Applied, "{one:?}");
    }
    let kept = submissions(&agency).await;
    assert_eq!(kept.len(), 30);
    let mut leads: Vec<_> = kept.iter().map(|one| one.lead_id.clone()).collect();
    leads.dedup();
    assert_eq!(leads.len(), 1, "one lead of all of them");
    assert_eq!(
        world
            .postgres
            .count("select count(*) from messaging.lead")
            .await,
        1
    );
    let addresses = "select count(*) from messaging.lead_identity";
    assert_eq!(world.postgres.count(addresses).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_more_is_the_same_lead_and_nobody_is_given_anothers_address() {
    let world = World::new().await;
    let agency = world.agency("more").await;
    take(&agency, FORM, "email=ann%40example.test").await;
    take(
        &agency,
        FORM,
        "name=Ann&email=ann%40example.test&phone=%2B15125550123",
    )
    .await;
    take(&agency, FORM, "name=Anna&phone=%2B15125550123").await;
    let kept = submissions(&agency).await;
    let ann = kept[0].lead_id.clone().expect("a lead");
    assert!(kept.iter().all(|one| one.lead_id.as_ref() == Some(&ann)));
    let known = lead(&agency, &ann).await;
    assert_eq!(known.name.as_deref(), Some("Ann"), "what is known stays");
    assert_eq!(known.phone.as_deref(), Some("+15125550123"));

    take(&agency, FORM, "name=Bob&email=bob%40example.test").await;
    let both = take(
        &agency,
        FORM,
        "phone=%2B15125550123&email=bob%40example.test",
    )
    .await;
    assert!(both.detail.contains("another lead's"), "{both:?}");
    let newest = &submissions(&agency).await[0];
    assert_eq!(newest.lead_id.as_ref(), Some(&ann), "the number is surer");
    assert_eq!(newest.problems[0].field(), "email");
    let leads = "select count(*) from messaging.lead";
    assert_eq!(world.postgres.count(leads).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_fields_are_named_and_a_form_of_nobody_is_kept() {
    let world = World::new().await;
    let agency = world.agency("bad").await;
    let half = take(&agency, FORM, "Tel=none&email=ann%40example.test&tz=Texas").await;
    assert_eq!(half.outcome(), ProviderEventOutcome::Applied);
    assert!(half.detail.contains("Tel must be"), "{half:?}");
    let nobody = form(
        &agency,
        JSON,
        r#"{"name": "Ann", "message": "hi", "phone": "tomorrow"}"#,
    );
    let taken = hand_over(&agency, nobody.clone()).await.expect("taken");
    assert_eq!(taken.outcome(), ProviderEventOutcome::Ignored);
    assert!(taken.detail.contains("phone must be"), "{taken:?}");
    let again = hand_over(&agency, nobody).await.expect("taken");
    assert_eq!(again.outcome(), ProviderEventOutcome::Duplicate);
    let silent = take(&agency, FORM, "message=hi").await;
    assert!(
        silent.detail.contains("no phone and no email"),
        "{silent:?}"
    );
    let kept = submissions(&agency).await;
    let of_nobody = kept.iter().filter(|one| one.lead_id.is_none()).count();
    assert_eq!((kept.len(), of_nobody), (3, 2));
    let named: Vec<_> = kept[2].problems.iter().map(|one| one.field()).collect();
    assert_eq!(named, ["Tel", "tz"], "as the form names them");
    assert_eq!(
        world
            .postgres
            .count("select count(*) from messaging.lead")
            .await,
        1
    );

    let unreadable = hand_over(&agency, form(&agency, JSON, "[]")).await;
    assert_eq!(
        reason(&unreadable.expect_err("no form")),
        ErrorReason::InvalidRequest
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticked_box_does_not_end_an_opt_out() {
    let world = World::new().await;
    let agency = world.agency("stopped").await;
    let request = proto::OptOutRequest {
        client_id: agency.client.to_string(),
        address: Some("+15125550123".to_owned()),
        source: Some("call".to_owned()),
        ..Default::default()
    };
    agency.consents().opt_out(request).await.expect("opted out");
    take(&agency, FORM, "phone=%2B15125550123&sms_consent=on").await;
    let still = "select count(*) from messaging.consent_standing
                 where channel = 'sms' and opted_out_at is not null and basis = 'express_written'";
    assert_eq!(world.postgres.count(still).await, 1);
}
