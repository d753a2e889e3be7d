//! Owns Stripe's search language as far as it is used: `metadata['k']:'v' AND status:'active'`.
//!
//! Deliberately absent: the real search's delay. Stripe indexes within about a minute; here a search is exact, so a
//! test that must hold against Stripe may not lean on a search right after a write.

use serde_json::{Value, json};

use super::Call;
use super::errors::{Result, StripeError};
use crate::store::Tx;

pub(crate) const PARAMETERS: &[&str] = &["query", "limit", "page"];

#[derive(Debug, PartialEq)]
enum Comparison {
    Is,
    Contains,
    Above,
    AtLeast,
    Below,
    AtMost,
}

#[derive(Debug, PartialEq)]
struct Clause {
    negated: bool,
    /// `["metadata", "k"]` or `["status"]`.
    field: Vec<String>,
    comparison: Comparison,
    /// `None` is `null`.
    value: Option<String>,
}

#[derive(Debug, PartialEq)]
struct Query {
    clauses: Vec<Clause>,
    any: bool,
}

pub(crate) fn search(tx: &Tx<'_>, call: &Call<'_>, kind: &str) -> Result<Value> {
    let text = call.params.require_text("query")?;
    let invalid = |message: String| StripeError::parameter("parameter_invalid", "query", message);
    let query = parse(text).map_err(|message| {
        invalid(format!(
            "We were unable to parse your search query: {message}"
        ))
    })?;
    let limit =
        usize::try_from(call.params.integer_from("limit", 1, 100)?.unwrap_or(10)).unwrap_or(10);
    let offset: usize = match call.params.text("page")? {
        None => 0,
        Some(page) => page
            .strip_prefix("offset_")
            .and_then(|offset| offset.parse().ok())
            .ok_or_else(|| StripeError::parameter("parameter_invalid", "page", "Invalid page"))?,
    };
    let wanted = |object: &&Value| object["deleted"] != true && query.matches(object);
    let found: Vec<&Value> = match query.metadata() {
        Some((name, value)) => tx
            .world()
            .by_metadata(kind, name, value)
            .filter(wanted)
            .collect(),
        None => tx.newest_first(kind, |object| wanted(&object)),
    };
    let data: Vec<&Value> = found.iter().skip(offset).take(limit).copied().collect();
    let has_more = found.len() > offset + limit;
    let next_page = has_more.then(|| format!("offset_{}", offset + limit));
    Ok(
        json!({ "object": "search_result", "data": data, "has_more": has_more, "next_page": next_page, "url": call.url }),
    )
}

impl Query {
    /// An entry of metadata that everything found must have.
    fn metadata(&self) -> Option<(&str, &str)> {
        if self.any {
            return None;
        }
        self.clauses.iter().find_map(|clause| {
            let [object, name] = clause.field.as_slice() else {
                return None;
            };
            let exact = object == "metadata" && !clause.negated;
            let exact = exact && clause.comparison == Comparison::Is;
            exact.then_some((name.as_str(), clause.value.as_deref()?))
        })
    }

    fn matches(&self, object: &Value) -> bool {
        if self.any {
            self.clauses.iter().any(|clause| clause.matches(object))
        } else {
            self.clauses.iter().all(|clause| clause.matches(object))
        }
    }
}

impl Clause {
    fn matches(&self, object: &Value) -> bool {
        let mut found = object;
        for name in &self.field {
            found = &found[name.as_str()];
        }
        let matches = match (&self.value, found) {
            (None, found) => found.is_null(),
            (Some(wanted), Value::String(text)) => match self.comparison {
                Comparison::Is => text.eq_ignore_ascii_case(wanted),
                Comparison::Contains => text.to_lowercase().contains(&wanted.to_lowercase()),
                _ => false,
            },
            (Some(wanted), Value::Number(number)) => match (number.as_i64(), wanted.parse::<i64>())
            {
                (Some(number), Ok(wanted)) => match self.comparison {
                    Comparison::Is => number == wanted,
                    Comparison::Above => number > wanted,
                    Comparison::AtLeast => number >= wanted,
                    Comparison::Below => number < wanted,
                    Comparison::AtMost => number <= wanted,
                    Comparison::Contains => false,
                },
                _ => false,
            },
            (Some(wanted), Value::Bool(flag)) => {
                self.comparison == Comparison::Is && *wanted == flag.to_string()
            }
            _ => false,
        };
        matches != self.negated
    }
}

fn parse(text: &str) -> std::result::Result<Query, String> {
    let mut rest = text.trim_start();
    let mut clauses = Vec::new();
    let mut joined: Option<&str> = None;
    loop {
        let (clause, after) = parse_clause(rest)?;
        clauses.push(clause);
        rest = after.trim_start();
        if rest.is_empty() {
            return Ok(Query {
                clauses,
                any: joined == Some("OR"),
            });
        }
        if clauses.len() == 10 {
            return Err("at most 10 clauses".into());
        }
        let word = rest.split_whitespace().next().unwrap_or_default();
        // Side by side means AND, as with Stripe.
        let (word, after) = match word.to_ascii_uppercase().as_str() {
            "AND" => ("AND", &rest[3..]),
            "OR" => ("OR", &rest[2..]),
            _ => ("AND", rest),
        };
        if joined.is_some_and(|joined| joined != word) {
            return Err("AND and OR cannot be combined".into());
        }
        joined = Some(word);
        rest = after.trim_start();
    }
}

fn parse_clause(text: &str) -> std::result::Result<(Clause, &str), String> {
    let (negated, text) = text
        .strip_prefix('-')
        .map_or((false, text), |rest| (true, rest));
    let end = text
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.')
        .unwrap_or(text.len());
    let (name, mut rest) = text.split_at(end);
    if name.is_empty() {
        return Err(format!("expected a field at \"{text}\""));
    }
    let mut field: Vec<String> = name.split('.').map(str::to_owned).collect();
    if let Some(inner) = rest.strip_prefix('[') {
        let (key, after) = quoted(inner)?;
        rest = after
            .strip_prefix(']')
            .ok_or("expected ] after the metadata key")?;
        field.push(key);
    }
    const COMPARISONS: [(&str, Comparison); 6] = [
        (">=", Comparison::AtLeast),
        ("<=", Comparison::AtMost),
        (">", Comparison::Above),
        ("<", Comparison::Below),
        ("~", Comparison::Contains),
        (":", Comparison::Is),
    ];
    let found = COMPARISONS
        .into_iter()
        .find_map(|(sign, comparison)| Some((comparison, rest.strip_prefix(sign)?)));
    let (comparison, rest) = found.ok_or("expected one of : ~ > < >= <=")?;
    let (value, rest) = if rest.starts_with(['\'', '"']) {
        let (value, rest) = quoted(rest)?;
        (Some(value), rest)
    } else {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (word, rest) = rest.split_at(end);
        if word.is_empty() {
            return Err("expected a value".into());
        }
        ((word != "null").then(|| word.to_owned()), rest)
    };
    Ok((
        Clause {
            negated,
            field,
            comparison,
            value,
        },
        rest,
    ))
}

/// A quoted text with `\` as escape, and what follows it.
fn quoted(text: &str) -> std::result::Result<(String, &str), String> {
    let mut chars = text.char_indices();
    let Some((_, quote @ ('\'' | '"'))) = chars.next() else {
        return Err("expected a quote".into());
    };
    let mut value = String::new();
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return Ok((value, &text[at + c.len_utf8()..]));
        }
        value.push(if c == '\\' {
            chars.next().map_or('\\', |(_, escaped)| escaped)
        } else {
            c
        });
    }
    Err("a quote is not closed".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(query: &str, object: &Value) -> bool {
        parse(query).expect("query").matches(object)
    }

    #[test]
    fn clauses_combine_and_compare() {
        let object = json!({"status": "active", "created": 100, "metadata": {"saga": "it's", "n": "1"}, "email": null});
        assert!(finds(r"metadata['saga']:'it\'s'", &object));
        assert!(finds(r#"metadata["n"]:"1" AND status:'active'"#, &object));
        assert!(finds("created>=100 created<101", &object));
        assert!(finds("status:'canceled' OR status~'ACT'", &object));
        assert!(finds("-status:'canceled' AND email:null", &object));
        assert!(!finds("metadata['other']:'x'", &object));
        assert!(!finds("created>100", &object));
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "",
            "status",
            "status:",
            "status:'a",
            "a:'b' AND c:'d' OR e:'f'",
            "metadata[k]:'v'",
            "status:'a' AND",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
