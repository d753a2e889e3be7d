//! The protos load, and what they say is read.

use mainstay_transcode::{NotRouted, Schema, Verb};

#[test]
fn the_protos_of_mainstay_are_complete() {
    let schema = Schema::mainstay();
    let create = schema
        .method("/mainstay.billing.v1.PlanService/CreatePlan")
        .expect("CreatePlan exists");
    assert_eq!(create.context, "billing");
    assert_eq!(create.success_status(), 201);
    assert_eq!(create.bindings[0].template, "/v1/plans");
    assert!(!create.docs.is_empty());
    assert!(
        schema
            .reasons()
            .iter()
            .any(|info| info.code == "plan_archived")
    );
}

#[test]
fn a_path_finds_its_method_and_its_parameters() {
    let schema = Schema::mainstay();
    let found = schema
        .route("GET", "/v1/clients/cli_1/subscriptions/msub_2")
        .expect("the path is known");
    assert_eq!(found.method.name, "GetSubscription");
    assert_eq!(
        found.params,
        [
            ("client_id", "cli_1".to_owned()),
            ("subscription_id", "msub_2".to_owned())
        ]
    );
    assert_eq!(
        schema
            .route("PUT", "/v1/plans")
            .expect_err("not a verb of it"),
        NotRouted::OtherVerbs(vec![Verb::Get, Verb::Post])
    );
    // A path that is written out is no parameter's, whatever the verb.
    assert_eq!(
        schema
            .route("PATCH", "/v1/clients/cli_1/leads/import")
            .expect_err("an import is no lead"),
        NotRouted::OtherVerbs(vec![Verb::Post])
    );
    for path in [
        "/v1/plans/",
        "/v1//plans",
        "/v1/nothing",
        "/",
        "",
        "v1/plans",
    ] {
        assert_eq!(
            schema.route("GET", path).expect_err(path),
            NotRouted::NoSuchPath,
            "{path}"
        );
    }
}
