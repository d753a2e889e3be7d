//! What holds for any input: no panic, bounded faults, and what is taken comes out as it went in.

use mainstay_transcode::{MAX_VIOLATIONS, Schema};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::kitchen::{CLIENT, KITCHEN, put, send};

// Whole numbers that a double holds exactly: what JSON itself can carry through a Value.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-(1_i64 << 53)..(1 << 53)).prop_map(Value::from),
        // Eighths are exact in binary, so equality is fair.
        (-(1_i64 << 40)..(1 << 40)).prop_map(|n| Value::from((n * 8 + 1) as f64 / 8.0)),
        "[^\u{0}]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-z]{1,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_codec_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Err(faults) = send("PUT", &format!("/v1/clients/{CLIENT}/dishes/soup"), &body) {
            prop_assert!(!faults.is_empty() && faults.len() <= MAX_VIOLATIONS);
        }
    }

    #[test]
    fn no_json_makes_the_codec_panic(body in any_json()) {
        let _ = put(&body.to_string());
        let _ = send("PUT", &format!("/v1/clients/{CLIENT}/dishes/soup"), body.to_string().as_bytes());
    }

    #[test]
    fn no_path_or_query_makes_the_codec_panic(
        verb in prop_oneof![Just("GET"), Just("PUT"), Just("POST"), Just("TRACE")],
        path in "(/(v1|dishes|clients|cook|[ -~]{0,12})){0,6}",
        query in "[ -~]{0,40}",
    ) {
        if KITCHEN.route(verb, &path).is_ok() {
            let _ = send(verb, &format!("{path}?{query}"), b"");
        }
        let _ = Schema::mainstay().route(verb, &path);
    }

    #[test]
    fn free_json_comes_out_as_it_went_in(note in any_json()) {
        let back = put(&json!({"note": note, "extra": {"inner": note}}).to_string());
        let back = back.expect("any JSON is a note");
        prop_assert_eq!(&back["note"], &note);
        prop_assert_eq!(&back["extra"]["inner"], &note);
    }

    #[test]
    fn numbers_and_texts_come_out_as_they_went_in(
        small in any::<i32>(),
        large in -5_i64..=9_007_199_254_740_993,
        count in any::<u32>(),
        title in "[a-zà-ÿ€😀 ]{2,8}",
        photo in proptest::collection::vec(any::<u8>(), 0..40),
        seconds in -62_135_596_800_i64..253_402_300_799,
        sold in any::<i64>(),
    ) {
        use base64::Engine as _;
        let photo = base64::engine::general_purpose::STANDARD.encode(photo);
        let at = chrono::DateTime::from_timestamp(seconds, 0).expect("in range");
        let dish = json!({
            "small": small, "large": large, "count": count, "title": title, "photo": photo, "sold": sold,
            "made_at": at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        });
        let back = put(&dish.to_string());
        let back = back.expect("all in range");
        for (name, sent) in dish.as_object().expect("an object") {
            prop_assert_eq!(&back[name], sent, "{}", name);
        }
    }

    #[test]
    fn no_bytes_make_the_answer_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for method in KITCHEN.methods() {
            let _ = mainstay_transcode::encode_response(method, &bytes);
        }
    }
}
