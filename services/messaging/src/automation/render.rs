//! Texts of automations and canned replies: Jinja templates that see the lead, and of an automation the occasion and its own
//! variables.
//! Deliberately absent: loading other templates, and time without end. A text that says something unknown is not sent.

use minijinja::{Environment, UndefinedBehavior};
use serde_json::{Map, Value, json};

/// How much a text may do: a loop over thousands does not.
const FUEL: u64 = 20_000;
/// The longest text that is sent.
const MOST_CHARS: usize = 10_000;

fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.add_filter("default", minijinja::filters::default);
    environment.add_filter("upper", minijinja::filters::upper);
    environment.add_filter("lower", minijinja::filters::lower);
    environment.add_filter("title", minijinja::filters::title);
    environment.add_filter("trim", minijinja::filters::trim);
    environment.add_test("defined", minijinja::tests::is_defined);
    environment
}

/// Whether this can be read as a template; if not, what is wrong with it.
///
/// # Errors
/// What is wrong, for whoever wrote it.
pub fn check(text: &str) -> Result<(), String> {
    environment()
        .template_from_str(text)
        .map(|_| ())
        .map_err(|error| said(&error))
}

/// The text with what is known.
///
/// # Errors
/// What is not known, or that nothing is left to say.
pub fn render(text: &str, known: &Value) -> Result<String, String> {
    let environment = environment();
    let rendered = environment
        .render_str(text, known)
        .map_err(|error| said(&error))?;
    let rendered: String = rendered
        .trim()
        .chars()
        .filter(|c| !c.is_control() || *c == '\n')
        .take(MOST_CHARS)
        .collect();
    if rendered.is_empty() {
        return Err("the text says nothing".to_owned());
    }
    Ok(rendered)
}

/// What texts see of a lead. What is not known is not there.
pub(crate) fn lead(name: Option<&str>) -> Value {
    let mut lead = Map::new();
    if let Some(name) = name {
        lead.insert("name".to_owned(), json!(name));
        if let Some(first) = name.split_whitespace().next() {
            lead.insert("first_name".to_owned(), json!(first));
        }
    }
    Value::Object(lead)
}

fn said(error: &minijinja::Error) -> String {
    match (error.detail(), error.line()) {
        (Some(detail), Some(line)) => format!("{} in line {line}: {detail}", error.kind()),
        (None, Some(line)) => format!("{} in line {line}", error.kind()),
        (Some(detail), None) => format!("{}: {detail}", error.kind()),
        (None, None) => error.kind().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_tells_what_is_known_and_is_not_sent_where_it_is_not() {
        let known = json!({"lead": {"first_name": "Mike"}, "business": "Acme"});
        let table = [
            ("Hi {{ lead.first_name }}!", Some("Hi Mike!")),
            ("Hi {{ lead.name | default('there') }}", Some("Hi there")),
            ("{{ business | upper }}", Some("ACME")),
            (
                "{% if form is defined %}form{% else %}none{% endif %}",
                Some("none"),
            ),
            ("Hi {{ lead.nick }}", None),
            ("{{ unknown }}", None),
            ("  {# nothing #} ", None),
            (
                "{% for a in 'xxxxxxxxxx' %}{% for b in 'xxxxxxxxxx' %}{% for c in 'xxxxxxxxxx' %}{% for d in 'xxxxxxxxxx' %}x{% endfor %}{% endfor %}{% endfor %}{% endfor %}",
                None,
            ),
        ];
        for (text, wanted) in table {
            let rendered = render(text, &known);
            assert_eq!(rendered.as_deref().ok(), wanted, "{text}: {rendered:?}");
        }
    }

    #[test]
    fn what_is_no_template_is_named_with_its_line() {
        assert_eq!(check("Hi {{ lead.name }}"), Ok(()));
        let wrong = check("Hi\n{{ lead.name").expect_err("it does not end");
        assert!(wrong.contains("line 2"), "{wrong}");
        check("{% include 'other' %}").expect_err("nothing else is loaded");
    }
}
