//! Coupons over gRPC: protobuf to commands with every fault at once, and back.
//! Deliberately absent: decisions. A field is judged here only for what it says by itself and beside its neighbours.

use mainstay_db::{Database, page::PageRequest};
use mainstay_proto::billing::v1::{
    Coupon as ProtoCoupon, CouponDuration as ProtoDuration, CouponRemoval,
    CouponState as ProtoState, CreateCouponRequest, DeleteCouponRequest, DeleteCouponResponse,
    Discount as ProtoDiscount, GetCouponRequest, ListCouponsRequest, ListCouponsResponse,
    coupon_service_server::CouponService,
};
use mainstay_proto::common::v1::Money as ProtoMoney;
use mainstay_rpc::{Problem, Violations, open};
use mainstay_runtime::clock::Clock;
use mainstay_types::{Currency, Money, PlanId};
use prost::Message;
use tonic::{Request, Response, Status};

use super::redemption::Discount;
use super::rules::{self, OffInput};
use super::{Coupon, CouponState, Duration, Off, Removed, Terms};
use crate::history::By;
use crate::repeat::{Answered, Repeat};
use crate::wire::{money, page_problem, read_currency, read_timestamp, timestamp};

/// Serves coupons.
#[derive(Debug)]
pub struct CouponRpc {
    database: Database,
    clock: Clock,
}

impl CouponRpc {
    /// On this database, by this clock.
    pub fn new(database: Database, clock: Clock) -> Self {
        Self { database, clock }
    }
}

#[tonic::async_trait]
impl CouponService for CouponRpc {
    async fn create_coupon(
        &self,
        request: Request<CreateCouponRequest>,
    ) -> Result<Response<ProtoCoupon>, Status> {
        let (ctx, request) = open(request)?;
        let terms = terms(request)?;
        let repeat = Repeat::of(&ctx, &terms);
        let by = By::of(&ctx, self.clock.now());
        let scope = ctx.agency_scope();
        let answer = |coupon: &Coupon| proto(coupon).encode_to_vec();
        let coupon = super::create(&self.database, &by, &scope, terms, &repeat, answer).await;
        match coupon.map_err(Problem::from)? {
            Answered::Now(coupon) => Ok(Response::new(proto(&coupon))),
            Answered::Before(bytes) => decoded(&bytes),
        }
    }

    async fn get_coupon(
        &self,
        request: Request<GetCouponRequest>,
    ) -> Result<Response<ProtoCoupon>, Status> {
        let (ctx, request) = open(request)?;
        let coupon = super::get(&self.database, &ctx.agency_scope(), &request.code).await;
        Ok(Response::new(proto(&coupon.map_err(Problem::from)?)))
    }

    async fn list_coupons(
        &self,
        request: Request<ListCouponsRequest>,
    ) -> Result<Response<ListCouponsResponse>, Status> {
        let (ctx, request) = open(request)?;
        let state = match request.state.map(ProtoState::try_from) {
            None => None,
            Some(Ok(ProtoState::Active)) => Some(CouponState::Active),
            Some(Ok(ProtoState::Deactivated)) => Some(CouponState::Deactivated),
            Some(Ok(ProtoState::Unspecified) | Err(_)) => {
                let problem = Problem::invalid(Vec::new());
                let wanted = "must be `active` or `deactivated`";
                return Err(problem.violation("state", wanted).into());
            }
        };
        let page = PageRequest::new(
            "billing.coupons",
            request.page_size,
            request.page_token.as_deref(),
        )
        .map_err(page_problem)?;
        let page = super::list(&self.database, &ctx.agency_scope(), state, page)
            .await
            .map_err(Problem::from)?;
        Ok(Response::new(ListCouponsResponse {
            data: page.rows.iter().map(proto).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn delete_coupon(
        &self,
        request: Request<DeleteCouponRequest>,
    ) -> Result<Response<DeleteCouponResponse>, Status> {
        let (ctx, request) = open(request)?;
        let code = rules::folded(&request.code);
        let repeat = Repeat::of(&ctx, &code);
        let by = By::of(&ctx, self.clock.now());
        let scope = ctx.agency_scope();
        let answer = |removed: &Removed| removal(removed).encode_to_vec();
        let removed = super::remove(&self.database, &by, &scope, &code, &repeat, answer).await;
        match removed.map_err(Problem::from)? {
            Answered::Now(removed) => Ok(Response::new(removal(&removed))),
            Answered::Before(bytes) => decoded(&bytes),
        }
    }
}

fn decoded<M: Message + Default>(bytes: &[u8]) -> Result<Response<M>, Status> {
    M::decode(bytes)
        .map(Response::new)
        .map_err(|error| Problem::internal(error).into())
}

fn terms(request: CreateCouponRequest) -> Result<Terms, Problem> {
    let mut faults = Violations::new();
    let code = faults.required("code", request.code);
    let code = code.and_then(|text| faults.check("code", rules::code(&text)));
    let input = OffInput {
        percent_off: request.percent_off,
        amount_given: request.amount_off.is_some(),
        amount_off: request
            .amount_off
            .and_then(|given| read_money(&mut faults, "amount_off", &given)),
    };
    let off = noted(&mut faults, rules::off(input)).flatten();
    let kind = match request.duration.map(ProtoDuration::try_from) {
        Some(Ok(ProtoDuration::Once)) => Some("once"),
        Some(Ok(ProtoDuration::Repeating)) => Some("repeating"),
        Some(Ok(ProtoDuration::Forever)) => Some("forever"),
        Some(Ok(ProtoDuration::Unspecified) | Err(_)) | None => None,
    };
    let duration = noted(
        &mut faults,
        rules::duration(kind, request.duration_in_months),
    );
    let plans = read_plans(&mut faults, &request.plan_ids);
    let time = |faults: &mut Violations, field, given: Option<_>| {
        given.and_then(|given| faults.check(field, read_timestamp(&given)))
    };
    let terms = Terms {
        code: code.unwrap_or_default(),
        // Never used when it could not be read: the faults below are the answer then.
        off: off.unwrap_or(Off::Percent { bp: 0 }),
        duration: duration.unwrap_or(Duration::Once),
        max_redemptions: request.max_redemptions,
        max_redemptions_per_client: request.max_redemptions_per_client,
        plans,
        first_time_only: request.first_time_only.unwrap_or_default(),
        starts_at: time(&mut faults, "starts_at", request.starts_at),
        expires_at: time(&mut faults, "expires_at", request.expires_at),
    };
    for (field, message) in rules::faults_between(&terms) {
        faults.add(field, message);
    }
    faults.finish()?;
    Ok(terms)
}

fn noted<T>(faults: &mut Violations, read: Result<T, rules::Fault>) -> Option<T> {
    read.map_err(|(field, message)| faults.add(field, message))
        .ok()
}

fn read_money(faults: &mut Violations, field: &str, given: &ProtoMoney) -> Option<Money> {
    let currency = read_currency(given.currency.as_deref());
    let currency: Option<Currency> = faults.check(&format!("{field}.currency"), currency);
    let amount = faults.required(&format!("{field}.amount_minor"), given.amount_minor);
    Some(Money::new(amount?, currency?))
}

fn read_plans(faults: &mut Violations, given: &[String]) -> Vec<PlanId> {
    let mut plans: Vec<PlanId> = Vec::with_capacity(given.len());
    for (place, text) in given.iter().enumerate() {
        let field = format!("plan_ids[{place}]");
        match faults.check(&field, PlanId::parse(text)) {
            Some(plan) if plans.contains(&plan) => faults.add(field, "repeats an earlier plan"),
            Some(plan) => plans.push(plan),
            None => {}
        }
    }
    plans
}

fn proto(coupon: &Coupon) -> ProtoCoupon {
    let terms = &coupon.terms;
    let state = match coupon.state {
        CouponState::Active => ProtoState::Active,
        CouponState::Deactivated => ProtoState::Deactivated,
    };
    ProtoCoupon {
        id: Some(coupon.id.to_string()),
        code: Some(terms.code.clone()),
        state: Some(state.into()),
        percent_off: percent_off(terms.off),
        amount_off: amount_off(terms.off),
        duration: Some(duration(terms.duration).into()),
        duration_in_months: terms.duration.months(),
        max_redemptions: terms.max_redemptions,
        max_redemptions_per_client: terms.max_redemptions_per_client,
        plan_ids: terms.plans.iter().map(ToString::to_string).collect(),
        first_time_only: Some(terms.first_time_only),
        starts_at: terms.starts_at.map(timestamp),
        expires_at: terms.expires_at.map(timestamp),
        times_redeemed: Some(coupon.times_redeemed),
        created_at: Some(timestamp(coupon.created_at)),
        deactivated_at: coupon.deactivated_at.map(timestamp),
    }
}

fn removal(removed: &Removed) -> DeleteCouponResponse {
    match removed {
        Removed::Deleted => DeleteCouponResponse {
            outcome: Some(CouponRemoval::Deleted.into()),
            coupon: None,
        },
        Removed::Deactivated(coupon) => DeleteCouponResponse {
            outcome: Some(CouponRemoval::Deactivated.into()),
            coupon: Some(proto(coupon)),
        },
    }
}

/// What a subscription's coupon takes off, as REST has it.
pub(crate) fn discount(discount: &Discount, currency: Currency) -> ProtoDiscount {
    let held = &discount.held;
    ProtoDiscount {
        coupon_id: Some(held.coupon.to_string()),
        percent_off: percent_off(held.off),
        amount_off: amount_off(held.off),
        duration: Some(duration(held.duration).into()),
        duration_in_months: held.duration.months(),
        first_discount: Some(money(Money::new(discount.first_minor, currency))),
    }
}

/// Shown as people wrote it; decided is only ever with the integer.
fn percent_off(off: Off) -> Option<f64> {
    match off {
        Off::Percent { bp } => Some(f64::from(bp) / 100.0),
        Off::Amount { .. } => None,
    }
}

fn amount_off(off: Off) -> Option<ProtoMoney> {
    match off {
        Off::Percent { .. } => None,
        Off::Amount { amount } => Some(money(amount)),
    }
}

fn duration(duration: Duration) -> ProtoDuration {
    match duration {
        Duration::Once => ProtoDuration::Once,
        Duration::Repeating { .. } => ProtoDuration::Repeating,
        Duration::Forever => ProtoDuration::Forever,
    }
}
