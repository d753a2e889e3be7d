//! The settings as a page: `docs/configuration.md` is this text, and a test keeps them equal.
//!
//! Deliberately absent: prose that is not in the declarations.

use std::fmt::Write;

use super::setting::{Group, Production, Setting};

/// The reference of all settings as Markdown.
pub fn render_reference(catalogue: &[&'static Group]) -> String {
    let mut page = String::from(
        "# Settings\n\n\
         Generated from the declarations (`mainstay config reference`); do not edit.\n\n\
         Each is an environment variable, or a key in the one TOML file that `--config` or `MAINSTAY_CONFIG` names: \
         lower case without `MAINSTAY_`, so `STRIPE_API_BASE` is `stripe_api_base`, or `api_base` under `[stripe]`. \
         The environment wins over the file. Unknown keys and unknown `MAINSTAY_*` variables are refused; \
         `mainstay config check` prints what is in force and where it came from.\n",
    );
    for group in catalogue {
        // Writing to a String does not fail.
        let _ = write!(
            page,
            "\n## {}\n\n{}\n\n| setting | for | value | default |\n|---|---|---|---|\n",
            group.name, group.about
        );
        for setting in group.settings {
            let _ = writeln!(
                page,
                "| `{}` | {} | {} | {} |",
                setting.name,
                setting.about,
                shape(setting),
                default(setting)
            );
        }
    }
    page
}

fn shape(setting: &Setting) -> String {
    let mut shape = setting.kind.shape().replace('|', "\\|");
    if setting.secret {
        shape.push_str("; secret");
    }
    match setting.production {
        Production::Allowed => {}
        Production::Only("") => shape.push_str("; not in production"),
        Production::Only(except) => {
            let _ = write!(shape, "; in production only `{except}`");
        }
        Production::RealProvider => shape.push_str("; in production https and not this machine"),
    }
    shape
}

fn default(setting: &Setting) -> String {
    match (setting.default, setting.only_when, setting.required) {
        (Some(""), _, _) => "(empty)".to_owned(),
        (Some(value), _, _) => format!("`{value}`"),
        (None, Some(condition), true) if condition.values.is_empty() => {
            format!("required with `{}`", condition.setting)
        }
        (None, Some(condition), true) => {
            format!(
                "required when `{}` is {}",
                condition.setting,
                condition.values.join(" or ")
            )
        }
        (None, _, true) => "**required**".to_owned(),
        (None, _, false) => "not set".to_owned(),
    }
}
