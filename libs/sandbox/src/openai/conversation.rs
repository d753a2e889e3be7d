//! Owns the reading of a conversation: who said what, which tools there are, what the answer may be.
//!
//! Deliberately absent: pictures and sounds. Parts that are not text are refused.

use serde_json::{Map, Value};

use super::{error, invalid, tokens};
use crate::door::Reply;

const MOST_MESSAGES: usize = 2_000;

/// A conversation as it was sent.
#[derive(Clone, Debug)]
pub(super) struct Conversation {
    pub model: String,
    /// Role and text, in order.
    pub messages: Vec<(String, String)>,
    /// The tools that may be called now.
    pub tools: Vec<Tool>,
    /// The tool that must be called.
    pub forced: Option<String>,
    pub most_tokens: Option<usize>,
    /// Is JSON asked for, rather than text?
    pub wants_json: bool,
}

/// A function that may be called: its name, and the schema of its arguments.
#[derive(Clone, Debug)]
pub(super) struct Tool {
    pub name: String,
    pub parameters: Value,
}

impl Conversation {
    pub(super) fn read(body: &[u8]) -> Result<Conversation, Reply> {
        let Ok(Value::Object(body)) = serde_json::from_slice(body) else {
            let message = "We could not parse the JSON body of your request.";
            return Err(error(400, "invalid_request_error", None, None, message));
        };
        let given = |name: &str| body.get(name).filter(|value| !value.is_null());
        let model = given("model").and_then(Value::as_str).unwrap_or_default();
        if model.is_empty() {
            return Err(invalid("model", "you must provide a model parameter"));
        }
        if given("stream") == Some(&Value::Bool(true)) {
            return Err(invalid("stream", "The simulator does not stream."));
        }
        if given("n").is_some_and(|n| *n != 1) {
            return Err(invalid("n", "The simulator gives one choice."));
        }
        let messages = match given("messages") {
            Some(Value::Array(messages)) if !messages.is_empty() => messages,
            _ => {
                let message =
                    "Invalid 'messages': empty array. Expected an array with minimum length 1.";
                return Err(invalid("messages", message));
            }
        };
        if messages.len() > MOST_MESSAGES {
            return Err(invalid("messages", "Invalid 'messages': array too long."));
        }
        let messages = messages.iter().enumerate();
        let messages: Result<Vec<_>, Reply> = messages.map(|(at, one)| message(at, one)).collect();
        let (tools, forced) = tools(&body)?;
        let most = given("max_completion_tokens").or(given("max_tokens"));
        let most_tokens = most.map(|most| {
            let number = most.as_u64().and_then(|most| usize::try_from(most).ok());
            let number = number.filter(|most| *most > 0);
            number.ok_or_else(|| invalid("max_completion_tokens", "must be a positive integer"))
        });
        let format = given("response_format")
            .map_or("text", |format| format["type"].as_str().unwrap_or_default());
        Ok(Conversation {
            model: model.to_owned(),
            messages: messages?,
            tools,
            forced,
            most_tokens: most_tokens.transpose()?,
            wants_json: format != "text",
        })
    }

    /// What the person said since the last answer, in order: every line of every message.
    pub(super) fn fragments(&self) -> Vec<&str> {
        let since = self.messages.iter().rev();
        let since = since.take_while(|(role, _)| role == "user").count();
        self.messages[self.messages.len() - since..]
            .iter()
            .flat_map(|(_, text)| text.lines())
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect()
    }

    /// What the person said last, whatever came after it.
    pub(super) fn last_words(&self) -> &str {
        let mut said = self.messages.iter().rev();
        let last = said.find(|(role, _)| role == "user");
        last.map_or("", |(_, text)| text.as_str())
    }

    pub(super) fn tokens(&self) -> usize {
        let each = self.messages.iter().map(|(_, text)| 4 + tokens(text));
        3 + each.sum::<usize>()
    }
}

fn message(at: usize, message: &Value) -> Result<(String, String), Reply> {
    let role = message["role"].as_str().unwrap_or_default();
    let here = |name: &str| format!("messages[{at}].{name}");
    if !["system", "developer", "user", "assistant", "tool"].contains(&role) {
        let text = format!(
            "Invalid value: '{role}'. Supported values are: 'system', 'assistant', 'user', 'tool', and 'developer'."
        );
        return Err(invalid(&here("role"), &text));
    }
    let text = match &message["content"] {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            let texts: Option<Vec<&str>> = parts.iter().map(|part| part["text"].as_str()).collect();
            texts.map(|texts| texts.join("\n"))
        }
        // Somebody who called a tool need have said nothing.
        Value::Null if role == "assistant" => Some(String::new()),
        _ => None,
    };
    let wrong = "Invalid value for 'content': expected a string or an array of text parts.";
    let text = text.ok_or_else(|| invalid(&here("content"), wrong))?;
    Ok((role.to_owned(), text))
}

/// The tools that may be called now, and the one that must be.
fn tools(body: &Map<String, Value>) -> Result<(Vec<Tool>, Option<String>), Reply> {
    let offered = body.get("tools").and_then(Value::as_array);
    let mut tools = Vec::new();
    for tool in offered.into_iter().flatten() {
        let function = &tool["function"];
        let Some(name) = function["name"].as_str() else {
            return Err(invalid(
                "tools",
                "Missing required parameter: 'tools[0].function'.",
            ));
        };
        tools.push(Tool {
            name: name.to_owned(),
            parameters: function["parameters"].clone(),
        });
    }
    match body.get("tool_choice") {
        Some(Value::String(choice)) if choice == "none" => Ok((Vec::new(), None)),
        Some(Value::String(choice)) if choice == "required" => {
            let first = tools.first().map(|tool| tool.name.clone());
            Ok((tools, first))
        }
        Some(Value::Object(choice)) => {
            let name = choice.get("function").and_then(|f| f["name"].as_str());
            let known = name.filter(|name| tools.iter().any(|tool| tool.name == *name));
            let known =
                known.ok_or_else(|| invalid("tool_choice", "Tool choice names no tool."))?;
            let known = known.to_owned();
            Ok((tools, Some(known)))
        }
        _ => Ok((tools, None)),
    }
}
