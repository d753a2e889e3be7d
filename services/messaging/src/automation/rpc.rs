//! `AutomationService`: protobuf to commands and back.
//! Deliberately absent: authorisation. The stack has done it before a handler runs.

use std::collections::BTreeMap;

use mainstay_db::page::PageRequest;
use mainstay_jobs::once::Once;
use mainstay_proto::messaging::v1::{self as proto, automation_service_server::AutomationService};
use mainstay_rpc::{Violations, field, open};
use mainstay_types::{AutomationId, ClientId};
use tonic::{Request, Response, Status as Refused};

use super::definition::{Action, Answer, Conditions, Definition, Send, Step, Trigger, When};
use super::sweep::{self, Sweep};
use super::{Automation, Edit, Run, RunState, etag, rules, templates};
use crate::Messaging;
use crate::gate::Purpose;
use crate::lead::{Source, Status};
use crate::wire::{self, page_problem};

#[tonic::async_trait]
impl AutomationService for Messaging {
    async fn list_automation_templates(
        &self,
        request: Request<proto::ListAutomationTemplatesRequest>,
    ) -> Result<Response<proto::ListAutomationTemplatesResponse>, Refused> {
        open(request)?;
        let data = templates::all().into_iter().map(|template| {
            let variables = template.variables.iter().map(|name| (*name).to_owned());
            proto::AutomationTemplate {
                name: Some(template.name.to_owned()),
                description: Some(template.description.to_owned()),
                definition: Some(shown(&template.definition)),
                variables: variables.collect(),
            }
        });
        Ok(Response::new(proto::ListAutomationTemplatesResponse {
            data: data.collect(),
        }))
    }

    async fn create_automation(
        &self,
        request: Request<proto::CreateAutomationRequest>,
    ) -> Result<Response<proto::Automation>, Refused> {
        let (ctx, request) = open(request)?;
        let once = Once::for_client(&ctx, &request, self.clock.now());
        let mut faults = Violations::new();
        let name = faults.required("name", request.name);
        let definition = match (request.template, request.definition) {
            (Some(template), None) => taken(&template, request.variables, &mut faults),
            (None, Some(definition)) => {
                if !request.variables.is_empty() {
                    faults.add(
                        "variables",
                        "belong to a template; a definition has its own",
                    );
                }
                read(definition, &mut faults)
            }
            (Some(_), Some(_)) | (None, None) => {
                faults.add("definition", "is needed, or `template`, and not both");
                None
            }
        };
        faults.finish()?;
        let new = name.zip(definition);
        let new = new.ok_or_else(|| mainstay_rpc::Problem::not_found("definition"))?;
        let answer = |made: &Automation| whole(ctx.tenant().client, made);
        let made = super::create(self, &ctx, new, &once, answer).await?;
        Ok(Response::new(made))
    }

    async fn get_automation(
        &self,
        request: Request<proto::GetAutomationRequest>,
    ) -> Result<Response<proto::Automation>, Refused> {
        let (ctx, request) = open(request)?;
        let tenant = ctx.tenant();
        let id = field::id("automation_id", &request.automation_id)?;
        let found = super::get(self, tenant, id).await?;
        Ok(Response::new(whole(tenant.client, &found)))
    }

    async fn list_automations(
        &self,
        request: Request<proto::ListAutomationsRequest>,
    ) -> Result<Response<proto::ListAutomationsResponse>, Refused> {
        let (ctx, request) = open(request)?;
        let tenant = ctx.tenant();
        let page = PageRequest::new(
            "messaging.automations",
            request.page_size,
            request.page_token.as_deref(),
        )
        .map_err(page_problem)?;
        let page = super::list(self, tenant, page).await?;
        let data = page.rows.iter().map(|row| whole(tenant.client, row));
        Ok(Response::new(proto::ListAutomationsResponse {
            data: data.collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn update_automation(
        &self,
        request: Request<proto::UpdateAutomationRequest>,
    ) -> Result<Response<proto::Automation>, Refused> {
        let (ctx, request) = open(request)?;
        let id = field::id("automation_id", &request.automation_id)?;
        let mut faults = Violations::new();
        let definition = request
            .definition
            .and_then(|definition| read(definition, &mut faults));
        faults.finish()?;
        let edit = Edit {
            name: request.name,
            definition,
        };
        let after = super::update(self, &ctx, id, edit, request.etag).await?;
        Ok(Response::new(whole(ctx.tenant().client, &after)))
    }

    async fn activate_automation(
        &self,
        request: Request<proto::ActivateAutomationRequest>,
    ) -> Result<Response<proto::Automation>, Refused> {
        let (ctx, request) = open(request)?;
        let id = field::id("automation_id", &request.automation_id)?;
        let after = super::activate(self, &ctx, id).await?;
        Ok(Response::new(whole(ctx.tenant().client, &after)))
    }

    async fn pause_automation(
        &self,
        request: Request<proto::PauseAutomationRequest>,
    ) -> Result<Response<proto::Automation>, Refused> {
        let (ctx, request) = open(request)?;
        let id = field::id("automation_id", &request.automation_id)?;
        let after = super::pause(self, &ctx, id).await?;
        Ok(Response::new(whole(ctx.tenant().client, &after)))
    }

    async fn list_automation_runs(
        &self,
        request: Request<proto::ListAutomationRunsRequest>,
    ) -> Result<Response<proto::ListAutomationRunsResponse>, Refused> {
        let (ctx, request) = open(request)?;
        let id = field::id("automation_id", &request.automation_id)?;
        let page = PageRequest::new(
            "messaging.automation_runs",
            request.page_size,
            request.page_token.as_deref(),
        )
        .map_err(page_problem)?;
        let page = super::runs(self, ctx.tenant(), id, page).await?;
        Ok(Response::new(proto::ListAutomationRunsResponse {
            data: page.rows.iter().map(|row| ran(id, row)).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn list_automation_sweeps(
        &self,
        request: Request<proto::ListAutomationSweepsRequest>,
    ) -> Result<Response<proto::ListAutomationSweepsResponse>, Refused> {
        let (ctx, request) = open(request)?;
        let id = field::id("automation_id", &request.automation_id)?;
        let page = PageRequest::new(
            "messaging.automation_sweeps",
            request.page_size,
            request.page_token.as_deref(),
        )
        .map_err(page_problem)?;
        let page = sweep::page(self, ctx.tenant(), id, page).await?;
        Ok(Response::new(proto::ListAutomationSweepsResponse {
            data: page.rows.into_iter().map(swept).collect(),
            next_page_token: page.next_page_token,
        }))
    }
}

/// A template's definition with these variables.
fn taken(
    name: &str,
    variables: BTreeMap<String, String>,
    faults: &mut Violations,
) -> Option<Definition> {
    let Some(template) = templates::named(name) else {
        let known: Vec<_> = templates::all().iter().map(|one| one.name).collect();
        faults.add("template", format!("must be one of {}", known.join(", ")));
        return None;
    };
    for needed in template.variables {
        if variables
            .get(*needed)
            .is_none_or(|value| value.trim().is_empty())
        {
            faults.add(format!("variables.{needed}"), "is needed by the template");
        }
    }
    check_variables(&variables, "variables", faults);
    Some(Definition {
        variables,
        ..template.definition
    })
}

/// Names that texts can call, and that hide nothing of what is known.
fn check_variables(variables: &BTreeMap<String, String>, field: &str, faults: &mut Violations) {
    for name in variables.keys() {
        let sound = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.len() <= 50
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !sound || ["lead", "appointment", "form", "call"].contains(&name.as_str()) {
            faults.add(
                format!("{field}.{name}"),
                "must be a name of lower case letters, digits and _, and not lead, appointment, form or call",
            );
        }
    }
}

fn read(given: proto::AutomationDefinition, faults: &mut Violations) -> Option<Definition> {
    let trigger = match given.trigger() {
        proto::AutomationTrigger::CallMissed => Trigger::CallMissed,
        proto::AutomationTrigger::MessageReceived => Trigger::MessageReceived,
        proto::AutomationTrigger::FormSubmitted => Trigger::FormSubmitted,
        proto::AutomationTrigger::AppointmentBooked => Trigger::AppointmentBooked,
        proto::AutomationTrigger::LeadInactive => Trigger::LeadInactive,
        proto::AutomationTrigger::Unspecified => {
            faults.add("definition.trigger", "is needed");
            return None;
        }
    };
    check_variables(&given.variables, "definition.variables", faults);
    let conditions = given.conditions.unwrap_or_default();
    let mut steps = Vec::with_capacity(given.steps.len());
    for (place, step) in given.steps.into_iter().enumerate() {
        steps.extend(read_step(
            step,
            &format!("definition.steps[{place}]"),
            faults,
        ));
    }
    let definition = Definition {
        trigger,
        conditions: Conditions {
            statuses: each(conditions.statuses, Status::given),
            sources: each(conditions.sources, Source::given),
            tags_any: conditions.tags_any,
            tags_none: conditions.tags_none,
        },
        steps,
        cooldown_seconds: given.cooldown_seconds.unwrap_or(0),
        stop_on_reply: given
            .stop_on_reply
            .unwrap_or(trigger != Trigger::MessageReceived),
        inactive_days: given.inactive_days,
        variables: given.variables,
    };
    rules::check(&definition, faults);
    Some(definition)
}

fn each<T>(given: Vec<i32>, read: impl Fn(Option<i32>) -> Option<T>) -> Vec<T> {
    given
        .into_iter()
        .filter_map(|one| read(Some(one)))
        .collect()
}

fn read_step(given: proto::AutomationStep, field: &str, faults: &mut Violations) -> Option<Step> {
    let when = match (given.after_seconds, given.before_appointment_seconds) {
        (seconds, None) => When::After(seconds.unwrap_or(0)),
        (None, Some(seconds)) => When::BeforeAppointment(seconds),
        (Some(_), Some(_)) => {
            faults.add(
                format!("{field}.after_seconds"),
                "and before_appointment_seconds exclude each other",
            );
            return None;
        }
    };
    let action = match (given.send, given.answer, given.hand_over) {
        (Some(send), None, None) => Action::Send(read_send(send, field, faults)?),
        (None, Some(answer), None) => Action::Answer(Answer {
            instructions: answer.instructions.unwrap_or_default(),
            fallback: answer.fallback,
        }),
        (None, None, Some(hand_over)) => Action::HandOver {
            reason: hand_over.reason.unwrap_or_default(),
        },
        _ => {
            faults.add(field, "must have exactly one of send, answer and hand_over");
            return None;
        }
    };
    Some(Step { when, action })
}

fn read_send(
    given: proto::AutomationMessage,
    field: &str,
    faults: &mut Violations,
) -> Option<Send> {
    let channel = wire::channel(&format!("{field}.send.channel"), given.channel, faults)?;
    let purpose = match given.purpose() {
        proto::Purpose::Unspecified | proto::Purpose::Conversational => Purpose::Conversational,
        proto::Purpose::Marketing => Purpose::Marketing,
        proto::Purpose::Transactional => Purpose::Transactional,
        proto::Purpose::SecurityCode => Purpose::SecurityCode,
        proto::Purpose::StaffNotice => Purpose::StaffNotice,
        proto::Purpose::KeywordReply => Purpose::KeywordReply,
    };
    Some(Send {
        channel,
        purpose,
        subject: given.subject,
        body: given.body.unwrap_or_default(),
    })
}

fn whole(client: ClientId, automation: &Automation) -> proto::Automation {
    let state = match automation.active {
        true => proto::AutomationState::Active,
        false => proto::AutomationState::Paused,
    };
    proto::Automation {
        id: Some(automation.id.to_string()),
        client_id: Some(client.to_string()),
        name: Some(automation.name.clone()),
        state: Some(state.into()),
        paused_because: automation.paused_because.clone(),
        version: Some(automation.version),
        definition: Some(shown(&automation.definition)),
        etag: Some(etag(automation.revision)),
        created_at: Some(field::timestamp(automation.created_at)),
        updated_at: Some(field::timestamp(automation.updated_at)),
    }
}

fn shown(definition: &Definition) -> proto::AutomationDefinition {
    let trigger = match definition.trigger {
        Trigger::CallMissed => proto::AutomationTrigger::CallMissed,
        Trigger::MessageReceived => proto::AutomationTrigger::MessageReceived,
        Trigger::FormSubmitted => proto::AutomationTrigger::FormSubmitted,
        Trigger::AppointmentBooked => proto::AutomationTrigger::AppointmentBooked,
        Trigger::LeadInactive => proto::AutomationTrigger::LeadInactive,
    };
    let conditions = &definition.conditions;
    proto::AutomationDefinition {
        trigger: Some(trigger.into()),
        conditions: Some(proto::AutomationConditions {
            statuses: conditions.statuses.iter().map(|one| one.answer()).collect(),
            sources: conditions.sources.iter().map(|one| one.answer()).collect(),
            tags_any: conditions.tags_any.clone(),
            tags_none: conditions.tags_none.clone(),
        }),
        steps: definition.steps.iter().map(shown_step).collect(),
        cooldown_seconds: Some(definition.cooldown_seconds),
        stop_on_reply: Some(definition.stop_on_reply),
        inactive_days: definition.inactive_days,
        variables: definition.variables.clone(),
    }
}

fn shown_step(step: &Step) -> proto::AutomationStep {
    let mut shown = proto::AutomationStep::default();
    match step.when {
        When::After(seconds) => shown.after_seconds = Some(seconds),
        When::BeforeAppointment(seconds) => shown.before_appointment_seconds = Some(seconds),
    }
    match &step.action {
        Action::Send(send) => {
            shown.send = Some(proto::AutomationMessage {
                channel: Some(wire::proto_channel(send.channel).into()),
                purpose: Some(wire::proto_purpose(send.purpose).into()),
                subject: send.subject.clone(),
                body: Some(send.body.clone()),
            });
        }
        Action::Answer(answer) => {
            shown.answer = Some(proto::AutomationAnswer {
                instructions: Some(answer.instructions.clone()),
                fallback: answer.fallback.clone(),
            });
        }
        Action::HandOver { reason } => {
            shown.hand_over = Some(proto::AutomationHandOver {
                reason: Some(reason.clone()),
            });
        }
    }
    shown
}

fn ran(automation: AutomationId, run: &Run) -> proto::AutomationRun {
    let state = match run.state {
        RunState::Running => proto::AutomationRunState::Running,
        RunState::Answering => proto::AutomationRunState::Answering,
        RunState::Done => proto::AutomationRunState::Done,
        RunState::Stopped => proto::AutomationRunState::Stopped,
        RunState::Failed => proto::AutomationRunState::Failed,
    };
    proto::AutomationRun {
        id: Some(run.id.to_string()),
        automation_id: Some(automation.to_string()),
        version: Some(run.version),
        lead_id: Some(run.lead.to_string()),
        occasion: Some(run.occasion.clone()),
        state: Some(state.into()),
        reason: run.reason.clone(),
        step: Some(run.step),
        due_at: run.due_at.map(field::timestamp),
        message_ids: run.messages.iter().map(ToString::to_string).collect(),
        created_at: Some(field::timestamp(run.created_at)),
        ended_at: run.ended_at.map(field::timestamp),
    }
}

fn swept(sweep: Sweep) -> proto::AutomationSweep {
    let state = match sweep.state.as_str() {
        "running" => proto::AutomationSweepState::Running,
        "done" => proto::AutomationSweepState::Done,
        _ => proto::AutomationSweepState::Stopped,
    };
    proto::AutomationSweep {
        period: Some(sweep.period),
        version: Some(sweep.version),
        state: Some(state.into()),
        reason: sweep.reason,
        looked_at: Some(sweep.looked_at),
        taken_in: Some(sweep.taken_in),
        passed_over: Some(sweep.passed_over),
        created_at: Some(field::timestamp(sweep.created_at)),
        ended_at: sweep.ended_at.map(field::timestamp),
    }
}
