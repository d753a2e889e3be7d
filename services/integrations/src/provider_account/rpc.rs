//! `ProviderAccountService`: protobuf to commands and back.
//! Deliberately absent: authorisation. The stack has done it before a handler runs.

use mainstay_db::page::PageRequest;
use mainstay_jobs::once::Once;
use mainstay_proto::integrations::v1::provider_account_service_server::ProviderAccountService;
use mainstay_proto::integrations::v1::{self as proto, ProviderAccountState};
use mainstay_rpc::{Problem, Violations, field, open};
use mainstay_types::ProviderAccountId;
use secrecy::SecretString;
use tonic::{Request, Response, Status};

use super::{Account, Edit, New, Provider, State, credentials, rules};
use crate::Integrations;
use crate::wire::page_problem;

/// How long old credentials verify webhooks when nothing is said: a day.
const OVERLAP_SECONDS: i64 = 86_400;

#[tonic::async_trait]
impl ProviderAccountService for Integrations {
    async fn create_provider_account(
        &self,
        request: Request<proto::CreateProviderAccountRequest>,
    ) -> Result<Response<proto::ProviderAccount>, Status> {
        let (ctx, request) = open(request)?;
        let once = Once::for_agency(&ctx, &request, self.clock.now());
        let mut faults = Violations::new();
        let provider = request.provider.and_then(provider);
        let provider = faults.required("provider", provider);
        let given = given(request.credentials);
        let read =
            provider.map(|provider| credentials::read(provider, &given, self.plain_http_allowed));
        let credentials = match read {
            None => None,
            Some(Ok(credentials)) => Some(credentials),
            Some(Err(found)) => {
                for fault in found {
                    faults.add(fault.field, fault.message);
                }
                None
            }
        };
        faults.finish()?;
        let (Some(provider), Some(credentials)) = (provider, credentials) else {
            return Err(Problem::invalid(Vec::new()).into());
        };
        let new = New {
            provider,
            name: request.name.unwrap_or_default(),
            credentials,
            is_default: request.is_default.unwrap_or_default(),
        };
        Ok(Response::new(super::create(self, &ctx, new, &once).await?))
    }

    async fn list_provider_accounts(
        &self,
        request: Request<proto::ListProviderAccountsRequest>,
    ) -> Result<Response<proto::ListProviderAccountsResponse>, Status> {
        let (ctx, request) = open(request)?;
        let page = PageRequest::new(
            "integrations.provider_accounts",
            request.page_size,
            request.page_token.as_deref(),
        )
        .map_err(page_problem)?;
        let provider = request.provider.and_then(provider);
        let page = super::list(self, &ctx.agency_scope(), provider, page).await?;
        Ok(Response::new(proto::ListProviderAccountsResponse {
            data: page.rows.iter().map(answer).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn get_provider_account(
        &self,
        request: Request<proto::GetProviderAccountRequest>,
    ) -> Result<Response<proto::ProviderAccount>, Status> {
        let (ctx, request) = open(request)?;
        let id = id(&request.account_id)?;
        let account = super::get(self, &ctx.agency_scope(), id).await?;
        Ok(Response::new(answer(&account)))
    }

    async fn update_provider_account(
        &self,
        request: Request<proto::UpdateProviderAccountRequest>,
    ) -> Result<Response<proto::ProviderAccount>, Status> {
        let (ctx, request) = open(request)?;
        let once = Once::for_agency(&ctx, &request, self.clock.now());
        let id = id(&request.account_id)?;
        if request.is_default == Some(false) {
            let fault = "can only be true: prefer another account by saying so of that one";
            return Err(Problem::invalid(Vec::new())
                .violation("is_default", fault)
                .into());
        }
        let state = request
            .state
            .and_then(|number| match ProviderAccountState::try_from(number) {
                Ok(ProviderAccountState::Active) => Some(State::Active),
                Ok(ProviderAccountState::Disabled) => Some(State::Disabled),
                Ok(ProviderAccountState::Unspecified) | Err(_) => None,
            });
        let edit = Edit {
            name: request.name,
            state,
            make_default: request.is_default.unwrap_or_default(),
            end_overlap: request.end_overlap.unwrap_or_default(),
        };
        let etag = request.etag.as_deref();
        let account = super::update(self, &ctx, id, edit, etag, &once).await?;
        Ok(Response::new(account))
    }

    async fn rotate_provider_account(
        &self,
        request: Request<proto::RotateProviderAccountRequest>,
    ) -> Result<Response<proto::ProviderAccount>, Status> {
        let (ctx, request) = open(request)?;
        let once = Once::for_agency(&ctx, &request, self.clock.now());
        let id = id(&request.account_id)?;
        let overlap = request.overlap_seconds.unwrap_or(OVERLAP_SECONDS);
        let overlap = chrono::TimeDelta::seconds(overlap);
        let given = given(request.credentials);
        let account = super::rotate(self, &ctx, id, &given, overlap, &once).await?;
        Ok(Response::new(account))
    }

    async fn delete_provider_account(
        &self,
        request: Request<proto::DeleteProviderAccountRequest>,
    ) -> Result<Response<proto::DeleteProviderAccountResponse>, Status> {
        let (ctx, request) = open(request)?;
        super::delete(self, &ctx, id(&request.account_id)?).await?;
        Ok(Response::new(proto::DeleteProviderAccountResponse {}))
    }
}

fn id(text: &str) -> Result<ProviderAccountId, Problem> {
    field::id("account_id", text)
}

/// Numbers that are no provider were refused by the stack.
fn provider(number: i32) -> Option<Provider> {
    match proto::Provider::try_from(number) {
        Ok(proto::Provider::Twilio) => Some(Provider::Twilio),
        Ok(proto::Provider::Resend) => Some(Provider::Resend),
        Ok(proto::Provider::Sendgrid) => Some(Provider::Sendgrid),
        Ok(proto::Provider::Openai) => Some(Provider::Openai),
        Ok(proto::Provider::Unspecified) | Err(_) => None,
    }
}

/// A provider as answers have it.
pub(crate) fn proto_provider(provider: Provider) -> proto::Provider {
    match provider {
        Provider::Twilio => proto::Provider::Twilio,
        Provider::Resend => proto::Provider::Resend,
        Provider::Sendgrid => proto::Provider::Sendgrid,
        Provider::Openai => proto::Provider::Openai,
    }
}

fn given(credentials: Option<proto::ProviderCredentials>) -> credentials::Given {
    let credentials = credentials.unwrap_or_default();
    let fields = [
        ("account_sid", credentials.account_sid),
        ("auth_token", credentials.auth_token),
        ("api_key", credentials.api_key),
        ("webhook_secret", credentials.webhook_secret),
        ("webhook_public_key", credentials.webhook_public_key),
        ("base", credentials.base),
    ];
    credentials::Given(
        fields
            .into_iter()
            .filter_map(|(field, value)| Some((field, SecretString::from(value?))))
            .collect(),
    )
}

/// An account as answers have it.
pub(super) fn answer(account: &Account) -> proto::ProviderAccount {
    let state = match account.state {
        State::Active => Some(ProviderAccountState::Active),
        State::Disabled => Some(ProviderAccountState::Disabled),
        State::Deleted => None,
    };
    proto::ProviderAccount {
        id: Some(account.id.to_string()),
        provider: Some(proto_provider(account.provider).into()),
        name: Some(account.name.clone()),
        state: state.map(i32::from),
        is_default: Some(account.is_default),
        credentials_hint: Some(account.hint.clone()),
        credentials_revision: Some(account.credentials_revision),
        overlap_ends_at: account.overlap_ends_at.map(field::timestamp),
        endpoint_token: account.endpoint_token.clone(),
        created_at: Some(field::timestamp(account.created_at)),
        updated_at: Some(field::timestamp(account.updated_at)),
        etag: Some(rules::etag(account.revision)),
    }
}
