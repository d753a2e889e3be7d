//! Subscriptions over gRPC: a request to a command, how the saga stands to an answer.
//! Deliberately absent: anything the saga does. It goes on when the caller has gone.

use std::time::{Duration, Instant};

use chrono::DateTime;
use mainstay_db::page::PageRequest;
use mainstay_proto::billing::v1::{
    CancelSubscriptionRequest, CancelWhen, ConfirmPaymentIntentRequest, CreateSubscriptionRequest,
    GetSubscriptionRequest, ListSubscriptionsRequest, ListSubscriptionsResponse,
    PauseSubscriptionRequest, PayerAction as ProtoPayerAction, ReactivateSubscriptionRequest,
    ResumeSubscriptionRequest, Subscription as ProtoSubscription,
    SubscriptionStatus as ProtoStatus, subscription_service_server::SubscriptionService,
};
use mainstay_proto::errors::v1::PaymentDeclined;
use mainstay_rpc::{Context, ErrorReason, Problem, Violations, open};
use mainstay_runtime::clock::Clock;
use mainstay_types::{ClientId, PlanId, SubscriptionId, Tenant};
use prost::Message;
use tonic::{Request, Response, Status as RpcStatus, metadata::MetadataValue};

use super::{Desk, Start, Status, Subscribe, Subscription, SubscriptionError, change};
use crate::coupon;
use crate::history::By;
use crate::repeat::Repeat;
use crate::saga::change_subscription::Change;
use crate::saga::{Refusal, Standing};
use crate::wire::{
    database_problem, id_field, interval, money, page_problem, read_currency, read_interval,
    timestamp,
};

/// How long a request waits for its saga before it answers that it still runs.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is kept of the caller's own time for building the answer.
const RESERVE: Duration = Duration::from_millis(500);

/// Serves subscriptions.
#[derive(Debug)]
pub struct SubscriptionRpc {
    desk: Desk,
    clock: Clock,
}

impl SubscriptionRpc {
    /// At this desk, by this clock.
    pub fn new(desk: Desk, clock: Clock) -> Self {
        Self { desk, clock }
    }
}

#[tonic::async_trait]
impl SubscriptionService for SubscriptionRpc {
    async fn create_subscription(
        &self,
        request: Request<CreateSubscriptionRequest>,
    ) -> Result<Response<ProtoSubscription>, RpcStatus> {
        let (ctx, request) = open(request)?;
        let command = command(request)?;
        let repeat = Repeat::of(&ctx, &command);
        let by = By::of(&ctx, self.clock.now());
        let tenant = ctx.tenant();
        let until = patience(&ctx);
        let started = super::start(&self.desk, &ctx, &by, tenant, command, &repeat, until).await;
        self.told(started, tenant, &by, &repeat).await
    }

    async fn cancel_subscription(
        &self,
        request: Request<CancelSubscriptionRequest>,
    ) -> Result<Response<ProtoSubscription>, RpcStatus> {
        let (ctx, request) = open(request)?;
        let change = match request.when.map(CancelWhen::try_from) {
            Some(Ok(CancelWhen::Now)) => Change::CancelNow,
            Some(Ok(CancelWhen::PeriodEnd)) => Change::CancelAtPeriodEnd,
            _ => {
                let message = "must be `now` or `period_end`";
                return Err(Problem::invalid(Vec::new())
                    .violation("when", message)
                    .into());
            }
        };
        self.change(&ctx, &request.subscription_id, change).await
    }

    async fn pause_subscription(
        &self,
        request: Request<PauseSubscriptionRequest>,
    ) -> Result<Response<ProtoSubscription>, RpcStatus> {
        let (ctx, request) = open(request)?;
        let resumes_at = request
            .resumes_at
            .and_then(|at| DateTime::from_timestamp(at.seconds, 0));
        let change = Change::Pause { resumes_at };
        self.change(&ctx, &request.subscription_id, change).await
    }

    async fn resume_subscription(
        &self,
        request: Request<ResumeSubscriptionRequest>,
    ) -> Result<Response<ProtoSubscription>, RpcStatus> {
        let (ctx, request) = open(request)?;
        self.change(&ctx, &request.subscription_id, Change::Resume)
            .await
    }

    async fn reactivate_subscription(
        &self,
        request: Request<ReactivateSubscriptionRequest>,
    ) -> Result<Response<ProtoSubscription>, RpcStatus> {
        let (ctx, request) = open(request)?;
        self.change(&ctx, &request.subscription_id, Change::Reactivate)
            .await
    }

    async fn confirm_payment_intent(
        &self,
        request: Request<ConfirmPaymentIntentRequest>,
    ) -> Result<Response<ProtoSubscription>, RpcStatus> {
        let (ctx, request) = open(request)?;
        let (by, tenant) = (By::of(&ctx, self.clock.now()), ctx.tenant());
        let until = patience(&ctx);
        let went = change::confirm_payment(&self.desk, tenant, &request.payment_intent_id, until);
        // No key: a second confirmation finds the payment as the first one left it.
        let repeat = Repeat::none(&ctx);
        self.told(went.await, tenant, &by, &repeat).await
    }

    async fn get_subscription(
        &self,
        request: Request<GetSubscriptionRequest>,
    ) -> Result<Response<ProtoSubscription>, RpcStatus> {
        let (ctx, request) = open(request)?;
        let id: SubscriptionId = id_field("subscription_id", &request.subscription_id)?;
        let tenant = ctx.tenant();
        let found = super::get(&self.desk.database, tenant, id).await;
        Ok(Response::new(proto(
            tenant.client,
            &found.map_err(Problem::from)?,
        )))
    }

    async fn list_subscriptions(
        &self,
        request: Request<ListSubscriptionsRequest>,
    ) -> Result<Response<ListSubscriptionsResponse>, RpcStatus> {
        let (ctx, request) = open(request)?;
        let page = PageRequest::new(
            "billing.subscriptions",
            request.page_size,
            request.page_token.as_deref(),
        )
        .map_err(page_problem)?;
        let tenant = ctx.tenant();
        let page = super::list(&self.desk.database, tenant, page)
            .await
            .map_err(Problem::from)?
            .map(|subscription| proto(tenant.client, &subscription));
        Ok(Response::new(ListSubscriptionsResponse {
            data: page.rows,
            next_page_token: page.next_page_token,
        }))
    }
}

impl SubscriptionRpc {
    async fn change(
        &self,
        ctx: &Context,
        id: &str,
        change: Change,
    ) -> Result<Response<ProtoSubscription>, RpcStatus> {
        let id: SubscriptionId = id_field("subscription_id", id)?;
        let (by, tenant) = (By::of(ctx, self.clock.now()), ctx.tenant());
        let repeat = Repeat::of(ctx, &(id.to_string(), change));
        let until = patience(ctx);
        let changed = change::change(&self.desk, &by, tenant, id, change, &repeat, until).await;
        self.told(changed, tenant, &by, &repeat).await
    }

    /// The answer to whatever a saga carries out: as it ended, or as it stands with 202 while it goes on.
    async fn told(
        &self,
        started: Result<Start, SubscriptionError>,
        tenant: Tenant,
        by: &By,
        repeat: &Repeat,
    ) -> Result<Response<ProtoSubscription>, RpcStatus> {
        match started.map_err(Problem::from)? {
            Start::Before(answer) => decoded(&answer),
            // The refusal stands in the log for good: a repeat is told the same.
            Start::Stands(
                _,
                Standing {
                    at_rest: true,
                    refusal: Some(refusal),
                    ..
                },
            ) => Err(refused(refusal).into()),
            Start::Stands(subscription, standing) if standing.completed => {
                let answer = proto(tenant.client, &subscription).encode_to_vec();
                self.keep(by, repeat, answer).await
            }
            Start::Stands(subscription, _) => {
                let mut response = Response::new(proto(tenant.client, &subscription));
                let accepted = MetadataValue::from_static("1");
                response
                    .metadata_mut()
                    .insert("x-mainstay-accepted", accepted);
                Ok(response)
            }
        }
    }

    /// Keeps the first answer, and answers with the one that is kept: all repeats say the same, whatever has happened to
    /// the subscription since.
    async fn keep(
        &self,
        by: &By,
        repeat: &Repeat,
        answer: Vec<u8>,
    ) -> Result<Response<ProtoSubscription>, RpcStatus> {
        let Some(client) = by.client.filter(|_| repeat.has_key()) else {
            return decoded(&answer);
        };
        let tenant = mainstay_types::Tenant {
            agency: by.agency,
            client,
        };
        let mut tx = self
            .desk
            .database
            .tenant(tenant)
            .await
            .map_err(database_problem)?;
        let kept = repeat
            .keep(tx.conn(), by, answer)
            .await
            .map_err(Problem::from)?;
        tx.commit().await.map_err(database_problem)?;
        decoded(&kept)
    }
}

fn decoded(answer: &[u8]) -> Result<Response<ProtoSubscription>, RpcStatus> {
    ProtoSubscription::decode(answer)
        .map(Response::new)
        .map_err(|error| Problem::internal(error).into())
}

/// Until when to wait: a few seconds, less when the caller has less.
pub(crate) fn patience(ctx: &Context) -> Instant {
    Instant::now() + PATIENCE.min(ctx.remaining().saturating_sub(RESERVE))
}

fn command(request: CreateSubscriptionRequest) -> Result<Subscribe, Problem> {
    let mut faults = Violations::new();
    let plan = faults.required("plan_id", request.plan_id);
    let plan = plan.and_then(|text| faults.check("plan_id", PlanId::parse(&text)));
    let currency = faults.check("currency", read_currency(request.currency.as_deref()));
    let every = faults.check("interval", read_interval(request.interval));
    match (plan, currency, every) {
        (Some(plan), Some(currency), Some(interval)) => Ok(Subscribe {
            plan,
            currency,
            interval,
            coupon_code: request.coupon_code.map(|code| coupon::rules::folded(&code)),
            payment_method: request.payment_method_id,
        }),
        _ => Err(faults
            .finish()
            .err()
            .unwrap_or_else(|| Problem::invalid(Vec::new()))),
    }
}

/// What a saga refused, told to its caller.
pub(crate) fn refused(refusal: Refusal) -> Problem {
    let reason = refusal.reason();
    let problem = Problem::new(reason, refusal.detail);
    match reason {
        ErrorReason::PaymentDeclined => problem.with_data(&PaymentDeclined {
            decline_code: refusal.decline_code,
        }),
        _ => problem,
    }
}

fn proto(client: ClientId, subscription: &Subscription) -> ProtoSubscription {
    let status = match subscription.status {
        Status::Incomplete => ProtoStatus::Incomplete,
        Status::Trialing => ProtoStatus::Trialing,
        Status::Active => ProtoStatus::Active,
        Status::PastDue => ProtoStatus::PastDue,
        Status::Unpaid => ProtoStatus::Unpaid,
        Status::Paused => ProtoStatus::Paused,
        Status::Canceled => ProtoStatus::Canceled,
        Status::IncompleteExpired => ProtoStatus::IncompleteExpired,
        Status::Failed => ProtoStatus::Failed,
    };
    let (discount, currency) = (subscription.discount.as_ref(), subscription.price.currency);
    ProtoSubscription {
        id: Some(subscription.id.to_string()),
        client_id: Some(client.to_string()),
        status: Some(status.into()),
        plan_id: Some(subscription.plan_id.to_string()),
        plan_version: Some(subscription.plan_version),
        price: Some(money(subscription.price)),
        interval: Some(interval(subscription.interval).into()),
        stripe_subscription_id: subscription.stripe_subscription_id.clone(),
        saga_id: Some(subscription.saga_id.to_string()),
        failure_reason: subscription.failure_reason.clone(),
        current_period_start_at: subscription.current_period_start_at.map(timestamp),
        current_period_end_at: subscription.current_period_end_at.map(timestamp),
        trial_end_at: subscription.trial_end_at.map(timestamp),
        paid_through_at: subscription.paid_through_at.map(timestamp),
        canceled_at: subscription.canceled_at.map(timestamp),
        created_at: Some(timestamp(subscription.created_at)),
        updated_at: Some(timestamp(subscription.updated_at)),
        cancel_at_period_end: Some(subscription.cancel_at_period_end),
        resumes_at: subscription.resumes_at.map(timestamp),
        grace_ends_at: subscription.grace_ends_at.map(timestamp),
        payer_action: payer_action(subscription),
        change_saga_id: subscription.change_saga_id.map(|saga| saga.to_string()),
        coupon_code: discount.map(|discount| discount.held.code.clone()),
        discount: discount.map(|discount| coupon::rpc::discount(discount, currency)),
    }
}

/// Only while there is something to do.
fn payer_action(subscription: &Subscription) -> Option<ProtoPayerAction> {
    let action = subscription.payer_action.as_ref()?;
    (subscription.status == Status::Incomplete).then(|| ProtoPayerAction {
        payment_intent_id: Some(action.payment_intent.clone()),
        client_secret: action.client_secret.clone(),
    })
}
