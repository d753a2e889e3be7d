//! Plans over gRPC: protobuf to commands with every fault at once, and back.
//! Deliberately absent: decisions. A field is judged here only for what it says by itself.

use std::collections::BTreeMap;

use mainstay_db::{Database, page::PageRequest};
use mainstay_proto::billing::v1::{
    ArchivePlanRequest, CreatePlanRequest, GetPlanRequest, ListPlansRequest, ListPlansResponse,
    Plan as ProtoPlan, PlanPrice, PlanState as ProtoState, UpdatePlanRequest,
    plan_service_server::PlanService,
};
use mainstay_proto::common::v1::{Beyond, Entitlements, Limit as ProtoLimit};
use mainstay_rpc::{Problem, Violations, open};
use mainstay_runtime::clock::Clock;
use mainstay_types::{Money, PlanId};
use prost::Message;
use tonic::{Request, Response, Status};

use super::rules::{self, BeyondInput, LimitInput};
use super::{Edit, Grants, Limit, Plan, PlanError, PlanState, Price, Terms};
use crate::history::By;
use crate::repeat::{Answered, Repeat};
use crate::wire::{
    id_field, interval, money, page_problem, read_currency, read_interval, timestamp,
};

/// Serves plans.
#[derive(Debug)]
pub struct PlanRpc {
    database: Database,
    clock: Clock,
}

impl PlanRpc {
    /// On this database, by this clock.
    pub fn new(database: Database, clock: Clock) -> Self {
        Self { database, clock }
    }
}

#[tonic::async_trait]
impl PlanService for PlanRpc {
    async fn create_plan(
        &self,
        request: Request<CreatePlanRequest>,
    ) -> Result<Response<ProtoPlan>, Status> {
        let (ctx, request) = open(request)?;
        let terms = new_terms(&request)?;
        let repeat = Repeat::of(&ctx, &terms);
        let by = By::of(&ctx, self.clock.now());
        let scope = ctx.agency_scope();
        let answer = |plan: &Plan| proto(plan).encode_to_vec();
        let plan = super::create(&self.database, &by, &scope, terms, &repeat, answer).await;
        answered(plan)
    }

    async fn get_plan(
        &self,
        request: Request<GetPlanRequest>,
    ) -> Result<Response<ProtoPlan>, Status> {
        let (ctx, request) = open(request)?;
        let id: PlanId = id_field("plan_id", &request.plan_id)?;
        let plan = super::get(&self.database, &ctx.agency_scope(), id, request.version).await;
        Ok(Response::new(proto(&plan.map_err(Problem::from)?)))
    }

    async fn list_plans(
        &self,
        request: Request<ListPlansRequest>,
    ) -> Result<Response<ListPlansResponse>, Status> {
        let (ctx, request) = open(request)?;
        let state = match request.state.map(ProtoState::try_from) {
            None => None,
            Some(Ok(ProtoState::Active)) => Some(PlanState::Active),
            Some(Ok(ProtoState::Archived)) => Some(PlanState::Archived),
            Some(_) => return Err(one("state", "must be `active` or `archived`").into()),
        };
        let page = PageRequest::new(
            "billing.plans",
            request.page_size,
            request.page_token.as_deref(),
        )
        .map_err(page_problem)?;
        let page = super::list(&self.database, &ctx.agency_scope(), state, page)
            .await
            .map_err(Problem::from)?;
        Ok(Response::new(ListPlansResponse {
            data: page.rows.iter().map(proto).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn update_plan(
        &self,
        request: Request<UpdatePlanRequest>,
    ) -> Result<Response<ProtoPlan>, Status> {
        let (ctx, request) = open(request)?;
        let id: PlanId = id_field("plan_id", &request.plan_id)?;
        let edit = edit(&request)?;
        let repeat = Repeat::of(&ctx, &(id, &edit));
        let by = By::of(&ctx, self.clock.now());
        let scope = ctx.agency_scope();
        let answer = |plan: &Plan| proto(plan).encode_to_vec();
        let plan = super::update(&self.database, &by, &scope, id, edit, &repeat, answer).await;
        answered(plan)
    }

    async fn archive_plan(
        &self,
        request: Request<ArchivePlanRequest>,
    ) -> Result<Response<ProtoPlan>, Status> {
        let (ctx, request) = open(request)?;
        let id: PlanId = id_field("plan_id", &request.plan_id)?;
        let by = By::of(&ctx, self.clock.now());
        let plan = super::archive(&self.database, &by, &ctx.agency_scope(), id).await;
        Ok(Response::new(proto(&plan.map_err(Problem::from)?)))
    }
}

fn answered(result: Result<Answered<Plan>, PlanError>) -> Result<Response<ProtoPlan>, Status> {
    match result.map_err(Problem::from)? {
        Answered::Now(plan) => Ok(Response::new(proto(&plan))),
        Answered::Before(bytes) => ProtoPlan::decode(bytes.as_slice())
            .map(Response::new)
            .map_err(|error| Problem::internal(error).into()),
    }
}

fn one(field: &str, message: &str) -> Problem {
    Problem::invalid(Vec::new()).violation(field, message)
}

fn new_terms(request: &CreatePlanRequest) -> Result<Terms, Problem> {
    let mut faults = Violations::new();
    let name = faults.required("name", request.name.clone());
    let prices = read_prices(&mut faults, &request.prices);
    if request.prices.is_empty() {
        faults.add("prices", "needs at least one price");
    }
    let grants = read_grants(&mut faults, request.entitlements.as_ref());
    faults.finish()?;
    Ok(Terms {
        name: name.unwrap_or_default(),
        prices,
        trial_days: request.trial_days.unwrap_or_default(),
        grants,
    })
}

fn edit(request: &UpdatePlanRequest) -> Result<Edit, Problem> {
    let mut faults = Violations::new();
    let prices = read_prices(&mut faults, &request.prices);
    let entitlements = request.entitlements.as_ref();
    let grants = entitlements.map(|given| read_grants(&mut faults, Some(given)));
    faults.finish()?;
    let revision = match request.etag.as_deref().map(read_etag) {
        None => None,
        Some(Some(revision)) => Some(revision),
        // No plan ever had this etag.
        Some(None) => return Err(PlanError::Stale.into()),
    };
    Ok(Edit {
        name: request.name.clone(),
        prices: (!prices.is_empty()).then_some(prices),
        trial_days: request.trial_days,
        grants,
        revision,
    })
}

fn read_prices(faults: &mut Violations, given: &[PlanPrice]) -> Vec<Price> {
    let mut prices = Vec::with_capacity(given.len());
    for (place, price) in given.iter().enumerate() {
        let field = |name: &str| format!("prices[{place}].{name}");
        let currency = faults.check(&field("currency"), read_currency(price.currency.as_deref()));
        let every = faults.check(&field("interval"), read_interval(price.interval));
        let amount_minor = faults.required(&field("amount_minor"), price.amount_minor);
        if let (Some(currency), Some(interval), Some(amount_minor)) =
            (currency, every, amount_minor)
        {
            let price = Price {
                currency,
                interval,
                amount_minor,
            };
            prices.push((place, price));
        }
    }
    for place in rules::repeated_prices(&prices) {
        faults.add(
            format!("prices[{place}]"),
            "repeats the currency and interval of an earlier price",
        );
    }
    prices.into_iter().map(|(_, price)| price).collect()
}

fn read_grants(faults: &mut Violations, given: Option<&Entitlements>) -> Grants {
    let Some(given) = given else {
        return Grants::default();
    };
    let mut features = given.features.clone();
    features.sort();
    for pair in features.windows(2).filter(|pair| pair[0] == pair[1]) {
        faults.add("entitlements.features", format!("names {} twice", pair[0]));
    }
    let mut limits = BTreeMap::new();
    for (name, limit) in &given.limits {
        let path = format!("entitlements.limits.{name}");
        match read_limit(faults, &path, limit) {
            Ok(limit) => {
                limits.insert(name.clone(), limit);
            }
            Err(wrong) => {
                for (field, message) in wrong {
                    faults.add(format!("{path}.{field}"), message);
                }
            }
        }
    }
    Grants { features, limits }
}

fn read_limit(
    faults: &mut Violations,
    path: &str,
    given: &ProtoLimit,
) -> Result<Limit, Vec<rules::Fault>> {
    let price = given.price.as_ref().and_then(|price| {
        let currency = read_currency(price.currency.as_deref());
        let currency = faults.check(&format!("{path}.price.currency"), currency)?;
        let amount = faults.required(&format!("{path}.price.amount_minor"), price.amount_minor)?;
        Some(Money::new(amount, currency))
    });
    rules::limit(LimitInput {
        included: given.included,
        beyond: match given.beyond.map(Beyond::try_from) {
            Some(Ok(Beyond::Block)) => Some(BeyondInput::Block),
            Some(Ok(Beyond::Overage)) => Some(BeyondInput::Overage),
            Some(Ok(Beyond::Unlimited)) => Some(BeyondInput::Unlimited),
            Some(Ok(Beyond::Unspecified) | Err(_)) | None => None,
        },
        block_size: given.block_size,
        price,
        price_given: given.price.is_some(),
    })
}

fn etag(plan: &Plan) -> String {
    format!("v{}", plan.revision)
}

fn read_etag(text: &str) -> Option<i64> {
    // If-Match arrives as HTTP writes it.
    let text = text.trim().trim_start_matches("W/").trim_matches('"');
    text.strip_prefix('v')?.parse().ok()
}

fn proto(plan: &Plan) -> ProtoPlan {
    let state = match plan.state {
        PlanState::Active => ProtoState::Active,
        PlanState::Archived => ProtoState::Archived,
    };
    let prices = plan.terms.prices.iter().map(|price| PlanPrice {
        currency: Some(price.currency.to_string()),
        interval: Some(interval(price.interval).into()),
        amount_minor: Some(price.amount_minor),
    });
    ProtoPlan {
        id: Some(plan.id.to_string()),
        version: Some(plan.version),
        state: Some(state.into()),
        name: Some(plan.terms.name.clone()),
        prices: prices.collect(),
        trial_days: Some(plan.terms.trial_days),
        entitlements: Some(entitlements(&plan.terms.grants)),
        etag: Some(etag(plan)),
        created_at: Some(timestamp(plan.created_at)),
        updated_at: Some(timestamp(plan.version_created_at)),
    }
}

/// What a plan grants, as REST and identity have it.
pub(crate) fn entitlements(grants: &Grants) -> Entitlements {
    let limits = grants.limits.iter();
    Entitlements {
        features: grants.features.clone(),
        limits: limits
            .map(|(name, limit)| (name.clone(), proto_limit(limit)))
            .collect(),
    }
}

fn proto_limit(limit: &Limit) -> ProtoLimit {
    let empty = ProtoLimit {
        included: None,
        beyond: None,
        block_size: None,
        price: None,
    };
    match limit {
        Limit::Block { included } => ProtoLimit {
            included: Some(*included),
            beyond: Some(Beyond::Block.into()),
            ..empty
        },
        Limit::Overage {
            included,
            block_size,
            price,
        } => ProtoLimit {
            included: Some(*included),
            beyond: Some(Beyond::Overage.into()),
            block_size: Some(*block_size),
            price: Some(money(*price)),
        },
        Limit::Unlimited => ProtoLimit {
            beyond: Some(Beyond::Unlimited.into()),
            ..empty
        },
    }
}
