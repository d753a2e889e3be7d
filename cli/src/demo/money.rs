//! The money of the story: a plan and a coupon, a subscription with its charge, webhook and entitlements, what must not happen twice;
//! then a renewal and one that fails, told three times in any order.
//! Deliberately absent: the saga's own steps. `mainstay saga show` has those.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::ledger::Ledger;
use super::story::{Play, client, first_field, rows};
use crate::api::{Answer, Api};

const PRICE_MINOR: i64 = 99_700;
/// With the coupon: a fifth less.
const FIRST_MINOR: i64 = 79_760;
const DAY: i64 = 86_400;

/// What was sold.
pub struct Sold {
    /// The subscription.
    pub subscription: String,
}

/// Sells the plan to the client, with everything that must follow and nothing that must not.
pub async fn sell(play: &mut Play<'_>, api: &Api, client_id: &str) -> anyhow::Result<Sold> {
    let plan = plan(play, api).await?;
    let coupon = coupon(play, api).await?;
    let path = format!("/v1/clients/{client_id}/subscriptions");
    let body = json!({
        "plan_id": plan, "currency": "usd", "interval": "month", "payment_method_id": "pm_card_visa", "coupon_code": coupon,
    });
    let trace = play.trace(1);
    let key = play.key("subscribe");
    let first = api.under(&trace).post(&path, &body, &key).await?;
    let first = first.expect(&[201, 202])?;
    let subscription = first.text("id")?;
    play.told.trace_id = Some(trace.clone());
    let one = format!("{path}/{subscription}");
    let active = play
        .until(api, &one, "the subscription to be active", |s| {
            s["status"] == "active"
        })
        .await?;
    play.told.step(
        format!(
            "Subscribed the client: POST {path} answered {}; {subscription} is active",
            first.status
        ),
        format!(
            "the saga {} charged at Stripe and activated here",
            first.text("saga_id")?
        ),
    );
    charged_once(play, client_id, &active).await?;
    webhook_came(play, api, &trace).await?;
    entitled(play, api, client_id, &subscription).await?;
    same_key_same_answer(play, api, &path, &body, &first).await?;
    let mut other = body.clone();
    other["coupon_code"] = Value::Null;
    second_is_refused(play, api, client_id, &path, &other).await?;
    declined_leaves_nothing(play, api, &plan).await?;
    Ok(Sold { subscription })
}

async fn plan(play: &mut Play<'_>, api: &Api) -> anyhow::Result<String> {
    let body = json!({
        "name": format!("Pro {}", &play.run()[..8]),
        "prices": [{"currency": "usd", "interval": "month", "amount_minor": PRICE_MINOR}],
        "entitlements": {
            "features": ["ai_replies"],
            "limits": {
                "messages": {"included": 1000, "beyond": "block"},
                "users": {"beyond": "unlimited"},
                "storage_mb": {"included": 500, "beyond": "overage", "block_size": 100,
                               "price": {"amount_minor": 200, "currency": "usd"}},
            },
        },
    });
    let plan = api.post("/v1/plans", &body, &play.key("plan")).await?;
    let id = plan.expect(&[201])?.text("id")?;
    let mut vague = body.clone();
    vague["entitlements"]["limits"]["messages"] = json!({"included": 1000});
    let refused = api.post("/v1/plans", &vague, &play.key("vague")).await?;
    let refused = refused.expect(&[400])?;
    play.told.step(
        format!("Created a plan at 997.00 USD a month: {id}"),
        format!(
            "each of its limits says what happens beyond it; one that does not is refused, at {}",
            first_field(&refused)
        ),
    );
    Ok(id)
}

async fn coupon(play: &mut Play<'_>, api: &Api) -> anyhow::Result<String> {
    let code = format!("DEMO-{}", play.run()[..12].to_uppercase());
    let body = json!({"code": code, "percent_off": 20, "duration": "once", "max_redemptions": 1});
    let made = api.post("/v1/coupons", &body, &play.key("coupon")).await?;
    made.expect(&[201])?;
    play.told.step(
        format!("Created the coupon {code}: 20 % off the first charge, for one"),
        "it is reserved with the subscription and given back if that comes to nothing",
    );
    Ok(code)
}

async fn charged_once(
    play: &mut Play<'_>,
    client_id: &str,
    subscription: &Value,
) -> anyhow::Result<()> {
    let ledger = Ledger::of(&play.owner, client_id).await?;
    let stripe_id = subscription["stripe_subscription_id"]
        .as_str()
        .unwrap_or_default();
    ensure!(
        ledger.live() == [stripe_id],
        "Stripe has the live subscriptions {:?} for this client, where exactly {stripe_id:?} was expected",
        ledger.live()
    );
    ledger.has_charged(&[FIRST_MINOR])?;
    play.told.step(
        format!("Read Stripe's ledger: {stripe_id} and one charge of 797.60 USD"),
        "what Stripe says and what Mainstay says agree: one subscription, one charge, the coupon taken off",
    );
    Ok(())
}

async fn webhook_came(play: &mut Play<'_>, api: &Api, trace_id: &str) -> anyhow::Result<()> {
    let path = "/v1/webhook_events?provider=stripe&type=invoice.paid&page_size=100";
    let of_this_story = |event: &&Value| event["trace_id"] == trace_id;
    let page = play
        .until(api, path, "Stripe's invoice.paid to be processed", |page| {
            rows(page)
                .filter(of_this_story)
                .any(|event| event["state"] == "processed")
        })
        .await?;
    let event = rows(&page).find(of_this_story);
    let event = event.context("the event was there a moment ago")?;
    let event_id = event["event_id"].as_str().unwrap_or_default();
    stored_once(&page)?;
    play.told.step(
        format!("Saw Stripe's signed webhook in the inbox: {event_id} is processed"),
        "the gateway verified it, integrations stored it once, billing gave it its effect, in the same trace",
    );
    Ok(())
}

/// However often something was sent, it stands once in the inbox.
fn stored_once(page: &Value) -> anyhow::Result<()> {
    let mut ids: Vec<&str> = rows(page)
        .filter_map(|event| event["event_id"].as_str())
        .collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    ensure!(
        ids.len() == all,
        "an event stands twice in the inbox: {page}"
    );
    Ok(())
}

async fn entitled(
    play: &mut Play<'_>,
    api: &Api,
    client_id: &str,
    subscription: &str,
) -> anyhow::Result<()> {
    let path = format!("/v1/clients/{client_id}/entitlements");
    let stands = play
        .until(
            api,
            &path,
            "the entitlements to stand with paid_through_at",
            |e| e["subscription_id"] == subscription && e["paid_through_at"].is_string(),
        )
        .await?;
    let features = &stands["entitlements"]["features"];
    let messages = &stands["entitlements"]["limits"]["messages"];
    ensure!(
        *features == json!(["ai_replies"])
            && messages["included"] == 1000
            && messages["beyond"] == "block",
        "the entitlements are not the plan's: {stands}"
    );
    play.told.step(
        format!(
            "Read the client's entitlements: paid through {}",
            stands["paid_through_at"].as_str().unwrap_or("–")
        ),
        format!(
            "identity, their one owner, has what the plan grants, as version {}",
            stands["version"]
        ),
    );
    Ok(())
}

async fn same_key_same_answer(
    play: &mut Play<'_>,
    api: &Api,
    path: &str,
    body: &Value,
    first: &Answer,
) -> anyhow::Result<()> {
    let key = play.key("subscribe");
    let again = api.post(path, body, &key).await?.expect(&[first.status])?;
    ensure!(
        again.body == first.body,
        "the same request with the same Idempotency-Key got another answer:\n{}\n{}",
        first.body,
        again.body
    );
    let mut other = body.clone();
    other["interval"] = json!("year");
    let mismatch = api.post(path, &other, &key).await?.expect(&[422])?;
    play.told.step(
        "Sent the same request again with the same Idempotency-Key: the same answer, word for word",
        format!(
            "two clicks are one subscription; another body under that key is {} {}",
            mismatch.status,
            mismatch.code().unwrap_or("–")
        ),
    );
    Ok(())
}

async fn second_is_refused(
    play: &mut Play<'_>,
    api: &Api,
    client_id: &str,
    path: &str,
    body: &Value,
) -> anyhow::Result<()> {
    let second = api.post(path, body, &play.key("again")).await?;
    let second = second.expect(&[409])?;
    ensure!(
        second.code() == Some("subscription_exists"),
        "{}",
        second.unexpected("409 subscription_exists")
    );
    let ledger = Ledger::of(&play.owner, client_id).await?;
    ensure!(
        ledger.live().len() == 1 && ledger.charges.len() == 1,
        "the refused second subscription left something at Stripe: {ledger:?}"
    );
    play.told.step(
        "Asked for a second subscription: 409 subscription_exists",
        "a client has at most one live subscription, here and at Stripe",
    );
    Ok(())
}

async fn declined_leaves_nothing(
    play: &mut Play<'_>,
    api: &Api,
    plan_id: &str,
) -> anyhow::Result<()> {
    let client_id = client(play, api, "Unlucky Plumbing").await?;
    let path = format!("/v1/clients/{client_id}/subscriptions");
    let body = json!({"plan_id": plan_id, "currency": "usd", "interval": "month", "payment_method_id": "pm_card_chargeDeclined"});
    let declined = api.post(&path, &body, &play.key("declined")).await?;
    let declined = declined.expect(&[409])?;
    ensure!(
        declined.code() == Some("payment_declined"),
        "{}",
        declined.unexpected("409 payment_declined")
    );
    let ledger = Ledger::of(&play.owner, &client_id).await?;
    ensure!(
        ledger.live().is_empty() && ledger.charges.is_empty(),
        "the declined subscription left something at Stripe: {ledger:?}"
    );
    play.told.step(
        "Subscribed it with a card that is declined: 409 payment_declined",
        "the saga took back what it had made: nothing at Stripe lives, nothing was charged",
    );
    Ok(())
}

/// Months go by: one is paid; one is not, and then is. Stripe tells everything three times and in any order.
pub async fn life(
    play: &mut Play<'_>,
    api: &Api,
    client_id: &str,
    sold: &Sold,
) -> anyhow::Result<()> {
    for (kind, value) in [("duplicate_webhook", 3), ("shuffle_webhooks", 500)] {
        let fault = json!({"provider": "stripe", "operation": "clock.advance", "kind": kind, "value": value});
        play.owner.sandbox_post("/_/faults", &fault).await?;
    }
    let lived = months(play, api, client_id, sold).await;
    // Whatever came of it: whoever plays next has a healthy Stripe.
    play.owner.sandbox_delete("/_/faults").await?;
    lived
}

async fn months(
    play: &mut Play<'_>,
    api: &Api,
    client_id: &str,
    sold: &Sold,
) -> anyhow::Result<()> {
    let path = format!(
        "/v1/clients/{client_id}/subscriptions/{}",
        sold.subscription
    );
    let began = now_at_stripe(play).await?;
    pass_until(play, began + 32 * DAY).await?;
    paid(play, api, client_id, 2).await?;
    let ledger = Ledger::of(&play.owner, client_id).await?;
    ledger.has_charged(&[FIRST_MINOR, PRICE_MINOR])?;
    play.told.step(
        "A month went by at Stripe: the renewal of 997.00 USD is paid",
        "every webhook came three times and in any order, and had its one effect",
    );

    let customer = ledger.customer.context("a customer at Stripe")?;
    let bank = format!("/_/stripe/customers/{customer}/bank");
    let says = async |play: &Play<'_>, declines: bool| {
        let body = json!({"declines": declines});
        play.owner.sandbox_post(&bank, &body).await
    };
    says(play, true).await?;
    pass_until(play, began + 63 * DAY).await?;
    play.until(api, &path, "the subscription to be past due", |s| {
        s["status"] == "past_due"
    })
    .await?;
    let alerts = "/v1/alerts?kind=payment_failed&page_size=100";
    let ours = |alert: &&Value| alert["client_id"] == client_id;
    let page = play
        .until(api, alerts, "the agency to be alerted", |page| {
            rows(page).any(|alert| ours(&alert))
        })
        .await?;
    let count = rows(&page).filter(ours).count();
    ensure!(count == 1, "{count} alerts of one failure: {page}");
    play.told.step(
        "Another month, and the bank declined: the subscription is past_due",
        "the agency has one alert of it, however often it was told",
    );

    says(play, false).await?;
    pass_until(play, began + 71 * DAY).await?;
    play.until(api, &path, "the subscription to be active again", |s| {
        s["status"] == "active"
    })
    .await?;
    paid(play, api, client_id, 3).await?;
    play.until(api, alerts, "the alert to be over", |page| {
        rows(page)
            .filter(ours)
            .all(|alert| alert["state"] == "resolved")
    })
    .await?;
    let ledger = Ledger::of(&play.owner, client_id).await?;
    ledger.has_charged(&[FIRST_MINOR, PRICE_MINOR, PRICE_MINOR])?;
    let failed = "/v1/webhook_events?provider=stripe&type=invoice.payment_failed&page_size=100";
    stored_once(&api.get(failed).await?.expect(&[200])?.body)?;
    play.told.step(
        "The bank agreed, and Stripe tried again: it is active, and the alert is over by itself",
        "three charges in three months, to the cent",
    );
    Ok(())
}

async fn now_at_stripe(play: &Play<'_>) -> anyhow::Result<i64> {
    let clock = play.owner.sandbox("/_/clock").await?;
    clock["now"].as_i64().context("the simulators' time")
}

/// Said as a time and not as a step, so that saying it twice is saying it once.
async fn pass_until(play: &Play<'_>, then: i64) -> anyhow::Result<()> {
    for _ in 0..20 {
        let left = then - now_at_stripe(play).await?;
        if left <= 0 {
            return Ok(());
        }
        let body = json!({"seconds": left});
        play.owner
            .sandbox_post_once("/_/clock/advance", &body)
            .await;
    }
    anyhow::bail!("the simulators' clock does not advance")
}

/// Until so many invoices of the client are paid.
async fn paid(play: &Play<'_>, api: &Api, client_id: &str, count: usize) -> anyhow::Result<()> {
    let path = format!("/v1/clients/{client_id}/invoices?page_size=100");
    let what = format!("{count} paid invoices");
    play.until(api, &path, &what, |page| {
        rows(page)
            .filter(|invoice| invoice["status"] == "paid")
            .count()
            == count
    })
    .await?;
    Ok(())
}
