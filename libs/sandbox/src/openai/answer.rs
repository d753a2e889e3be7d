//! Owns what is answered: a text that quotes what it answers, or the call of a tool. Pure.
//!
//! `escalate` is called when it is offered and the person's last words ask for somebody: they hold `human`, `agent`,
//! `representative` or `a person`, as words. Its arguments are filled in from its schema: texts with the person's words,
//! choices with the first.
//!
//! Deliberately absent: chance, and everything that came before what is answered.

use serde_json::{Map, Value, json};

use super::conversation::{Conversation, Tool};
use super::{invalid, tokens};
use crate::door::Reply;

const ESCALATE: &str = "escalate";
const ASKING: [&str; 4] = ["human", "agent", "representative", "a person"];
/// Of a fragment, at most this much is quoted.
const LONGEST_QUOTE: usize = 160;
const MOST_QUOTES: usize = 20;

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub content: Option<String>,
    /// Names and arguments.
    pub calls: Vec<(String, String)>,
    pub finish_reason: Option<String>,
}

impl Said {
    fn text(content: impl Into<String>) -> Said {
        Said {
            content: Some(content.into()),
            ..Said::default()
        }
    }

    /// Cut off where the asker said that it must end.
    pub(super) fn within(mut self, most_tokens: Option<usize>) -> Said {
        let (Some(content), Some(most)) = (&self.content, most_tokens) else {
            return self;
        };
        if tokens(content) > most {
            self.content = Some(content.chars().take(most * 4).collect());
            self.finish_reason = Some("length".to_owned());
        }
        self
    }

    pub(super) fn tokens(&self) -> usize {
        let calls = self
            .calls
            .iter()
            .map(|(name, with)| tokens(name) + tokens(with));
        self.content.as_deref().map_or(0, tokens) + calls.sum::<usize>()
    }

    pub(super) fn finish_reason(&self) -> &str {
        let implied = if self.calls.is_empty() {
            "stop"
        } else {
            "tool_calls"
        };
        self.finish_reason.as_deref().unwrap_or(implied)
    }

    pub(super) fn message(&self) -> Value {
        let mut message = json!({
            "role": "assistant", "content": self.content, "refusal": null, "annotations": [],
        });
        if !self.calls.is_empty() {
            let calls = self.calls.iter().enumerate().map(|(at, (name, arguments))| {
                let function = json!({ "name": name, "arguments": arguments });
                json!({ "id": format!("call_{at:024}"), "type": "function", "function": function })
            });
            message["tool_calls"] = calls.collect();
        }
        message
    }
}

pub(super) fn to(asked: &Conversation) -> Result<Said, Reply> {
    let wanted = asked
        .forced
        .as_deref()
        .or(asks(asked.last_words()).then_some(ESCALATE));
    let fragments = asked.fragments();
    // Once a tool has answered, or the assistant has, there is nothing new to call for.
    let fresh = !fragments.is_empty() || asked.forced.is_some();
    let tool = asked
        .tools
        .iter()
        .find(|tool| Some(tool.name.as_str()) == wanted);
    if let Some(tool) = tool.filter(|_| fresh) {
        return Ok(Said {
            calls: vec![(tool.name.clone(), arguments(tool, asked.last_words()))],
            ..Said::default()
        });
    }
    if asked.wants_json {
        let message = "The simulator answers in JSON from a script only: POST /_/openai/answers.";
        return Err(invalid("response_format", message));
    }
    if asked
        .messages
        .last()
        .is_some_and(|(role, _)| role == "tool")
    {
        return Ok(Said::text(
            "Thank you, I have passed this on. Somebody will get back to you.",
        ));
    }
    if fragments.is_empty() {
        return Ok(Said::text("Hello! How can I help you?"));
    }
    let quotes = fragments.iter().take(MOST_QUOTES).map(|fragment| {
        let quoted: String = fragment.chars().take(LONGEST_QUOTE).collect();
        format!("\"{quoted}\"")
    });
    let quotes: Vec<String> = quotes.collect();
    Ok(Said::text(format!(
        "Thanks for your message! You wrote {}. When would it suit you best?",
        quotes.join(", then ")
    )))
}

fn asks(words: &str) -> bool {
    let plain: String = words
        .chars()
        .map(|c| {
            if c.is_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                ' '
            }
        })
        .collect();
    let plain = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    let plain = format!(" {plain} ");
    ASKING
        .iter()
        .any(|asking| plain.contains(&format!(" {asking} ")))
}

fn arguments(tool: &Tool, words: &str) -> String {
    let properties = tool.parameters["properties"].as_object();
    let filled: Map<String, Value> = properties
        .into_iter()
        .flatten()
        .map(|(name, schema)| (name.clone(), fill(schema, words)))
        .collect();
    Value::Object(filled).to_string()
}

fn fill(schema: &Value, words: &str) -> Value {
    if let Some(first) = schema["enum"]
        .as_array()
        .and_then(|choices| choices.first())
    {
        return first.clone();
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.first().and_then(Value::as_str),
        kind => kind.as_str(),
    };
    match kind {
        Some("string") => json!(words),
        Some("boolean") => json!(true),
        Some("integer" | "number") => json!(1),
        Some("array") => json!([]),
        Some("object") => json!({}),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(body: &Value) -> Said {
        let asked = Conversation::read(body.to_string().as_bytes()).expect("a conversation");
        to(&asked).expect("an answer")
    }

    #[test]
    fn what_was_said_since_the_last_answer_is_quoted_in_order() {
        let answer = said(&json!({ "model": "m", "messages": [
            { "role": "system", "content": "Be kind." },
            { "role": "user", "content": "old" },
            { "role": "assistant", "content": "Yes?" },
            { "role": "user", "content": "one\ntwo" },
            { "role": "user", "content": [{ "type": "text", "text": "three" }] },
        ]}));
        let content = answer.content.expect("text");
        assert!(
            content.contains("\"one\", then \"two\", then \"three\""),
            "{content}"
        );
        assert!(!content.contains("old"));
    }

    #[test]
    fn somebody_who_asks_for_a_person_gets_one_if_there_is_one() {
        for (words, asked) in [
            ("Can I talk to a person?", true),
            ("HUMAN please", true),
            ("get me an agent.", true),
            ("What is your agenda?", false),
            ("a personal question", false),
        ] {
            assert_eq!(asks(words), asked, "{words}");
        }
        let parameters = json!({ "properties": { "reason": { "enum": ["asked", "angry"] }, "summary": { "type": "string" } } });
        let tools = json!([{ "type": "function", "function": { "name": "escalate", "parameters": parameters } }]);
        let words = json!([{ "role": "user", "content": "human!" }]);
        let called = said(&json!({ "model": "m", "messages": words, "tools": tools }));
        let arguments = "{\"reason\":\"asked\",\"summary\":\"human!\"}".to_owned();
        assert_eq!(called.calls, [("escalate".to_owned(), arguments)]);
        assert_eq!(called.finish_reason(), "tool_calls");
        let none = said(
            &json!({ "model": "m", "messages": words, "tools": tools, "tool_choice": "none" }),
        );
        assert!(none.calls.is_empty());
        let offered_nothing = said(&json!({ "model": "m", "messages": words }));
        assert!(
            offered_nothing
                .content
                .expect("text")
                .contains("\"human!\"")
        );
    }

    #[test]
    fn an_answer_ends_where_the_asker_wants() {
        let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "Hi" }] });
        let cut = said(&body).within(Some(3));
        assert_eq!(
            (cut.content.as_deref(), cut.finish_reason()),
            (Some("Thanks for y"), "length")
        );
    }
}
