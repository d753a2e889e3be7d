//! The build check, on protos that are broken on purpose, and buf's lint where buf is installed.

use std::{fs, path::PathBuf, process::Command};

#[path = "../../src/build_check.rs"]
mod build_check;

fn proto_root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../proto")
}

/// Compiles one service beside the real option schema and returns what the check says of it.
fn problems_of(name: &str, body: &str) -> Vec<String> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).expect("a scratch folder");
    let text = format!(
        "syntax = \"proto3\";\npackage mainstay.broken.v1;\n\
         import \"google/api/annotations.proto\";\nimport \"mainstay/options/v1/options.proto\";\n{body}"
    );
    fs::write(folder.join("broken.proto"), text).expect("written");
    let mut compiler = protox::Compiler::new([folder, proto_root()]).expect("a compiler");
    compiler.include_imports(true);
    compiler.open_file("broken.proto").expect("it parses");
    build_check::check(&compiler.encode_file_descriptor_set())
}

const RPC: &str = "option (mainstay.options.v1.rpc) = {idempotency: IDEMPOTENCY_READ rate_class: RATE_CLASS_READ};";

#[test]
fn the_protos_as_they_stand_pass() {
    assert_eq!(
        build_check::check(mainstay_proto::FILE_DESCRIPTOR_SET),
        Vec::<String>::new()
    );
}

#[test]
fn an_rpc_without_an_access_option_does_not_build() {
    let problems = problems_of(
        "no_access",
        &format!("message Q {{}}\nservice S {{ rpc Do(Q) returns (Q) {{ {RPC} }} }}"),
    );
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].contains("has no (mainstay.options.v1.access) option"),
        "{problems:?}"
    );
}

#[test]
fn an_actor_rpc_needs_permission_scope_route_and_a_client_field() {
    let problems = problems_of(
        "half",
        &format!(
            "message Q {{}}\nservice S {{ rpc Do(Q) returns (Q) {{ {RPC}
               option (mainstay.options.v1.access) = {{kind: ACCESS_KIND_ACTOR}}; }}
             rpc Two(Q) returns (Q) {{ {RPC}
               option (google.api.http) = {{get: \"/v1/two\"}};
               option (mainstay.options.v1.access) = {{permission: \"a.b.c\" scope: SCOPE_CLIENT description: \"d\"}}; }} }}"
        ),
    );
    for wanted in [
        "no HTTP route",
        "no scope",
        "needs a permission",
        "no field with resource \"client\"",
    ] {
        assert!(
            problems.iter().any(|problem| problem.contains(wanted)),
            "{wanted}: {problems:?}"
        );
    }
}

#[test]
fn an_internal_rpc_names_its_callers_and_has_no_route() {
    let problems = problems_of(
        "internal",
        &format!(
            "message Q {{}}\nservice S {{ rpc Do(Q) returns (Q) {{ {RPC}
               option (google.api.http) = {{get: \"/v1/do\"}};
               option (mainstay.options.v1.access) = {{kind: ACCESS_KIND_SERVICE}}; }}
             rpc Two(Q) returns (Q) {{ {RPC}
               option (mainstay.options.v1.access) = {{kind: ACCESS_KIND_SERVICE callers: [\"stranger\"]}}; }} }}"
        ),
    );
    for wanted in [
        "names no callers",
        "has an HTTP route",
        "`stranger` is no service",
    ] {
        assert!(
            problems.iter().any(|problem| problem.contains(wanted)),
            "{wanted}: {problems:?}"
        );
    }
}

#[test]
fn an_id_field_says_whose_id_it_holds() {
    let problems = problems_of(
        "ids",
        &format!(
            "message Q {{ string client_id = 1; string plan_id = 2 [(mainstay.options.v1.resource) = \"unheard_of\"]; }}
             service S {{ rpc Do(Q) returns (Q) {{ {RPC}
               option (google.api.http) = {{get: \"/v1/x/{{client_id}}\"}};
               option (mainstay.options.v1.access) = {{permission: \"a.b.c\" scope: SCOPE_AGENCY description: \"d\"}}; }} }}"
        ),
    );
    assert!(
        problems
            .iter()
            .any(|p| p.contains("client_id does not say its resource")),
        "{problems:?}"
    );
    assert!(
        problems
            .iter()
            .any(|p| p.contains("no id has the resource `unheard_of`")),
        "{problems:?}"
    );
}

#[test]
fn buf_lint_finds_nothing_where_buf_is_installed() {
    let Ok(output) = Command::new("buf")
        .arg("lint")
        .current_dir(proto_root())
        .output()
    else {
        eprintln!("buf is not installed: its lint was not run");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
