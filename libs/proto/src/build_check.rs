//! What every RPC and error reason must say about itself. Run by the build script, so that an RPC without an
//! access option does not build; run again by a test on protos that are broken on purpose.
//! Deliberately absent: any opinion on the values, beyond that they are said and fit together.

use std::collections::BTreeMap;

use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MethodDescriptor, Value};

/// Ids that others make: a payment provider, the system that leads are imported from. They are no resources of ours:
/// whoever gets one looks it up under the client's walls.
const FOREIGN_IDS: &[&str] = &["payment_method_id", "payment_intent_id", "external_id"];

const CONTEXTS: [&str; 6] = [
    "identity",
    "billing",
    "messaging",
    "escalation",
    "integrations",
    "gateway",
];

/// Every problem of the descriptor set, in words; empty when it may be built.
pub fn check(descriptor_set: &[u8]) -> Vec<String> {
    let pool = match DescriptorPool::decode(descriptor_set) {
        Ok(pool) => pool,
        Err(error) => return vec![format!("the descriptor set does not decode: {error}")],
    };
    let mut problems = Vec::new();
    let mut permissions = BTreeMap::new();
    let mut routes = BTreeMap::new();
    for service in pool.services() {
        for method in service.methods() {
            check_method(&pool, &method, &mut permissions, &mut routes, &mut problems);
        }
    }
    check_resources(&pool, &mut problems);
    check_reasons(&pool, &mut problems);
    problems
}

fn option(pool: &DescriptorPool, method: &MethodDescriptor, name: &str) -> Option<DynamicMessage> {
    let extension = pool.get_extension_by_name(name)?;
    let options = method.options();
    options
        .has_extension(&extension)
        .then(|| options.get_extension(&extension).as_message().cloned())?
}

fn text(message: &DynamicMessage, field: &str) -> String {
    message
        .get_field_by_name(field)
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn number(message: &DynamicMessage, field: &str) -> i32 {
    match message.get_field_by_name(field).as_deref() {
        Some(Value::EnumNumber(number) | Value::I32(number)) => *number,
        _ => 0,
    }
}

fn check_method(
    pool: &DescriptorPool,
    method: &MethodDescriptor,
    permissions: &mut BTreeMap<String, (i32, String, String)>,
    routes: &mut BTreeMap<String, String>,
    problems: &mut Vec<String>,
) {
    let name = method.full_name().to_owned();
    let mut problem = |what: &str| problems.push(format!("{name}: {what}"));
    let http = option(pool, method, "google.api.http");
    let Some(access) = option(pool, method, "mainstay.options.v1.access") else {
        return problem("has no (mainstay.options.v1.access) option: say who may call it");
    };
    let Some(rpc) = option(pool, method, "mainstay.options.v1.rpc") else {
        return problem("has no (mainstay.options.v1.rpc) option: say how it behaves");
    };
    let (kind, scope, permission) = (
        number(&access, "kind"),
        number(&access, "scope"),
        text(&access, "permission"),
    );
    let actor = kind == 3 || (kind == 0 && !permission.is_empty());
    match kind {
        0 if !actor => problem("access has neither a kind nor a permission"),
        4 => {
            let callers = access.get_field_by_name("callers");
            let callers = callers
                .as_deref()
                .and_then(Value::as_list)
                .unwrap_or_default();
            if callers.is_empty() {
                problem("access is for services but names no callers");
            }
            for caller in callers.iter().filter_map(Value::as_str) {
                if !CONTEXTS.contains(&caller) {
                    problem(&format!("caller `{caller}` is no service of ours"));
                }
            }
            if http.is_some() {
                problem("is internal but has an HTTP route");
            }
        }
        _ => {}
    }
    if actor {
        if http.is_none() {
            problem("is for actors but has no HTTP route");
        }
        if scope == 0 {
            problem("is for actors but has no scope");
        }
        if scope != 4 {
            let description = text(&access, "description");
            if permission.split('.').count() != 3 || description.is_empty() {
                problem("needs a permission `context.resource.verb` with a description");
            }
            let client = i32::from(scope == 1);
            if let Some((_, other, said)) = permissions.get(&permission)
                && *said != description
            {
                problem(&format!("describes {permission} otherwise than {other}"));
            }
            permissions.insert(permission, (client, name.clone(), description));
        }
        let has_client = method
            .input()
            .fields()
            .any(|field| resource(pool, &field).as_deref() == Some("client"));
        if scope == 1 && !has_client {
            problem("has SCOPE_CLIENT but no field with resource \"client\"");
        }
    }
    if number(&rpc, "idempotency") == 0 {
        problem("does not say its idempotency");
    }
    if number(&rpc, "rate_class") == 0 {
        problem("does not say its rate class");
    }
    if actor && number(&rpc, "idempotency") != 1 && text(&rpc, "audit").is_empty() {
        problem("changes something for an actor but says no audit action");
    }
    if let Some(http) = http {
        for verb in ["get", "put", "post", "delete", "patch"] {
            let path = text(&http, verb);
            if path.is_empty() {
                continue;
            }
            for variable in path
                .split('{')
                .skip(1)
                .filter_map(|rest| rest.split('}').next())
            {
                let field = method.input().get_field_by_name(variable);
                match field {
                    None => problem(&format!(
                        "path variable {{{variable}}} is no field of the request"
                    )),
                    Some(field)
                        if resource(pool, &field).is_none()
                            && variable.ends_with("_id")
                            && !FOREIGN_IDS.contains(&variable) =>
                    {
                        problem(&format!("id field {variable} does not say its resource"));
                    }
                    Some(_) => {}
                }
            }
            let shape: String = path
                .split('/')
                .map(|part| if part.starts_with('{') { "/{}" } else { part })
                .collect::<Vec<_>>()
                .join("/");
            if let Some(other) = routes.insert(format!("{verb} {shape}"), name.clone()) {
                problem(&format!("has the same route as {other}"));
            }
        }
    }
    for field in method.input().fields() {
        if field.name().ends_with("_id")
            && !field.name().starts_with("stripe_")
            && !field.name().starts_with("causation")
            && !FOREIGN_IDS.contains(&field.name())
            && resource(pool, &field).is_none()
        {
            problem(&format!(
                "id field {} does not say its resource",
                field.name()
            ));
        }
    }
}

fn resource(pool: &DescriptorPool, field: &prost_reflect::FieldDescriptor) -> Option<String> {
    let extension = pool.get_extension_by_name("mainstay.options.v1.resource")?;
    let options = field.options();
    options.has_extension(&extension).then(|| {
        options
            .get_extension(&extension)
            .as_str()
            .map(str::to_owned)
    })?
}

fn check_resources(pool: &DescriptorPool, problems: &mut Vec<String>) {
    for message in pool.all_messages() {
        for field in message.fields() {
            if let Some(resource) = resource(pool, &field) {
                if mainstay_types::prefix_of(&resource).is_none() {
                    problems.push(format!(
                        "{}: no id has the resource `{resource}`",
                        field.full_name()
                    ));
                }
                if field.kind() != Kind::String {
                    problems.push(format!("{}: ids are strings", field.full_name()));
                }
            }
        }
    }
}

fn check_reasons(pool: &DescriptorPool, problems: &mut Vec<String>) {
    let (Some(reasons), Some(extension)) = (
        pool.get_enum_by_name("mainstay.errors.v1.ErrorReason"),
        pool.get_extension_by_name("mainstay.errors.v1.reason"),
    ) else {
        return;
    };
    for value in reasons.values() {
        let options = value.options();
        let reason = options.get_extension(&extension);
        let Some(reason) = reason.as_message() else {
            continue;
        };
        let complete = ["title", "explanation", "mend"]
            .iter()
            .all(|field| !text(reason, field).is_empty());
        if !complete || !(400..=504).contains(&number(reason, "status")) {
            problems.push(format!(
                "{}: needs title, status, explanation and mend",
                value.full_name()
            ));
        }
        let detail = text(reason, "detail");
        if !detail.is_empty() && pool.get_message_by_name(&detail).is_none() {
            problems.push(format!(
                "{}: no message is called {detail}",
                value.full_name()
            ));
        }
    }
}
