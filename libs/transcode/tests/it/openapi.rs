//! The OpenAPI document says what the codec does.

use std::collections::BTreeSet;

use mainstay_transcode::{Schema, openapi};
use serde_json::Value;

use crate::kitchen::KITCHEN;

fn document(schema: &Schema) -> Value {
    openapi::document(
        schema,
        &openapi::Info {
            version: "1.2.3".to_owned(),
            base_url: "http://127.0.0.1:8080".to_owned(),
        },
    )
}

fn references<'a>(value: &'a Value, out: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                out.insert(reference);
            }
            map.values().for_each(|value| references(value, out));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, out)),
        _ => {}
    }
}

#[test]
fn every_public_method_is_there_and_no_internal_one() {
    let schema = Schema::mainstay();
    let document = document(schema);
    let mut listed = 0;
    for method in schema.methods() {
        for binding in &method.bindings {
            let operation =
                &document["paths"][&binding.template][binding.verb.as_str().to_ascii_lowercase()];
            assert!(operation["operationId"].is_string(), "{}", method.path);
            listed += 1;
        }
    }
    let paths = document["paths"].as_object().expect("paths");
    let there: usize = paths
        .values()
        .filter_map(Value::as_object)
        .map(serde_json::Map::len)
        .sum();
    assert_eq!(there, listed);
    assert!(!document.to_string().contains("ExchangeCredential"));
}

#[test]
fn every_reference_leads_somewhere_and_every_operation_has_a_name_of_its_own() {
    for schema in [Schema::mainstay(), &*KITCHEN] {
        let document = document(schema);
        let mut all = BTreeSet::new();
        references(&document, &mut all);
        assert!(!all.is_empty());
        for reference in all {
            let pointer = reference.strip_prefix('#').expect("within the document");
            let found = document.pointer(pointer);
            assert!(found.is_some_and(Value::is_object), "{reference}");
        }
        let names: Vec<&str> = document["paths"]
            .as_object()
            .expect("paths")
            .values()
            .filter_map(Value::as_object)
            .flat_map(|verbs| verbs.values())
            .filter_map(|operation| operation["operationId"].as_str())
            .collect();
        let distinct: BTreeSet<&&str> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
    }
}

#[test]
fn requests_are_closed_and_answers_may_grow() {
    let document = document(Schema::mainstay());
    let schemas = &document["components"]["schemas"];
    let create = &schemas["CreateSubscriptionRequest"];
    assert_eq!(create["additionalProperties"], false);
    assert!(
        create["properties"]["client_id"].is_null(),
        "it is in the path"
    );
    assert_eq!(
        create["properties"]["plan_id"]["pattern"],
        "^plan_[0-7][0-9a-hjkmnp-tv-z]{25}$"
    );
    assert_eq!(schemas["MoneyInput"]["additionalProperties"], false);
    assert!(schemas["Money"]["additionalProperties"].is_null());
    assert_eq!(
        schemas["Money"]["properties"]["amount_minor"]["type"][0],
        "integer"
    );
}

#[test]
fn a_method_tells_every_way_it_refuses() {
    let document = document(Schema::mainstay());
    let create = &document["paths"]["/v1/clients/{client_id}/subscriptions"]["post"];
    let statuses: Vec<&String> = create["responses"]
        .as_object()
        .expect("responses")
        .keys()
        .collect();
    for status in [
        "201", "202", "400", "401", "403", "404", "409", "413", "415", "422", "429", "500", "503",
        "504",
    ] {
        assert!(
            statuses.iter().any(|known| *known == status),
            "{status} of {statuses:?}"
        );
    }
    let conflict = create["responses"]["409"].to_string();
    for reason in [
        "SubscriptionExistsProblem",
        "PlanArchivedProblem",
        "IdempotencyInFlightProblem",
    ] {
        assert!(conflict.contains(reason), "{reason}");
    }
    let exists = &document["components"]["schemas"]["SubscriptionExistsProblem"]["properties"];
    assert!(exists["existing_id"].is_object() && exists["code"]["const"] == "subscription_exists");
}
