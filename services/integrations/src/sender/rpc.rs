//! `SenderService`: protobuf to commands and back.
//! Deliberately absent: authorisation. The stack has done it before a handler runs.

use mainstay_db::page::PageRequest;
use mainstay_jobs::once::Once;
use mainstay_proto::integrations::v1::sender_service_server::SenderService;
use mainstay_proto::integrations::v1::{self as proto, SenderChannel, SenderState};
use mainstay_rpc::{Problem, Violations, field, open};
use mainstay_types::{ClientId, SenderId};
use tonic::{Request, Response, Status};

use super::{Address, Channel, Edit, New, Sender, rules};
use crate::Integrations;
use crate::provider_account::proto_provider;
use crate::wire::page_problem;

#[tonic::async_trait]
impl SenderService for Integrations {
    async fn create_sender(
        &self,
        request: Request<proto::CreateSenderRequest>,
    ) -> Result<Response<proto::Sender>, Status> {
        let (ctx, request) = open(request)?;
        let once = Once::for_agency(&ctx, &request, self.clock.now());
        let mut faults = Violations::new();
        let account = faults.required("account_id", request.account_id.as_deref());
        let account = account
            .map(|text| field::id("account_id", text))
            .transpose()?;
        let channel = faults.required("channel", request.channel.and_then(channel));
        let address = faults.required("address", request.address);
        let address = channel
            .zip(address)
            .and_then(|(channel, text)| faults.check("address", Address::parse(channel, &text)));
        rate(request.rate_per_second, &mut faults);
        let client = client(request.client_id.as_deref())?;
        faults.finish()?;
        let (Some(account), Some(channel), Some(address)) = (account, channel, address) else {
            return Err(Problem::invalid(Vec::new()).into());
        };
        let new = New {
            account,
            channel,
            address,
            client,
            rate_per_second: request.rate_per_second,
            forward_calls_to: request.forward_calls_to,
        };
        Ok(Response::new(super::create(self, &ctx, new, &once).await?))
    }

    async fn list_senders(
        &self,
        request: Request<proto::ListSendersRequest>,
    ) -> Result<Response<proto::ListSendersResponse>, Status> {
        let (ctx, request) = open(request)?;
        let page = PageRequest::new(
            "integrations.senders",
            request.page_size,
            request.page_token.as_deref(),
        )
        .map_err(page_problem)?;
        let filter = (
            request.channel.and_then(channel),
            client(request.client_id.as_deref())?,
        );
        let page = super::list(self, &ctx.agency_scope(), filter, page).await?;
        Ok(Response::new(proto::ListSendersResponse {
            data: page.rows.iter().map(answer).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn update_sender(
        &self,
        request: Request<proto::UpdateSenderRequest>,
    ) -> Result<Response<proto::Sender>, Status> {
        let (ctx, request) = open(request)?;
        let once = Once::for_agency(&ctx, &request, self.clock.now());
        let id: SenderId = field::id("sender_id", &request.sender_id)?;
        let mut faults = Violations::new();
        let client = match (client(request.client_id.as_deref())?, request.for_agency) {
            (Some(_), Some(true)) => {
                faults.add("for_agency", "cannot be true beside `client_id`");
                None
            }
            (Some(client), _) => Some(Some(client)),
            (None, Some(true)) => Some(None),
            (None, _) => None,
        };
        let forward_calls_to = match (request.forward_calls_to, request.turn_calls_away) {
            (Some(_), Some(true)) => {
                faults.add(
                    "turn_calls_away",
                    "cannot be true beside `forward_calls_to`",
                );
                None
            }
            (Some(to), _) => Some(Some(to)),
            (None, Some(true)) => Some(None),
            (None, _) => None,
        };
        rate(request.rate_per_second, &mut faults);
        faults.finish()?;
        let active = request
            .state
            .and_then(|number| match SenderState::try_from(number) {
                Ok(SenderState::Active) => Some(true),
                Ok(SenderState::Disabled) => Some(false),
                Ok(SenderState::Unspecified) | Err(_) => None,
            });
        let edit = Edit {
            client,
            rate_per_second: request.rate_per_second,
            active,
            forward_calls_to,
        };
        let etag = request.etag.as_deref();
        let sender = super::update(self, &ctx, id, edit, etag, &once).await?;
        Ok(Response::new(sender))
    }

    async fn delete_sender(
        &self,
        request: Request<proto::DeleteSenderRequest>,
    ) -> Result<Response<proto::DeleteSenderResponse>, Status> {
        let (ctx, request) = open(request)?;
        super::delete(self, &ctx, field::id("sender_id", &request.sender_id)?).await?;
        Ok(Response::new(proto::DeleteSenderResponse {}))
    }
}

fn client(text: Option<&str>) -> Result<Option<ClientId>, Problem> {
    text.map(|text| field::id("client_id", text)).transpose()
}

/// Rules of whole numbers cannot say "more than nothing".
fn rate(given: Option<f64>, faults: &mut Violations) {
    if given.is_some_and(|rate| rate < 0.01) {
        faults.add("rate_per_second", "must be at least 0.01");
    }
}

/// Numbers that are no channel were refused by the stack.
fn channel(number: i32) -> Option<Channel> {
    match SenderChannel::try_from(number) {
        Ok(SenderChannel::Sms) => Some(Channel::Sms),
        Ok(SenderChannel::Email) => Some(Channel::Email),
        Ok(SenderChannel::Voice) => Some(Channel::Voice),
        Ok(SenderChannel::Unspecified) | Err(_) => None,
    }
}

/// A sender as answers have it.
pub(super) fn answer(sender: &Sender) -> proto::Sender {
    let channel = match sender.channel {
        Channel::Sms => SenderChannel::Sms,
        Channel::Email => SenderChannel::Email,
        Channel::Voice => SenderChannel::Voice,
    };
    let state = match sender.active {
        true => SenderState::Active,
        false => SenderState::Disabled,
    };
    proto::Sender {
        id: Some(sender.id.to_string()),
        account_id: Some(sender.account.to_string()),
        provider: Some(proto_provider(sender.provider).into()),
        channel: Some(channel.into()),
        address: Some(sender.address.clone()),
        client_id: sender.client.map(|client| client.to_string()),
        rate_per_second: Some(sender.rate_per_second),
        state: Some(state.into()),
        created_at: Some(field::timestamp(sender.created_at)),
        updated_at: Some(field::timestamp(sender.updated_at)),
        etag: Some(rules::etag(sender.revision)),
        forward_calls_to: sender.forward_calls_to.clone(),
        parked_at: sender.parked_at.map(field::timestamp),
        parked_until: rules::parked_until(sender).map(field::timestamp),
    }
}
