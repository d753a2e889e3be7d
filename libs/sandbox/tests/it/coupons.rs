//! Coupons: what they take off, for how long, and what is told about it.
//!
//! Deliberately absent: rounding, which the crate's own tests of the arithmetic cover.

use serde_json::{Value, json};

use crate::client::{Simulator, id};

const DAY: i64 = 86_400;

async fn coupon(stripe: &Simulator, form: &[(&str, &str)]) -> Value {
    stripe.post("/coupons", form).await.ok()
}

async fn invoices_oldest_first(stripe: &Simulator, subscription: &str) -> Vec<Value> {
    let path = format!("/invoices?subscription={subscription}&limit=100");
    let mut invoices = stripe.get(&path).await.ok()["data"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    invoices.reverse();
    invoices
}

#[tokio::test]
async fn a_repeating_coupon_is_on_the_invoices_of_its_months_and_on_no_more() {
    let stripe = Simulator::start().await;
    let (customer, _) = stripe.customer_with_card("pm_card_visa").await;
    let price = stripe.price(10_000).await;
    let form = [
        ("id", "SUMMER"),
        ("percent_off", "20"),
        ("duration", "repeating"),
        ("duration_in_months", "3"),
        ("metadata[mainstay_coupon_id]", "c_1"),
    ];
    assert_eq!(coupon(&stripe, &form).await["id"], "SUMMER");
    let more = [
        ("discounts[0][coupon]", "SUMMER"),
        ("expand[]", "discounts.source.coupon"),
        ("expand[]", "latest_invoice.discounts"),
    ];
    let made = stripe.subscribe(&customer, &price, &more).await.ok();
    let discount = &made["discounts"][0];
    assert_eq!(discount["object"], "discount");
    assert_eq!(
        discount["source"]["coupon"]["metadata"]["mainstay_coupon_id"],
        "c_1"
    );
    let first = &made["latest_invoice"];
    assert_eq!(first["discounts"][0]["id"], discount["id"]);
    assert_eq!(
        (&first["subtotal"], &first["total"], &first["amount_paid"]),
        (&json!(10_000), &json!(8_000), &json!(8_000))
    );
    let amounts = json!([{ "amount": 2_000, "discount": discount["id"] }]);
    assert_eq!(first["total_discount_amounts"], amounts);
    assert_eq!(first["lines"]["data"][0]["discount_amounts"], amounts);

    let told = stripe
        .get("/events?type=customer.discount.created")
        .await
        .ok();
    assert_eq!(told["data"].as_array().map(Vec::len), Some(1));
    stripe.advance(130 * DAY).await;
    let paid: Vec<i64> = invoices_oldest_first(&stripe, &id(&made))
        .await
        .iter()
        .filter_map(|invoice| invoice["amount_paid"].as_i64())
        .collect();
    assert_eq!(paid, [8_000, 8_000, 8_000, 10_000, 10_000]);
    let now = stripe
        .get(&format!("/subscriptions/{}", id(&made)))
        .await
        .ok();
    assert_eq!(now["discounts"], json!([]), "the coupon has run out");
    let told = stripe
        .get("/events?type=customer.discount.deleted")
        .await
        .ok();
    assert_eq!(told["data"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_coupon_of_the_whole_price_needs_no_card_and_is_paid_at_once() {
    let stripe = Simulator::start().await;
    let customer = id(&stripe.post("/customers", &[]).await.ok());
    let price = stripe.price(10_000).await;
    let free = coupon(&stripe, &[("percent_off", "100"), ("duration", "once")]).await;
    let more = [
        ("discounts[0][coupon]", free["id"].as_str().expect("an id")),
        ("expand[]", "latest_invoice"),
    ];
    let made = stripe.subscribe(&customer, &price, &more).await.ok();
    assert_eq!(
        (&made["status"], &made["latest_invoice"]["status"]),
        (&json!("active"), &json!("paid"))
    );
    assert_eq!(made["latest_invoice"]["amount_due"], 0);
    let ledger = stripe.ledger().await;
    for nothing in ["charges", "payment_intents"] {
        assert_eq!(ledger[nothing], json!([]), "{nothing}");
    }
}

#[tokio::test]
async fn a_coupon_for_a_product_leaves_the_other_lines_alone() {
    let stripe = Simulator::start().await;
    let (customer, _) = stripe.customer_with_card("pm_card_visa").await;
    let (seat, addon) = (stripe.price(10_000).await, stripe.price(3_000).await);
    let product = stripe.get(&format!("/prices/{addon}")).await.ok()["product"].clone();
    let form = [
        ("amount_off", "5000"),
        ("currency", "usd"),
        ("duration", "forever"),
        (
            "applies_to[products][]",
            product.as_str().expect("a product"),
        ),
        ("expand[]", "applies_to"),
    ];
    let only = coupon(&stripe, &form).await;
    assert_eq!(only["applies_to"]["products"], json!([product]));
    let more = [
        ("items[1][price]", addon.as_str()),
        ("discounts[0][coupon]", only["id"].as_str().expect("an id")),
        ("expand[]", "latest_invoice"),
    ];
    let made = stripe.subscribe(&customer, &seat, &more).await.ok();
    let lines = &made["latest_invoice"]["lines"]["data"];
    assert_eq!(made["latest_invoice"]["total"], 10_000);
    assert_eq!(lines[0]["discount_amounts"], json!([]));
    assert_eq!(lines[1]["discount_amounts"][0]["amount"], 3_000);
}

#[tokio::test]
async fn a_coupon_can_be_put_on_kept_and_taken_off_a_running_subscription() {
    let stripe = Simulator::start().await;
    let (customer, _) = stripe.customer_with_card("pm_card_visa").await;
    let price = stripe.price(10_000).await;
    let made = stripe.subscribe(&customer, &price, &[]).await.ok();
    let path = format!("/subscriptions/{}", id(&made));
    coupon(
        &stripe,
        &[
            ("id", "HALF"),
            ("percent_off", "50"),
            ("duration", "forever"),
        ],
    )
    .await;
    let with = stripe
        .post(&path, &[("discounts[0][coupon]", "HALF")])
        .await
        .ok();
    let discount = with["discounts"][0]
        .as_str()
        .expect("a discount")
        .to_owned();
    let kept = stripe
        .post(&path, &[("discounts[0][discount]", &discount)])
        .await
        .ok();
    assert_eq!(kept["discounts"], json!([discount]));
    assert_eq!(
        stripe.get("/coupons/HALF").await.ok()["times_redeemed"],
        1,
        "keeping is not redeeming"
    );
    stripe.advance(32 * DAY).await;
    let renewal = invoices_oldest_first(&stripe, &id(&made)).await;
    assert_eq!(renewal[1]["amount_paid"], 5_000);
    let without = stripe.post(&path, &[("discounts", "")]).await.ok();
    assert_eq!(without["discounts"], json!([]));
    stripe.advance(31 * DAY).await;
    let renewal = invoices_oldest_first(&stripe, &id(&made)).await;
    assert_eq!(renewal[2]["amount_paid"], 10_000);
    stripe
        .post(&path, &[("discounts[0][discount]", "di_none")])
        .await
        .error(400);
}

#[tokio::test]
async fn a_downgrade_credits_what_was_paid_and_not_what_it_would_have_cost() {
    let stripe = Simulator::start().await;
    let (customer, _) = stripe.customer_with_card("pm_card_visa").await;
    let (large, small) = (stripe.price(10_000).await, stripe.price(4_000).await);
    coupon(
        &stripe,
        &[
            ("id", "HALF"),
            ("percent_off", "50"),
            ("duration", "forever"),
        ],
    )
    .await;
    let half = [("discounts[0][coupon]", "HALF")];
    let made = stripe.subscribe(&customer, &large, &half).await.ok();
    let item = id(&made["items"]["data"][0]);
    let form = [
        ("items[0][id]", item.as_str()),
        ("items[0][price]", &small),
        ("proration_behavior", "always_invoice"),
        ("proration_date", &made["created"].to_string()),
        ("expand[]", "latest_invoice"),
    ];
    let changed = stripe
        .post(&format!("/subscriptions/{}", id(&made)), &form)
        .await
        .ok();
    // Half of 100.00 was paid, half of 40.00 is owed: the rest is credit.
    assert_eq!(changed["latest_invoice"]["total"], -3_000);
    assert_eq!(
        stripe.get(&format!("/customers/{customer}")).await.ok()["balance"],
        -3_000
    );
}
