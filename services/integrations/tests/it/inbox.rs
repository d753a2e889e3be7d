//! Operators see their own agency's webhooks and nobody else's.

use mainstay_proto::integrations::v1::{
    GetWebhookEventRequest, ListWebhookEventsRequest, WebhookEvent, WebhookEventState,
};
use mainstay_types::{AgencyId, ClientId, WebhookEventId};
use tonic::{Code, Request, Status};

use crate::stage::Stage;

/// A row of the inbox as it stands after some time.
async fn row(
    stage: &Stage,
    whose: Option<(AgencyId, ClientId)>,
    kind: &str,
    state: &str,
) -> WebhookEventId {
    let id = WebhookEventId::generate();
    let or_null = |id: Option<uuid::Uuid>| id.map_or("null".to_owned(), |id| format!("'{id}'"));
    let (processed_at, error) = match state {
        "processed" => ("now()", "null"),
        "received" => ("null", "null"),
        _ => ("null", "'billing answered UNAVAILABLE'"),
    };
    stage
        .database
        .execute(&format!(
            "insert into integrations.webhook_event (id, slot, agency_id, tenant_id, provider, account, event_key, type,
               state, processed_at, error, content_type, body, received_at, traceparent)
             select i, integrations.webhook_slot(i), {}, {}, 'stripe', 'default', 'evt_' || i, '{kind}', '{state}',
               {processed_at}, {error}, 'application/json', '{{}}', now(), '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
             from (select '{}'::uuid) as x (i)",
            or_null(whose.map(|(agency, _)| agency.uuid())),
            or_null(whose.map(|(_, client)| client.uuid())),
            id.uuid()
        ))
        .await;
    id
}

async fn list(
    stage: &Stage,
    request: Request<ListWebhookEventsRequest>,
) -> Result<(Vec<WebhookEvent>, Option<String>), Status> {
    let page = stage
        .inbox()
        .list_webhook_events(request)
        .await?
        .into_inner();
    Ok((page.data, page.next_page_token))
}

fn ids(events: &[WebhookEvent]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|event| event.id.as_deref())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agency_sees_its_own_webhooks_and_answers_for_others_as_for_none() {
    let stage = Stage::start().await;
    let (ours, theirs, client) = (
        AgencyId::generate(),
        AgencyId::generate(),
        ClientId::generate(),
    );
    let mine = row(&stage, Some((ours, client)), "invoice.paid", "processed").await;
    let foreign = row(
        &stage,
        Some((theirs, ClientId::generate())),
        "invoice.paid",
        "processed",
    )
    .await;
    let nobodys = row(&stage, None, "product.created", "processed").await;
    let (events, next) = list(
        &stage,
        stage.acting_for(ours, None, ListWebhookEventsRequest::default()),
    )
    .await
    .expect("listed");
    assert_eq!(ids(&events), [mine.to_string()]);
    assert_eq!(next, None);
    let shown = &events[0];
    assert_eq!(shown.state(), WebhookEventState::Processed);
    assert_eq!(
        shown.trace_id.as_deref(),
        Some("4bf92f3577b34da6a3ce929d0e0e4736")
    );
    assert_eq!(shown.client_id, Some(client.to_string()));
    assert!(shown.received_at.is_some() && shown.processed_at.is_some() && shown.error.is_none());

    let get = async |id: WebhookEventId| {
        let question = GetWebhookEventRequest {
            webhook_event_id: id.to_string(),
        };
        stage
            .inbox()
            .get_webhook_event(stage.acting_for(ours, None, question))
            .await
    };
    assert_eq!(get(mine).await.expect("mine").into_inner(), *shown);
    let absent = get(WebhookEventId::generate())
        .await
        .expect_err("there is none");
    assert_eq!(absent.code(), Code::NotFound);
    for hidden in [foreign, nobodys] {
        let refusal = get(hidden).await.expect_err("not ours");
        assert_eq!(
            (refusal.code(), refusal.message(), refusal.details()),
            (absent.code(), absent.message(), absent.details())
        );
    }
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_narrowed_and_walked_newest_first() {
    let stage = Stage::start().await;
    let (agency, client) = (AgencyId::generate(), ClientId::generate());
    let mut made = Vec::new();
    for n in 0..5 {
        let (kind, state) = if n % 2 == 0 {
            ("invoice.paid", "processed")
        } else {
            ("charge.succeeded", "failed")
        };
        made.push(
            row(&stage, Some((agency, client)), kind, state)
                .await
                .to_string(),
        );
    }
    made.reverse();
    let mut walked = Vec::new();
    let mut page_token = None;
    loop {
        let question = ListWebhookEventsRequest {
            page_size: Some(2),
            page_token,
            ..Default::default()
        };
        let (events, next) = list(&stage, stage.acting_for(agency, None, question))
            .await
            .expect("a page");
        assert!(events.len() <= 2);
        walked.extend(events.into_iter().filter_map(|event| event.id));
        page_token = next;
        if page_token.is_none() {
            break;
        }
    }
    assert_eq!(walked, made);

    let narrowed = |question: ListWebhookEventsRequest| async {
        let (events, _) = list(&stage, stage.acting_for(agency, None, question))
            .await
            .expect("listed");
        events.len()
    };
    let failed = ListWebhookEventsRequest {
        state: Some(WebhookEventState::Failed.into()),
        ..Default::default()
    };
    assert_eq!(narrowed(failed).await, 2);
    let paid = ListWebhookEventsRequest {
        r#type: Some("invoice.paid".to_owned()),
        ..Default::default()
    };
    assert_eq!(narrowed(paid).await, 3);
    let twilio = ListWebhookEventsRequest {
        provider: Some("twilio".to_owned()),
        ..Default::default()
    };
    assert_eq!(narrowed(twilio).await, 0);
    let foreign_token = ListWebhookEventsRequest {
        page_token: Some("AAAAAAAAAAAA".to_owned()),
        ..Default::default()
    };
    let refusal = list(&stage, stage.acting_for(agency, None, foreign_token))
        .await
        .expect_err("no token of this list");
    assert_eq!(refusal.code(), Code::InvalidArgument);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sees_only_some_clients_does_not_see_the_agencys_webhooks() {
    let stage = Stage::start().await;
    let (agency, client) = (AgencyId::generate(), ClientId::generate());
    row(&stage, Some((agency, client)), "invoice.paid", "processed").await;
    let request = stage.acting_for(
        agency,
        Some(vec![client]),
        ListWebhookEventsRequest::default(),
    );
    let refusal = list(&stage, request)
        .await
        .expect_err("the permission is the whole agency's");
    assert_eq!(refusal.code(), Code::PermissionDenied);
    stage.stop().await;
}
