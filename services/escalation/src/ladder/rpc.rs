//! `LadderService`: protobuf to commands and back.
//! Deliberately absent: authorisation. The stack has done it before a handler runs.

use mainstay_proto::escalation::v1::{self as proto, ladder_service_server::LadderService};
use mainstay_rpc::{Problem, Violations, field, open};
use mainstay_types::{ClientId, MemberId};
use tonic::{Request, Response, Status as Refused};

use super::{Channel, Ladder, Member, Own, Step, etag};
use crate::Escalating;

#[tonic::async_trait]
impl LadderService for Escalating {
    async fn get_ladder(
        &self,
        request: Request<proto::GetLadderRequest>,
    ) -> Result<Response<proto::Ladder>, Refused> {
        let (ctx, _) = open(request)?;
        let tenant = ctx.tenant();
        let own = super::get(self, tenant).await?;
        Ok(Response::new(whole(tenant.client, own.as_ref())))
    }

    async fn put_ladder(
        &self,
        request: Request<proto::PutLadderRequest>,
    ) -> Result<Response<proto::Ladder>, Refused> {
        let (ctx, request) = open(request)?;
        let mut faults = Violations::new();
        let steps = request.steps.into_iter().enumerate();
        let steps: Vec<Step> = steps
            .filter_map(|(at, given)| step(at, given, &mut faults))
            .collect();
        if steps.is_empty() {
            faults.add("steps", "must name at least one step");
        }
        if faults.is_empty() && steps.iter().any(|step| !step.members.is_empty()) {
            let able = self.members.all(ctx.tenant()).await;
            let able = able.map_err(Problem::from)?;
            strangers(&steps, &able, &mut faults);
        }
        faults.finish()?;
        let ladder = Ladder {
            steps,
            rounds: request
                .rounds
                .and_then(|rounds| u32::try_from(rounds).ok())
                .unwrap_or(Ladder::default().rounds),
        };
        let own = super::put(self, &ctx, ladder, request.etag).await?;
        Ok(Response::new(whole(ctx.tenant().client, Some(&own))))
    }
}

fn step(at: usize, given: proto::LadderStep, faults: &mut Violations) -> Option<Step> {
    let mut members: Vec<MemberId> = Vec::new();
    for (place, id) in given.member_ids.iter().enumerate() {
        members.extend(faults.check(
            &format!("steps[{at}].member_ids[{place}]"),
            MemberId::parse(id),
        ));
    }
    let mut channels: Vec<Channel> = Vec::new();
    for (place, text) in given.channels.iter().enumerate() {
        match Channel::named(text) {
            Some(channel) if channels.contains(&channel) => {}
            Some(channel) => channels.push(channel),
            None => faults.add(
                format!("steps[{at}].channels[{place}]"),
                "must be `sms` or `email`",
            ),
        }
    }
    if given.channels.is_empty() {
        faults.add(
            format!("steps[{at}].channels"),
            "must name `sms`, `email` or both",
        );
    }
    let wait = given
        .wait_seconds
        .and_then(|seconds| u32::try_from(seconds).ok());
    let wait_seconds = faults.required(&format!("steps[{at}].wait_seconds"), wait)?;
    Some(Step {
        members,
        roles: given.roles,
        channels,
        wait_seconds,
    })
}

/// A ladder that calls somebody who cannot come is a ladder with a gap. Whoever leaves later is passed over.
fn strangers(steps: &[Step], able: &[Member], faults: &mut Violations) {
    for (at, step) in steps.iter().enumerate() {
        for (place, member) in step.members.iter().enumerate() {
            if able.iter().all(|known| known.id != *member) {
                faults.add(
                    format!("steps[{at}].member_ids[{place}]"),
                    "must be an active member who serves the client and may take escalations",
                );
            }
        }
    }
}

fn whole(client: ClientId, own: Option<&Own>) -> proto::Ladder {
    let standing = Ladder::default();
    let ladder = own.map_or(&standing, |own| &own.ladder);
    let step = |step: &Step| proto::LadderStep {
        member_ids: step.members.iter().map(ToString::to_string).collect(),
        roles: step.roles.clone(),
        channels: step
            .channels
            .iter()
            .map(|channel| channel.as_str().to_owned())
            .collect(),
        wait_seconds: i32::try_from(step.wait_seconds).ok(),
    };
    proto::Ladder {
        client_id: Some(client.to_string()),
        steps: ladder.steps.iter().map(step).collect(),
        rounds: i32::try_from(ladder.rounds).ok(),
        etag: own.map(|own| etag(own.revision)),
        updated_at: own.map(|own| field::timestamp(own.updated_at)),
    }
}
