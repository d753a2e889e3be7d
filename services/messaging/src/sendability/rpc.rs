//! `SendabilityService`: protobuf to a question, and the explanation back.
//! Deliberately absent: authorisation. The stack has done it before a handler runs.

use mainstay_proto::messaging::v1::{
    self as proto, sendability_service_server::SendabilityService,
};
use mainstay_rpc::{Problem, Violations, field, open};
use mainstay_types::format;
use tonic::{Request, Response, Status};

use super::{Explanation, Question};
use crate::Messaging;
use crate::gate::places::{self, Place};
use crate::gate::rules::{Decision, Evidence, Reason, Refusal};
use crate::gate::{Purpose, RULE_VERSION};
use crate::wire;

#[tonic::async_trait]
impl SendabilityService for Messaging {
    async fn check_sendability(
        &self,
        request: Request<proto::CheckSendabilityRequest>,
    ) -> Result<Response<proto::Sendability>, Status> {
        let (ctx, request) = open(request)?;
        let question = question(request, self.clock.now())?;
        let explanation = super::explain(self, ctx.tenant(), &question).await;
        Ok(Response::new(answer(&question, explanation)))
    }
}

fn question(
    request: proto::CheckSendabilityRequest,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<Question, Problem> {
    let mut faults = Violations::new();
    let address = wire::address(request.address.as_deref(), &mut faults);
    let channel = wire::channel("channel", request.channel, &mut faults);
    let channel = faults.required("channel", channel);
    wire::reaches(address.as_ref(), channel, &mut faults);
    let purpose = faults.required("purpose", purpose(request.purpose));
    let zone = request.time_zone.as_deref().and_then(|text| {
        let zone = format::parse_time_zone(text).ok_or("must be an IANA time zone");
        faults.check("time_zone", zone)
    });
    let state = request.state.map(|text| text.to_ascii_uppercase());
    if state
        .as_deref()
        .is_some_and(|state| !places::is_region(state))
    {
        // Taken as not given it would widen nothing, but whoever misspells Texas should hear of it.
        faults.add(
            "state",
            "must be a state of the United States or a province of Canada, such as TX",
        );
    }
    let at = time(request.at.as_ref(), now, &mut faults);
    faults.finish()?;
    match (address, channel, purpose) {
        (Some(address), Some(channel), Some(purpose)) => Ok(Question {
            address,
            channel,
            purpose,
            zone,
            state,
            at,
        }),
        _ => Err(Problem::invalid(Vec::new())),
    }
}

/// The purpose of a request, if it names one.
pub(crate) fn purpose(given: Option<i32>) -> Option<Purpose> {
    match proto::Purpose::try_from(given?) {
        Ok(proto::Purpose::Marketing) => Some(Purpose::Marketing),
        Ok(proto::Purpose::Conversational) => Some(Purpose::Conversational),
        Ok(proto::Purpose::Transactional) => Some(Purpose::Transactional),
        Ok(proto::Purpose::SecurityCode) => Some(Purpose::SecurityCode),
        Ok(proto::Purpose::StaffNotice) => Some(Purpose::StaffNotice),
        Ok(proto::Purpose::KeywordReply) => Some(Purpose::KeywordReply),
        Ok(proto::Purpose::Unspecified) | Err(_) => None,
    }
}

/// The time that is asked about; one too far off is noted as a fault.
pub(crate) fn time(
    given: Option<&prost_types::Timestamp>,
    now: chrono::DateTime<chrono::Utc>,
    faults: &mut Violations,
) -> chrono::DateTime<chrono::Utc> {
    let at = field::time_given("at", given, faults).unwrap_or(now);
    // The rules are this year's, and the clocks of the years after are not decided yet.
    if (at - now).abs() > chrono::TimeDelta::days(366) {
        faults.add("at", "must be within a year");
    }
    at
}

/// The explanation as answers have it.
pub(crate) fn answer(question: &Question, explanation: Explanation) -> proto::Sendability {
    let (allowed, earliest_at, refusals, evidence) = match explanation.decision {
        Decision::Allowed { evidence } => (true, Some(question.at), Vec::new(), evidence),
        Decision::Refused {
            retry_at,
            all,
            passed,
            ..
        } => (false, retry_at, all, passed),
    };
    let mut checks: Vec<_> = refusals
        .iter()
        .map(|refusal| (refusal.rule, refused(refusal)))
        .collect();
    checks.extend(
        evidence
            .into_iter()
            .map(|found| (found.rule, passed(found))),
    );
    checks.sort_by_key(|(rule, _)| *rule);
    proto::Sendability {
        allowed: Some(allowed),
        reasons: refusals
            .iter()
            .map(|refusal| reason(refusal.reason).into())
            .collect(),
        earliest_at: earliest_at.map(field::timestamp),
        checks: checks.into_iter().map(|(_, check)| check).collect(),
        places: explanation.places.iter().map(place).collect(),
        places_known_by: Some(explanation.certainty.as_str().to_owned()),
        rule_version: Some(RULE_VERSION),
        at: Some(field::timestamp(question.at)),
    }
}

fn refused(refusal: &Refusal) -> proto::SendCheck {
    proto::SendCheck {
        rule: Some(refusal.rule.as_str().to_owned()),
        passed: Some(false),
        reason: Some(reason(refusal.reason).into()),
        found: None,
        retry_at: refusal.retry_at.map(field::timestamp),
    }
}

fn passed(evidence: Evidence) -> proto::SendCheck {
    proto::SendCheck {
        rule: Some(evidence.rule.as_str().to_owned()),
        passed: Some(true),
        reason: None,
        found: Some(evidence.found),
        retry_at: None,
    }
}

fn place(place: &Place) -> proto::SendPlace {
    proto::SendPlace {
        time_zone: Some(place.zone.name().to_owned()),
        law: Some(place.hours.source.to_owned()),
    }
}

fn reason(reason: Reason) -> proto::SendRefusal {
    match reason {
        Reason::ClientNotActive => proto::SendRefusal::ClientNotActive,
        Reason::OnHold => proto::SendRefusal::SendingOnHold,
        Reason::OptedOut => proto::SendRefusal::OptedOut,
        Reason::DoNotContact => proto::SendRefusal::DoNotContact,
        Reason::NoConsent => proto::SendRefusal::NoConsent,
        Reason::Suppressed => proto::SendRefusal::Suppressed,
        Reason::MonthlyLimit => proto::SendRefusal::MonthlyLimit,
        Reason::FrequencyCap => proto::SendRefusal::FrequencyCap,
        Reason::QuietHours => proto::SendRefusal::QuietHours,
        Reason::CheckUnavailable => proto::SendRefusal::CheckUnavailable,
    }
}
