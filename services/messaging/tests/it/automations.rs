//! Automations from an occasion to messages that arrived (MSG-30, 33, 34, 37), appointments, bursts and answers of a model.
//! Deliberately absent: calls and forms from a provider's webhook on; the platform's journeys have those.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use mainstay_proto::messaging::v1 as proto;
use mainstay_proto::messaging::v1::provider_event_service_client::ProviderEventServiceClient;
use mainstay_rpc::ErrorReason;
use mainstay_types::{FormEndpointId, ServiceName, WebhookEventId};
use serde_json::json;
use tonic::Status;

use crate::carried::Providers;
use crate::sending::{OURS, client, lead, looks, quick, reached, until};
use crate::world::{Agency, World, fields, reason};

pub async fn make(
    agency: &Agency<'_>,
    template: &str,
    variables: &[(&str, &str)],
) -> Result<proto::Automation, Status> {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let request = proto::CreateAutomationRequest {
        client_id: agency.client.to_string(),
        name: Some(template.to_owned()),
        template: Some(template.to_owned()),
        variables: variables.collect(),
        definition: None,
    };
    let made = agency.automations().create_automation(request).await?;
    Ok(made.into_inner())
}

pub async fn activate(agency: &Agency<'_>, automation: &proto::Automation) {
    let request = proto::ActivateAutomationRequest {
        client_id: agency.client.to_string(),
        automation_id: automation.id().to_owned(),
    };
    let active = agency.automations().activate_automation(request).await;
    let state = active.expect("activated").into_inner().state();
    assert_eq!(state, proto::AutomationState::Active);
}

pub async fn active(
    agency: &Agency<'_>,
    template: &str,
    variables: &[(&str, &str)],
) -> proto::Automation {
    let made = make(agency, template, variables).await.expect("made");
    activate(agency, &made).await;
    made
}

async fn runs(agency: &Agency<'_>, automation: &proto::Automation) -> Vec<proto::AutomationRun> {
    let request = proto::ListAutomationRunsRequest {
        client_id: agency.client.to_string(),
        automation_id: automation.id().to_owned(),
        page_size: Some(100),
        page_token: None,
    };
    let runs = agency.automations().list_automation_runs(request).await;
    runs.expect("runs").into_inner().data
}

/// Until all runs have ended.
pub async fn ended(
    agency: &Agency<'_>,
    automation: &proto::Automation,
) -> Vec<proto::AutomationRun> {
    let mut looks = looks();
    while looks.again().await {
        let found = runs(agency, automation).await;
        if !found.is_empty() && found.iter().all(|run| run.ended_at.is_some()) {
            return found;
        }
    }
    panic!("not ended: {:?}", runs(agency, automation).await);
}

async fn book(agency: &Agency<'_>, lead: &str, in_seconds: i64) -> proto::Appointment {
    let now = agency.world.clock.now().timestamp();
    let request = proto::CreateAppointmentRequest {
        client_id: agency.client.to_string(),
        lead_id: Some(lead.to_owned()),
        title: Some("Roof inspection".to_owned()),
        location: None,
        starts_at: Some(crate::world::at(now + in_seconds)),
        time_zone: Some("America/Chicago".to_owned()),
    };
    let booked = agency.appointments().create_appointment(request).await;
    booked.expect("booked").into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_appointment_sets_its_reminders_off_and_moving_or_canceling_takes_them_back() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 10.0).await;
    let mike = lead(&agency, "+15125550123").await;
    let automation = active(
        &agency,
        "appointment_reminder",
        &[("business_name", "Acme")],
    )
    .await;
    let near = 2 * 3600 + 2;
    let soon = book(&agency, &mike, near).await;
    let done = ended(&agency, &automation).await;
    assert_eq!(done[0].state(), proto::AutomationRunState::Done, "{done:?}");
    assert_eq!(done[0].message_ids.len(), 1, "the day before is over");
    until(
        &agency,
        &done[0].message_ids[0],
        proto::MessageStatus::Delivered,
    )
    .await;
    let said = providers.arrived("+15125550123").await;
    assert!(said[0].starts_with("Acme: see you at "), "{said:?}");
    // One that moves takes its reminders along; one that is canceled takes them back.
    let request = proto::UpdateAppointmentRequest {
        client_id: agency.client.to_string(),
        appointment_id: soon.id().to_owned(),
        starts_at: Some(crate::world::at(world.clock.now().timestamp() + 5 * 86_400)),
        etag: soon.etag.clone(),
        ..Default::default()
    };
    let moved = agency.appointments().update_appointment(request).await;
    let moved = moved.expect("moved").into_inner();
    let waits = runs(&agency, &automation).await;
    assert_eq!(waits.len(), 2);
    assert_eq!(waits[0].state(), proto::AutomationRunState::Running);
    let cancel = || proto::CancelAppointmentRequest {
        client_id: agency.client.to_string(),
        appointment_id: moved.id().to_owned(),
    };
    for _ in 0..2 {
        let canceled = agency.appointments().cancel_appointment(cancel()).await;
        let state = canceled.expect("canceled").into_inner().state();
        assert_eq!(state, proto::AppointmentState::Canceled);
    }
    let stopped = &runs(&agency, &automation).await[0];
    assert_eq!(stopped.state(), proto::AutomationRunState::Stopped);
    assert_eq!(stopped.reason(), "appointment_ended");
    let kept = proto::EndAppointmentRequest {
        client_id: agency.client.to_string(),
        appointment_id: moved.id().to_owned(),
        state: Some(proto::AppointmentState::Kept.into()),
    };
    let refused = agency.appointments().end_appointment(kept).await;
    let refused = refused.expect_err("it was canceled");
    assert_eq!(reason(&refused), ErrorReason::AppointmentEnded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_what_runs_for_that_person_and_for_nobody_else() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 10.0).await;
    let mike = lead(&agency, "+15125550123").await;
    let ann = lead(&agency, "+15125550124").await;
    let automation = active(
        &agency,
        "appointment_reminder",
        &[("business_name", "Acme")],
    )
    .await;
    book(&agency, &mike, 3 * 86_400).await;
    book(&agency, &ann, 3 * 86_400).await;
    providers
        .text("+15125550123", OURS, "Please stop texting me")
        .await;
    let stopped = "select count(*) from messaging.automation_run where state = 'stopped' and reason = 'opted_out'";
    reached(&world, stopped, 1).await;
    let states: BTreeMap<String, i32> = runs(&agency, &automation)
        .await
        .into_iter()
        .map(|run| (run.lead_id().to_owned(), run.state.unwrap_or_default()))
        .collect();
    assert_eq!(states[&ann], i32::from(proto::AutomationRunState::Running));
    assert_eq!(states[&mike], i32::from(proto::AutomationRunState::Stopped));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_fragments_are_answered_once_with_all_that_they_say() {
    let providers = Providers::start().await;
    let window = std::time::Duration::from_secs(4);
    let world = World::sending_in_bursts(&providers, quick(), window).await;
    let agency = client(&world, &providers, 10.0).await;
    let automation = active(&agency, "ai_reply", &[]).await;
    let texts: Vec<String> = (0..10).map(|n| format!("fragment {n}")).collect();
    join_all(
        texts
            .iter()
            .map(|text| providers.text("+15125550177", OURS, text)),
    )
    .await;
    let done = ended(&agency, &automation).await;
    assert_eq!(done.len(), 1, "{done:?}");
    assert_eq!(done[0].state(), proto::AutomationRunState::Done, "{done:?}");
    until(
        &agency,
        &done[0].message_ids[0],
        proto::MessageStatus::Delivered,
    )
    .await;
    let answers = providers.arrived("+15125550177").await;
    assert_eq!(answers.len(), 1, "{answers:?}");
    for text in &texts {
        assert!(answers[0].contains(text.as_str()), "{text}: {answers:?}");
    }
    let paid =
        "select count(*) from messaging.model_answer where tokens_in > 0 and cost_micros > 0";
    assert_eq!(world.postgres.count(paid).await, 1);
    // What they write next is another burst.
    providers
        .text("+15125550177", OURS, "tomorrow at ten")
        .await;
    let two = "select count(*) from messaging.message where caused_by like 'automation:%' and status = 'delivered'";
    reached(&world, two, 2).await;
}

/// It has its answer, and gives it when all is mended.
async fn hold_the_model(providers: &Providers) {
    let held = json!({"provider": "openai", "operation": "*", "kind": "timeout_after_effect", "value": 60});
    providers.fault(held).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_person_answers_meanwhile_or_has_taken_over_the_model_says_nothing() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 10.0).await;
    let automation = active(&agency, "ai_reply", &[]).await;
    hold_the_model(&providers).await;
    providers.text("+15125550177", OURS, "hello").await;
    let thinks = "select count(*) from messaging.automation_run where state = 'answering'";
    reached(&world, thinks, 1).await;
    let lead = runs(&agency, &automation).await[0].lead_id().to_owned();
    let request = proto::CreateMessageRequest {
        client_id: agency.client.to_string(),
        lead_id: Some(lead),
        channel: Some(proto::Channel::Sms.into()),
        body: Some("Hi, this is Ana".to_owned()),
        ..Default::default()
    };
    let made = agency.messages().create_message(request).await;
    let made = made.expect("taken").into_inner();
    // The answer comes after somebody's.
    providers.mend().await;
    let first = ended(&agency, &automation).await;
    assert_eq!(first[0].reason(), "person_answered");
    until(&agency, made.id(), proto::MessageStatus::Delivered).await;
    let take = proto::TakeOverConversationRequest {
        client_id: agency.client.to_string(),
        conversation_id: made.conversation_id().to_owned(),
    };
    let taken = agency.conversations().take_over_conversation(take).await;
    let taken = taken.expect("taken over").into_inner();
    assert!(taken.taken_over_by.is_some());
    providers.text("+15125550177", OURS, "who is this?").await;
    let stopped = "select count(*) from messaging.automation_run where reason = 'taken_over'";
    reached(&world, stopped, 1).await;
    assert_eq!(providers.arrived("+15125550177").await, ["Hi, this is Ana"]);
    let back = proto::HandBackConversationRequest {
        client_id: agency.client.to_string(),
        conversation_id: made.conversation_id().to_owned(),
    };
    let back = agency.conversations().hand_back_conversation(back).await;
    assert_eq!(back.expect("handed back").into_inner().taken_over_by, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_takes_over_at_the_moment_of_the_answer_is_first() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 10.0).await;
    let automation = active(&agency, "ai_reply", &[]).await;
    hold_the_model(&providers).await;
    providers.text("+15125550177", OURS, "hello").await;
    let thinks = "select count(*) from messaging.automation_run where state = 'answering'";
    reached(&world, thinks, 1).await;
    // Taken over, and not committed yet.
    let mut person = world.postgres.admin().await;
    sqlx::raw_sql(
        "begin; update messaging.conversation set taken_over_by = 'mem_ana', taken_over_at = now()",
    )
    .execute(&mut person)
    .await
    .expect("taken over");
    // The answer comes, and waits for what the person does.
    providers.mend().await;
    let waits = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    reached(&world, waits, 1).await;
    sqlx::raw_sql("commit")
        .execute(&mut person)
        .await
        .expect("committed");
    let done = ended(&agency, &automation).await;
    assert_eq!(done[0].reason(), "taken_over");
    assert_eq!(
        providers.arrived("+15125550177").await,
        Vec::<String>::new()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_model_is_down_slow_or_asks_for_a_person_one_is_called_and_the_lead_is_told() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 10.0).await;
    let automation = active(&agency, "ai_reply", &[]).await;
    let called = async |times: i64| {
        let raised = "select count(*) from messaging.outbox_event where type = 'messaging.hand_over.requested'";
        reached(&world, raised, times).await;
        let stopped = "select count(*) from messaging.automation_run where state = 'stopped' and reason like 'handed_over: %'";
        reached(&world, stopped, times).await;
    };
    let down = json!({"provider": "openai", "operation": "*", "kind": "status", "value": 503});
    providers.fault(down).await;
    providers.text("+15125550171", OURS, "my roof leaks").await;
    called(1).await;
    providers.mend().await;
    let slow = json!({"provider": "openai", "operation": "*", "kind": "latency", "value": 30000});
    providers.fault(slow).await;
    providers.text("+15125550172", OURS, "my roof leaks").await;
    called(2).await;
    providers.mend().await;
    providers
        .text("+15125550173", OURS, "can I talk to a person")
        .await;
    called(3).await;
    for phone in ["+15125550171", "+15125550172", "+15125550173"] {
        let wanted = "Thanks for your message. Somebody will get back to you shortly.";
        let mut looks = looks();
        while looks.again().await {
            if !providers.arrived(phone).await.is_empty() {
                break;
            }
        }
        assert_eq!(providers.arrived(phone).await, [wanted], "{phone}");
    }
    assert_eq!(runs(&agency, &automation).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_of_ours_that_writes_is_not_answered() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 10.0).await;
    let automation = active(&agency, "ai_reply", &[]).await;
    // Another number that messages leave from here.
    world
        .postgres
        .execute("insert into messaging.send_lane (lane, rate, next_free_at) values ('sms:+15125550155', 1, now())")
        .await;
    providers
        .text("+15125550155", OURS, "Thanks for your message!")
        .await;
    providers.text("+15125550177", OURS, "hello").await;
    let done = ended(&agency, &automation).await;
    assert_eq!(done.len(), 1, "only the person's: {done:?}");
    assert_eq!(
        providers.arrived("+15125550155").await,
        Vec::<String>::new()
    );
}

/// Something that a provider tells, as integrations hands it on.
async fn tell(agency: &Agency<'_>, provider: &str, kind: &str, content_type: &str, body: &str) {
    let channel = agency
        .world
        .stage
        .channel(ServiceName::Integrations, ServiceName::Messaging);
    let request = proto::HandleProviderEventRequest {
        agency_id: agency.id.to_string(),
        client_id: Some(agency.client.to_string()),
        provider: provider.to_owned(),
        account_id: None,
        event_key: "of no matter here".to_owned(),
        r#type: kind.to_owned(),
        content_type: content_type.to_owned(),
        body: body.as_bytes().to_vec(),
        received_at: None,
        form_endpoint_id: (provider == "forms").then(|| FormEndpointId::generate().to_string()),
        webhook_event_id: WebhookEventId::generate().to_string(),
    };
    let mut messaging = ProviderEventServiceClient::new(channel);
    let told = messaging.handle_provider_event(request).await;
    told.expect("taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missed_call_is_texted_back_once_however_often_it_is_told_and_again_only_after_an_hour() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 10.0).await;
    let automation = active(
        &agency,
        "missed_call_text_back",
        &[("business_name", "Acme")],
    )
    .await;
    let missed = |sid: &str| {
        format!(
            "CallSid={sid}&From=%2B15125550123&To={}&Direction=inbound&CallStatus=no-answer",
            OURS.replace('+', "%2B")
        )
    };
    let (one, other) = (missed("CA1"), missed("CA2"));
    let form = "application/x-www-form-urlencoded";
    let calls =
        [&one, &one, &one, &other].map(|body| tell(&agency, "twilio", "call.status", form, body));
    join_all(calls).await;
    let done = ended(&agency, &automation).await;
    assert_eq!(done.len(), 1, "{done:?}");
    assert_eq!(done[0].state(), proto::AutomationRunState::Done, "{done:?}");
    until(
        &agency,
        &done[0].message_ids[0],
        proto::MessageStatus::Delivered,
    )
    .await;
    let wanted =
        "Hi, this is Acme. Sorry we missed your call. How can we help? Reply STOP to end messages.";
    assert_eq!(providers.arrived("+15125550123").await, [wanted]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_is_answered_once_and_the_next_step_is_left_out_when_they_write() {
    let providers = Providers::start().await;
    let world = World::sending(&providers, quick()).await;
    let agency = client(&world, &providers, 10.0).await;
    let automation = active(&agency, "form_response", &[("business_name", "Acme")]).await;
    let form = json!({"name": "Mike Miller", "phone": "+15125550123", "message": "my roof leaks", "sms_consent": "on",
        "sms_consent_text": "You may text me"});
    tell(
        &agency,
        "forms",
        "form.submitted",
        "application/json",
        &form.to_string(),
    )
    .await;
    let sent = "select count(*) from messaging.message where direction = 'outbound' and status = 'delivered'";
    reached(&world, sent, 1).await;
    let said = providers.arrived("+15125550123").await;
    assert!(said[0].starts_with("Hi Mike, this is Acme."), "{said:?}");
    let waits = runs(&agency, &automation).await;
    assert_eq!(waits[0].state(), proto::AutomationRunState::Running);
    assert_eq!(waits[0].step(), 1);
    providers.text("+15125550123", OURS, "tomorrow").await;
    reached(
        &world,
        "select count(*) from messaging.message where direction = 'inbound'",
        1,
    )
    .await;
    // A day later.
    for sql in [
        "update messaging.automation_run set due_at = created_at",
        "update messaging.job set run_at = now() - interval '1 day' where kind = 'advance_runs'",
    ] {
        world.postgres.execute(sql).await;
    }
    let done = ended(&agency, &automation).await;
    assert_eq!(done[0].reason(), "replied");
    assert_eq!(providers.arrived("+15125550123").await.len(), 1);
}

#[tokio::test]
async fn what_an_automation_cannot_do_is_refused_with_its_field() {
    let world = World::new().await;
    let agency = world.agency("sense").await;
    let missing = make(&agency, "win_back", &[("business_name", "Acme")]).await;
    let missing = missing.expect_err("no offer");
    assert_eq!(fields(&missing), ["variables.offer"]);
    let unknown = make(&agency, "nonsense", &[]).await.expect_err("unknown");
    assert_eq!(fields(&unknown), ["template"]);
    let send = proto::AutomationMessage {
        channel: Some(proto::Channel::Email.into()),
        purpose: Some(proto::Purpose::SecurityCode.into()),
        subject: None,
        body: Some("Hi {{ lead.name".to_owned()),
    };
    let step = proto::AutomationStep {
        before_appointment_seconds: Some(60),
        send: Some(send),
        ..Default::default()
    };
    let request = proto::CreateAutomationRequest {
        client_id: agency.client.to_string(),
        name: Some("wrong".to_owned()),
        definition: Some(proto::AutomationDefinition {
            trigger: Some(proto::AutomationTrigger::LeadInactive.into()),
            steps: vec![step, proto::AutomationStep::default()],
            variables: BTreeMap::from([("lead".to_owned(), "x".to_owned())]),
            ..Default::default()
        }),
        ..Default::default()
    };
    let wrong = agency.automations().create_automation(request).await;
    let mut named = fields(&wrong.expect_err("much is wrong"));
    named.sort();
    let wanted = [
        "definition.inactive_days",
        "definition.steps[0].before_appointment_seconds",
        "definition.steps[0].send.body",
        "definition.steps[0].send.purpose",
        "definition.steps[0].send.subject",
        "definition.steps[1]",
        "definition.variables.lead",
    ];
    assert_eq!(named, wanted);
}

#[tokio::test]
async fn a_change_is_a_version_and_pausing_ends_what_runs() {
    let world = World::new().await;
    let agency = world.agency("versions").await;
    let made = active(
        &agency,
        "appointment_reminder",
        &[("business_name", "Acme")],
    )
    .await;
    let mike = lead(&agency, "+15125550123").await;
    book(&agency, &mike, 3 * 86_400).await;
    let mut definition = made.definition.clone().expect("a definition");
    definition.variables = BTreeMap::from([("business_name".to_owned(), "Acme & Sons".to_owned())]);
    let change = |etag: &str| proto::UpdateAutomationRequest {
        client_id: agency.client.to_string(),
        automation_id: made.id().to_owned(),
        name: None,
        definition: Some(definition.clone()),
        etag: Some(etag.to_owned()),
    };
    let stale = agency.automations().update_automation(change("v1")).await;
    let stale = stale.expect_err("it was activated");
    assert_eq!(reason(&stale), ErrorReason::EtagMismatch);
    let changed = agency.automations().update_automation(change("v2")).await;
    assert_eq!(changed.expect("changed").into_inner().version(), 2);
    assert_eq!(runs(&agency, &made).await[0].version(), 1, "as it began");
    for _ in 0..2 {
        let pause = proto::PauseAutomationRequest {
            client_id: agency.client.to_string(),
            automation_id: made.id().to_owned(),
        };
        let paused = agency.automations().pause_automation(pause).await;
        let state = paused.expect("paused").into_inner().state();
        assert_eq!(state, proto::AutomationState::Paused);
    }
    let run = &runs(&agency, &made).await[0];
    assert_eq!(run.state(), proto::AutomationRunState::Stopped);
    assert_eq!(run.reason(), "automation_paused");
}
