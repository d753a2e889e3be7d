//! `SenderDirectoryService`, for messaging: from whom a message may leave and with what, and whose number was written to.
//! Deliberately absent: a cache. Credentials are those of the moment, so that a rotation holds for the next message.

use mainstay_proto::integrations::v1 as proto;
use mainstay_proto::integrations::v1::sender_directory_service_server::SenderDirectoryService;
use mainstay_rpc::{Problem, field, open};
use mainstay_types::{AgencyId, ClientId, ProviderAccountId, SenderId};
use tonic::{Request, Response, Status};

use super::{Address, Channel, sql};
use crate::Integrations;
use crate::provider_account::{self, Credentials, Error, credentials};

/// The most senders that are told of; nobody falls back so often.
const MOST: i64 = 10;

/// Whose an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receiver {
    /// The agency.
    pub agency: AgencyId,
    /// The client; none: the sender is for all of the agency's.
    pub client: Option<ClientId>,
    /// The sender.
    pub sender: SenderId,
}

/// Whose sender an address of an account is.
///
/// # Errors
/// Only the database's.
pub async fn find_receiver(
    integrations: &Integrations,
    agency: AgencyId,
    account: ProviderAccountId,
    address: &str,
) -> mainstay_db::Result<Option<Receiver>> {
    let parsed = [Channel::Sms, Channel::Email]
        .into_iter()
        .find_map(|channel| Address::parse(channel, address).ok());
    let Some(address) = parsed else {
        return Ok(None);
    };
    let scope = provider_account::whole(agency);
    let mut tx = integrations.database.agency(&scope).await?;
    let found = sql::find_receiver(tx.conn(), agency, account, address.key()).await?;
    let Some((sender, client, parked)) = found else {
        return Ok(None);
    };
    if parked {
        // It is asked for what came in: the one who wrote takes it for that client's still.
        sql::hear(tx.conn(), agency, sender, integrations.clock.now()).await?;
        tx.commit().await?;
    }
    Ok(Some(Receiver {
        agency,
        client,
        sender,
    }))
}

#[tonic::async_trait]
impl SenderDirectoryService for Integrations {
    async fn resolve_senders(
        &self,
        request: Request<proto::ResolveSendersRequest>,
    ) -> Result<Response<proto::ResolveSendersResponse>, Status> {
        let (ctx, request) = open(request)?;
        let agency = field::id("agency_id", &request.agency_id)?;
        let client: ClientId = field::id("client_id", &request.client_id)?;
        let scope = ctx.service_agency(agency)?;
        let channel = Channel::named(&request.channel)
            .ok_or_else(|| Problem::internal("a channel that the rules let through"))?;
        let key = match request.sender_address.as_deref() {
            None => None,
            Some(text) => match Address::parse(channel, text) {
                Ok(address) => Some(address.key().to_owned()),
                // What is no address is nobody's.
                Err(_) => return Ok(Response::new(proto::ResolveSendersResponse::default())),
            },
        };
        let accounts = resolve(self, &scope, client, channel, key.as_deref()).await?;
        Ok(Response::new(proto::ResolveSendersResponse { accounts }))
    }

    async fn find_receiver(
        &self,
        request: Request<proto::FindReceiverRequest>,
    ) -> Result<Response<proto::FindReceiverResponse>, Status> {
        let (_, request) = open(request)?;
        let account: ProviderAccountId = field::id("account_id", &request.account_id)?;
        let unknown = || Problem::not_found("receiver");
        let agency = provider_account::agency_of(self, account)
            .await
            .map_err(mainstay_jobs::failure::database)?
            .ok_or_else(unknown)?;
        let receiver = find_receiver(self, agency, account, &request.address)
            .await
            .map_err(mainstay_jobs::failure::database)?
            .ok_or_else(unknown)?;
        Ok(Response::new(proto::FindReceiverResponse {
            agency_id: receiver.agency.to_string(),
            client_id: receiver.client.map(|client| client.to_string()),
            sender_id: receiver.sender.to_string(),
        }))
    }
}

async fn resolve(
    integrations: &Integrations,
    scope: &mainstay_types::AgencyScope,
    client: ClientId,
    channel: Channel,
    key: Option<&str>,
) -> Result<Vec<proto::SendingAccount>, Error> {
    let agency = scope.agency;
    let mut tx = integrations.database.agency(scope).await?;
    let found = sql::list_sending(tx.conn(), agency, client, channel, key, MOST).await?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let data_key = integrations.vault.key(tx.conn(), agency).await?;
    drop(tx);
    let told = found.into_iter().map(|sending| {
        let revision = sending.credentials_revision;
        let about = credentials::about(agency, sending.account, revision);
        let credentials = Credentials::opened(&data_key.open(&sending.sealed, &about)?)?;
        Ok(proto::SendingAccount {
            account_id: sending.account.to_string(),
            sender_id: sending.id.to_string(),
            provider: sending.provider,
            address: sending.address,
            rate_per_second: sending.rate_per_second,
            credentials: credentials.exposed(),
            endpoint_token: sending.endpoint_token.unwrap_or_default(),
            revision,
        })
    });
    told.collect()
}
