//! What goes in: exactly what the protos say, and every fault at once.

use mainstay_transcode::{NotRouted, Schema};
use serde_json::json;

use crate::kitchen::{CLIENT, KITCHEN, paths, put, send, send_with};

#[test]
fn every_kind_of_value_goes_in_and_comes_out_as_it_was() {
    let dish = json!({
        "title": "Süppli", "small": -3, "large": 9_007_199_254_740_993_i64, "count": 4_294_967_295_u32, "weight": 2.5,
        "hot": false, "taste": "sweet_sour", "photo": "AQID/w==", "made_at": "2026-11-21T09:30:00.250Z",
        "extra": {"a": [1, 2.5, "x", null, true], "b": {}}, "note": [1], "steps": ["cut", {"min": 5}],
        "sides": [{"title": "Salat", "small": 0, "sides": []}], "tags": ["vegan"], "parts": {"base": {"hot": true}},
        "labels": {"Any key": "any text"}, "plate": "blue", "size": "big", "sold": 0,
    });
    let back = put(&dish.to_string()).expect("all of it is right");
    for (name, sent) in dish.as_object().expect("an object") {
        match name.as_str() {
            // Messages come back with what they lack as null.
            "sides" => assert_eq!(back["sides"][0]["title"], "Salat"),
            "parts" => assert_eq!(back["parts"]["base"]["hot"], true),
            _ => assert_eq!(&back[name], sent, "{name}"),
        }
    }
    assert!(back["bowl"].is_null() && back["sides"][0]["taste"].is_null());
    assert_eq!(back["sides"][0]["tags"], json!([]));
}

#[test]
fn a_whole_number_written_with_a_point_is_an_integer() {
    for (sent, told) in [("-3.0", -3), ("1e3", 1000)] {
        let back = put(&format!("{{\"small\":{sent}}}")).expect(sent);
        assert_eq!(back["small"], told);
    }
}

#[test]
fn times_are_taken_with_any_offset_and_told_in_utc() {
    for (sent, told) in [
        ("2026-11-21T10:30:00+01:00", "2026-11-21T09:30:00Z"),
        ("2026-11-21T09:30:00.123456Z", "2026-11-21T09:30:00.123456Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
    ] {
        let back = put(&json!({"made_at": sent}).to_string()).expect(sent);
        assert_eq!(back["made_at"], told);
    }
}

#[test]
fn what_is_almost_right_is_refused_by_its_path() {
    let table = [
        (
            r#"{"small":2147483648}"#,
            "dish.small",
            "-2147483648 to 2147483647",
        ),
        (r#"{"small":1.5}"#, "dish.small", "must be an integer"),
        (r#"{"small":1e10}"#, "dish.small", "must be an integer"),
        (r#"{"small":"1"}"#, "dish.small", "not a string"),
        (r#"{"count":-1}"#, "dish.count", "0 to 4294967295"),
        (
            r#"{"large":99999999999999999999999}"#,
            "dish.large",
            "must be an integer from -5 to 9007199254740993",
        ),
        (
            r#"{"large":-6}"#,
            "dish.large",
            "from -5 to 9007199254740993",
        ),
        (r#"{"weight":11}"#, "dish.weight", "at most 10"),
        (r#"{"weight":"1"}"#, "dish.weight", "must be a number"),
        (r#"{"hot":1}"#, "dish.hot", "true or false"),
        (r#"{"hot":"true"}"#, "dish.hot", "true or false"),
        (r#"{"taste":"salty"}"#, "dish.taste", "sweet, sweet_sour"),
        (r#"{"taste":"TASTE_SWEET"}"#, "dish.taste", "must be one of"),
        (r#"{"taste":"unspecified"}"#, "dish.taste", "must be one of"),
        (r#"{"taste":1}"#, "dish.taste", "one of: sweet"),
        (r#"{"photo":"_w"}"#, "dish.photo", "base64"),
        (
            r#"{"made_at":"2026-11-21 09:30:00Z"}"#,
            "dish.made_at",
            "RFC 3339",
        ),
        (
            r#"{"made_at":"2026-02-30T09:30:00Z"}"#,
            "dish.made_at",
            "RFC 3339",
        ),
        (
            r#"{"made_at":"2026-11-21T09:30:60Z"}"#,
            "dish.made_at",
            "RFC 3339",
        ),
        (
            r#"{"made_at":"2026-11-21T09:30:00"}"#,
            "dish.made_at",
            "RFC 3339",
        ),
        (
            r#"{"made_at":"2026-11-21t09:30:00z"}"#,
            "dish.made_at",
            "RFC 3339",
        ),
        (
            r#"{"made_at":"0000-12-31T23:59:59Z"}"#,
            "dish.made_at",
            "0001 to 9999",
        ),
        (r#"{"made_at":1763717400}"#, "dish.made_at", "RFC 3339"),
        (r#"{"title":"x"}"#, "dish.title", "at least 2 characters"),
        (
            r#"{"title":"ninechars"}"#,
            "dish.title",
            "at most 8 characters",
        ),
        (
            r#"{"title":"a\u0000b"}"#,
            "dish.title",
            "control characters",
        ),
        (
            r#"{"title":["ab"]}"#,
            "dish.title",
            "must be a string, not an array",
        ),
        (r#"{"size":"medium"}"#, "dish.size", "big, small"),
        (r#"{"tags":"vegan"}"#, "dish.tags", "must be an array"),
        (r#"{"tags":["vegan",null]}"#, "dish.tags[1]", "not null"),
        (
            r#"{"tags":["a","b","c","d"]}"#,
            "dish.tags",
            "at most 3 items",
        ),
        (r#"{"tags":["Vegan"]}"#, "dish.tags[0]", "lower case"),
        (
            r#"{"parts":{"Base":{}}}"#,
            "dish.parts.Base",
            "its name must start",
        ),
        (r#"{"parts":{"base":null}}"#, "dish.parts.base", "not null"),
        (
            r#"{"parts":{"base":{},"base":{}}}"#,
            "dish.parts.base",
            "more than once",
        ),
        (
            r#"{"parts":{"base":{"small":"x"}}}"#,
            "dish.parts.base.small",
            "an integer",
        ),
        (r#"{"labels":[]}"#, "dish.labels", "must be an object"),
        (
            r#"{"sides":[{},{"small":true}]}"#,
            "dish.sides[1].small",
            "not a boolean",
        ),
        (
            r#"{"plate":"a","bowl":"b"}"#,
            "dish.bowl",
            "cannot stand beside plate",
        ),
        (r#"{"hot":true,"hot":true}"#, "dish.hot", "more than once"),
        (r#"{"colour":"red"}"#, "dish.colour", "not a field"),
        (r#"{"extra":[]}"#, "dish.extra", "must be an object"),
        (r#"{"steps":{}}"#, "dish.steps", "must be an array"),
        ("[]", "dish", "must be an object"),
        ("null", "dish", "is required"),
    ];
    for (dish, path, message) in table {
        let faults = put(dish).expect_err(dish);
        assert_eq!(paths(&faults), [path], "{dish}: {faults:?}");
        assert!(faults[0].message.contains(message), "{dish}: {faults:?}");
    }
}

#[test]
fn all_faults_are_named_at_once() {
    let faults = send(
        "PUT",
        "/v1/clients/plan_01h455vb4pex5vsknk084sn02q/dishes/Soup?x=1",
        br#"{"dish":{"small":"x","title":"y","sides":[{"count":-1}],"nope":1},"name":"soup","etag":7}"#,
    )
    .expect_err("many faults");
    let mut named = paths(&faults);
    named.sort_unstable();
    assert_eq!(
        named,
        [
            "client_id",
            "dish.nope",
            "dish.sides[0].count",
            "dish.small",
            "dish.title",
            "etag",
            "name",
            "x"
        ]
    );
    let client = faults
        .iter()
        .find(|fault| fault.field == "client_id")
        .expect("named");
    assert!(
        client.message.contains("expected `cli_…`, got `plan_…`"),
        "{}",
        client.message
    );
}

#[test]
fn a_body_that_is_no_json_object_is_one_fault_of_the_whole() {
    let target = format!("/v1/clients/{CLIENT}/dishes/soup");
    let deep = "[".repeat(10_000);
    let nested = format!(
        r#"{{"dish":{{"note":{}1{}}}}}"#,
        "[".repeat(40),
        "]".repeat(40)
    );
    let bodies: [&[u8]; 12] = [
        b"{",
        b"[]",
        b"\"text\"",
        b"{} {}",
        b"{\"dish\":}",
        b"{'dish':1}",
        b"\xff\xfe",
        b"{\"dish\":\"\xff\"}",
        b"{\"dish\":{\"title\":\"\\ud800\"}}",
        b"{\"dish\":{\"weight\":1e999}}",
        deep.as_bytes(),
        nested.as_bytes(),
    ];
    for body in bodies {
        let faults = send("PUT", &target, body).expect_err("no JSON object");
        assert_eq!(
            paths(&faults),
            [""],
            "{:?}: {faults:?}",
            String::from_utf8_lossy(body)
        );
    }
}

#[test]
fn an_action_without_a_body_is_an_empty_object() {
    let faults = send(
        "POST",
        &format!("/v1/clients/{CLIENT}/dishes/soup/cook"),
        b"",
    )
    .expect_err("the dish is required");
    assert_eq!(paths(&faults), ["dish"]);
}

#[test]
fn a_query_fills_what_the_path_leaves() {
    let good = send(
        "GET",
        "/v1/dishes?page_size=100&tastes=sweet&tastes=sweet_sour&hot=true&made_after_at=2026-11-21T09%3A30%3A00%2B01:00",
        b"",
    );
    assert!(good.is_ok(), "{good:?}");
    let table = [
        ("page_size=0", "page_size", "from 1 to 100"),
        ("page_size=101", "page_size", "from 1 to 100"),
        (
            "page_size=99999999999999999999999999999999999999999999",
            "page_size",
            "must be an integer",
        ),
        ("page_size=1.5", "page_size", "must be an integer"),
        ("page_size=%2B1", "page_size", "must be an integer"),
        ("page_size=", "page_size", "must be an integer"),
        ("page_size=1&page_size=1", "page_size", "more than once"),
        ("hot=yes", "hot", "true or false"),
        ("tastes=salty", "tastes", "sweet, sweet_sour"),
        (
            "made_after_at=2026-11-21T09:30:00+01:00",
            "made_after_at",
            "RFC 3339",
        ),
        ("pagesize=1", "pagesize", "not a query parameter"),
        ("hot=%ff", "hot", "UTF-8"),
        ("hot=%4", "hot", "percent-encoded"),
        ("%ff=1", "query", "UTF-8"),
    ];
    for (query, path, message) in table {
        let faults = send("GET", &format!("/v1/dishes?{query}"), b"").expect_err(query);
        assert_eq!(paths(&faults), [path], "{query}: {faults:?}");
        assert!(faults[0].message.contains(message), "{query}: {faults:?}");
    }
    let faults = send("GET", "/v1/dishes", b"{}").expect_err("a body");
    assert_eq!(paths(&faults), [""]);
}

#[test]
fn if_match_fills_the_etag_and_may_not_contradict_it() {
    let target = format!("/v1/clients/{CLIENT}/dishes/soup");
    let sent =
        |body: &str, if_match: &str| send_with("PUT", &target, body.as_bytes(), Some(if_match));
    assert!(sent(r#"{"dish":{}}"#, "\"v1\"").is_ok());
    assert!(sent(r#"{"dish":{},"etag":"v1"}"#, "W/\"v1\"").is_ok());
    let faults = sent(r#"{"dish":{},"etag":"v2"}"#, "\"v1\"").expect_err("they differ");
    assert_eq!(paths(&faults), ["etag"]);
    for whatever_stands in ["*", "v1"] {
        assert!(sent(r#"{"dish":{}}"#, whatever_stands).is_ok());
    }
    for none in ["", "\"v1", "\"v1\", \"v2\"", "v 1", "\"\"", &"v".repeat(97)] {
        let faults = sent(r#"{"dish":{}}"#, none).expect_err(none);
        assert_eq!(paths(&faults), ["If-Match"], "{none}");
    }
}

#[test]
fn a_literal_segment_goes_before_a_parameter() {
    let name = |path: &str| KITCHEN.route("GET", path).expect(path).method.name.as_str();
    assert_eq!(name("/v1/dishes/special"), "GetSpecial");
    assert_eq!(name("/v1/dishes/soup"), "GetDish");
    let put = KITCHEN.route("POST", &format!("/v1/clients/{CLIENT}/dishes/soup/cook"));
    assert_eq!(put.expect("the second address").method.name, "PutDish");
    assert_eq!(
        KITCHEN
            .route("GET", "/v1/dishes/soup/cook")
            .expect_err("no such path"),
        NotRouted::NoSuchPath
    );
}

#[test]
fn a_service_checks_again_what_the_gateway_checked() {
    let schema = Schema::mainstay();
    let method = schema
        .method("/mainstay.billing.v1.SubscriptionService/CreateSubscription")
        .expect("it exists");
    let empty = prost_reflect::DynamicMessage::new(method.input.clone());
    let faults = method.check_rules(&empty);
    let named = paths(&faults);
    for field in ["client_id", "plan_id", "currency", "interval"] {
        assert!(named.contains(&field), "{named:?}");
    }
}

#[test]
fn the_shapes_that_clients_already_send_are_taken() {
    let schema = Schema::mainstay();
    let client = CLIENT;
    let plan = "plan_01h455vb4pex5vsknk084sn02q";
    let table = [
        (
            "/v1/plans".to_owned(),
            json!({"name": "Pro", "prices": [{"currency": "usd", "interval": "month", "amount_minor": 99700}],
            "trial_days": 14, "entitlements": {"features": ["ai_replies"], "limits": {
                "messages": {"included": 1000, "beyond": "block"}, "users": {"beyond": "unlimited"},
                "storage_mb": {"included": 500, "beyond": "overage", "block_size": 100,
                    "price": {"amount_minor": 200, "currency": "usd"}}}}}),
        ),
        (
            "/v1/clients".to_owned(),
            json!({"name": "Acme Roofing", "email": "owner@acme.test", "phone": "+15125550100",
            "time_zone": "America/Chicago"}),
        ),
        (
            format!("/v1/clients/{client}/subscriptions"),
            json!({"plan_id": plan, "currency": "usd", "interval": "month",
            "coupon_code": "SAVE20", "payment_method_id": "pm_card_visa"}),
        ),
        (
            "/v1/api_keys".to_owned(),
            json!({"name": "ci", "client_id": null, "permissions": ["billing.plans.read"],
            "expires_at": null}),
        ),
        (
            "/v1/members".to_owned(),
            json!({"name": "Ana", "email": "ana@agency.test", "phone": "+15125550111",
            "role": "agent", "client_ids": null}),
        ),
    ];
    for (path, body) in table {
        let found = schema.route("POST", &path).expect(&path);
        let body = body.to_string();
        let parts = mainstay_transcode::RequestParts {
            body: body.as_bytes(),
            ..Default::default()
        };
        let decoded = mainstay_transcode::decode_request(&found, parts);
        assert!(decoded.is_ok(), "{path}: {decoded:?}");
    }
}
