//! A message whose JSON is a plain list: so a list can be absent, which is not the same as empty.

use mainstay_transcode::{RequestParts, Schema, SchemaError, decode_request, openapi};
use serde_json::{Value, json};

use crate::kitchen::{CLIENT, KITCHEN, load, paths, put};

#[test]
fn a_list_goes_in_and_comes_out_as_a_list() {
    let back =
        put(&json!({"guests": [CLIENT], "tables": [[CLIENT], [CLIENT, CLIENT]]}).to_string())
            .expect("right");
    assert_eq!(back["guests"], json!([CLIENT]));
    assert_eq!(back["tables"], json!([[CLIENT], [CLIENT, CLIENT]]));
}

#[test]
fn a_list_left_out_or_null_is_absent_and_an_empty_one_is_not() {
    for absent in ["{}", r#"{"guests":null}"#] {
        assert_eq!(
            put(absent).expect("nobody is asked for")["guests"],
            Value::Null
        );
    }
    let faults = put(r#"{"guests":[]}"#).expect_err("it must not be empty");
    assert_eq!(paths(&faults), ["dish.guests"]);
    assert!(faults[0].message.contains("at least 1"), "{faults:?}");
}

#[test]
fn what_is_wrong_with_a_list_is_told_by_the_place_in_it() {
    let many = json!({"guests": [CLIENT, CLIENT, CLIENT, CLIENT]}).to_string();
    let table = [
        (
            r#"{"guests":{"values":[]}}"#,
            "dish.guests",
            "must be an array, not an object",
        ),
        (
            r#"{"guests":"all"}"#,
            "dish.guests",
            "must be an array, not a string",
        ),
        (
            r#"{"guests":[7]}"#,
            "dish.guests[0]",
            "must be a string, not an integer",
        ),
        (
            r#"{"guests":[null]}"#,
            "dish.guests[0]",
            "must be a string, not null",
        ),
        (
            r#"{"guests":["agy_01h455vb4pex5vsknk084sn02q"]}"#,
            "dish.guests[0]",
            "cli",
        ),
        (r#"{"tables":[["x"]]}"#, "dish.tables[0][0]", "cli"),
        (many.as_str(), "dish.guests", "at most 3"),
    ];
    for (sent, path, told) in table {
        let faults = put(sent).expect_err(sent);
        assert_eq!(paths(&faults), [path], "{sent}");
        assert!(faults[0].message.contains(told), "{sent}: {faults:?}");
    }
}

#[test]
fn a_member_is_invited_for_some_clients() {
    let schema = Schema::mainstay();
    let found = schema.route("POST", "/v1/members").expect("it exists");
    let decode = |client_ids: Value| {
        let body = json!({"name": "Ana", "email": "ana@agency.test", "role": "agent", "client_ids": client_ids});
        let body = body.to_string();
        let parts = RequestParts {
            body: body.as_bytes(),
            ..Default::default()
        };
        decode_request(&found, parts)
    };
    let message = decode(json!([CLIENT])).expect("right");
    // A service judges the same message by the same rules, without having seen the JSON.
    assert_eq!(found.method.check_rules(&message), []);
    assert_eq!(
        paths(&decode(json!(["x"])).expect_err("no id")),
        ["client_ids[0]"]
    );
    assert_eq!(
        paths(&decode(json!([])).expect_err("empty")),
        ["client_ids"]
    );

    let mut empty = message.clone();
    let ids = empty.get_field_by_name_mut("client_ids").expect("a field");
    ids.as_message_mut()
        .expect("a message")
        .clear_field_by_name("values");
    assert_eq!(paths(&found.method.check_rules(&empty)), ["client_ids"]);
}

#[test]
fn the_document_tells_a_list() {
    let info = openapi::Info {
        version: "1".to_owned(),
        base_url: "http://127.0.0.1".to_owned(),
    };
    let document = openapi::document(Schema::mainstay(), &info);
    let schemas = &document["components"]["schemas"];
    for (message, list, bounded) in [
        ("CreateMemberRequest", "ClientIdsInput", true),
        ("Member", "ClientIds", false),
    ] {
        let field = &schemas[message]["properties"]["client_ids"];
        let reference = format!("#/components/schemas/{list}");
        assert_eq!(
            field["anyOf"],
            json!([{"$ref": reference}, {"type": "null"}]),
            "{message}"
        );
        let list = &schemas[list];
        assert_eq!(list["type"], "array");
        assert_eq!(
            list["items"]["pattern"],
            "^cli_[0-7][0-9a-hjkmnp-tv-z]{25}$"
        );
        assert!(list["properties"].is_null(), "{list}");
        let bounds = (list["minItems"].as_i64(), list["maxItems"].as_i64());
        assert_eq!(
            bounds,
            if bounded {
                (Some(1), Some(500))
            } else {
                (None, None)
            }
        );
    }
}

#[test]
fn a_plain_list_with_anything_beside_its_items_is_refused() {
    for fields in [
        "repeated string values = 1; optional string note = 2;",
        "repeated string items = 1;",
        "optional string values = 1;",
        "map<string, string> values = 1;",
        "",
    ] {
        assert!(
            faults(fields).contains("mainstay.kitchen.v1.Guests"),
            "{fields}"
        );
    }
    let whole = KITCHEN
        .pool()
        .get_message_by_name("mainstay.kitchen.v1.Guests");
    assert!(whole.is_some(), "the right one loads");
}

// What loading says when the kitchen's plain list has these fields instead.
fn faults(fields: &str) -> String {
    let text = include_str!("protos/kitchen.proto");
    let (before, rest) = text
        .split_once("option (mainstay.options.v1.plain_list) = true;")
        .expect("there");
    let (_, after) = rest.split_once("\n}\n").expect("its end");
    let option = "option (mainstay.options.v1.plain_list) = true;";
    match load(&format!("{before}{option}{fields}\n}}\n{after}")) {
        Err(SchemaError::Incomplete(problems)) => problems.join("\n"),
        Err(other) => panic!("{other}"),
        Ok(_) => String::new(),
    }
}
