//! Which method a verb and path mean. A literal segment goes before a parameter, with backtracking where the literal
//! leads nowhere, so `/leads/import` and `/leads/{lead_id}` stand side by side.
//! Deliberately absent: wildcards over several segments and `:verb` suffixes; the house style has neither.

use std::collections::{BTreeSet, HashMap};

use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};

use crate::{
    MethodInfo,
    schema::{Binding, Body, Verb},
};

/// A request's method.
#[derive(Debug)]
pub struct Found<'a> {
    /// The method.
    pub method: &'a MethodInfo,
    /// The address of it that matched.
    pub binding: &'a Binding,
    /// The path's parameters as sent: name and raw text, still percent-encoded.
    pub params: Vec<(&'a str, String)>,
}

/// Why no method answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotRouted {
    /// No method has this path.
    NoSuchPath,
    /// The path exists, with these verbs only.
    OtherVerbs(Vec<Verb>),
}

#[derive(Debug, Default)]
pub(crate) struct RouteTable {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    literals: HashMap<String, Node>,
    parameter: Option<Box<Node>>,
    /// (verb, index of the method, index of its binding)
    ends: Vec<(Verb, usize, usize)>,
}

impl RouteTable {
    pub fn build(methods: &[MethodInfo], problems: &mut Vec<String>) -> Self {
        let mut root = Node::default();
        for (at, method) in methods.iter().enumerate() {
            for (nth, binding) in method.bindings.iter().enumerate() {
                let mut node = &mut root;
                for segment in segments(&binding.template) {
                    node = if segment.starts_with('{') {
                        node.parameter.get_or_insert_default()
                    } else {
                        node.literals.entry(segment.to_owned()).or_default()
                    };
                }
                if node.ends.iter().any(|(verb, ..)| *verb == binding.verb) {
                    problems.push(format!(
                        "{}: {} {} has a method already",
                        method.path, binding.verb, binding.template
                    ));
                }
                node.ends.push((binding.verb, at, nth));
            }
        }
        Self { root }
    }

    pub fn find<'a>(
        &self,
        methods: &'a [MethodInfo],
        verb: &str,
        path: &str,
    ) -> Result<Found<'a>, NotRouted> {
        let verb = Verb::parse(verb);
        let parts: Vec<&str> = match path.strip_prefix('/') {
            Some(rest) if !rest.is_empty() => rest.split('/').collect(),
            _ => return Err(NotRouted::NoSuchPath),
        };
        let mut verbs = BTreeSet::new();
        let mut params = Vec::new();
        let Some((at, nth)) = walk(&self.root, &parts, verb, &mut params, &mut verbs) else {
            return Err(if verbs.is_empty() {
                NotRouted::NoSuchPath
            } else {
                NotRouted::OtherVerbs(verbs.into_iter().collect())
            });
        };
        let method = &methods[at];
        let binding = &method.bindings[nth];
        Ok(Found {
            params: binding
                .path_fields
                .iter()
                .map(String::as_str)
                .zip(params.into_iter().map(str::to_owned))
                .collect(),
            method,
            binding,
        })
    }
}

fn walk<'p>(
    node: &Node,
    parts: &[&'p str],
    verb: Option<Verb>,
    params: &mut Vec<&'p str>,
    verbs: &mut BTreeSet<Verb>,
) -> Option<(usize, usize)> {
    let Some((part, rest)) = parts.split_first() else {
        verbs.extend(node.ends.iter().map(|(known, ..)| *known));
        return node
            .ends
            .iter()
            .find(|(known, ..)| Some(*known) == verb)
            .map(|(_, at, nth)| (*at, *nth));
    };
    if let Some(next) = node.literals.get(*part) {
        if let Some(found) = walk(next, rest, verb, params, verbs) {
            return Some(found);
        }
        // A path that is written out somewhere is that one alone: `import` is no lead, whatever the verb.
        if !verbs.is_empty() {
            return None;
        }
    }
    // An empty segment is a doubled or trailing slash, never an id.
    if let Some(next) = &node.parameter
        && !part.is_empty()
    {
        params.push(part);
        if let Some(found) = walk(next, rest, verb, params, verbs) {
            return Some(found);
        }
        params.pop();
    }
    None
}

fn segments(template: &str) -> impl Iterator<Item = &str> {
    template.trim_start_matches('/').split('/')
}

/// Reads a method's `google.api.http` option, further bindings included.
pub(crate) fn bindings(
    pool: &DescriptorPool,
    method: &MethodDescriptor,
    faults: &mut Vec<String>,
) -> Vec<Binding> {
    let Some(extension) = pool.get_extension_by_name("google.api.http") else {
        return Vec::new();
    };
    let options = method.options();
    if !options.has_extension(&extension) {
        return Vec::new();
    }
    let value = options.get_extension(&extension);
    let Some(rule) = value.as_message() else {
        return Vec::new();
    };
    let mut rules = vec![rule.clone()];
    if let Some(more) = rule.get_field_by_name("additional_bindings") {
        rules.extend(
            more.as_list()
                .unwrap_or_default()
                .iter()
                .filter_map(|rule| rule.as_message().cloned()),
        );
    }
    if method.is_client_streaming() || method.is_server_streaming() {
        faults.push(format!(
            "{}: a streaming method has no REST binding",
            method.full_name()
        ));
        return Vec::new();
    }
    rules
        .iter()
        .filter_map(|rule| match binding(rule) {
            Ok(binding) => Some(binding),
            Err(fault) => {
                faults.push(format!("{}: {fault}", method.full_name()));
                None
            }
        })
        .collect()
}

fn binding(rule: &DynamicMessage) -> Result<Binding, String> {
    let text = |name: &str| {
        rule.get_field_by_name(name)
            .and_then(|value| value.as_str().map(str::to_owned))
            .unwrap_or_default()
    };
    let (verb, template) = [
        (Verb::Get, "get"),
        (Verb::Put, "put"),
        (Verb::Post, "post"),
        (Verb::Delete, "delete"),
        (Verb::Patch, "patch"),
    ]
    .into_iter()
    .map(|(verb, field)| (verb, text(field)))
    .find(|(_, template)| !template.is_empty())
    .ok_or("its http option names none of get, put, post, delete, patch")?;
    let body = match text("body").as_str() {
        "" => Body::None,
        "*" => Body::All,
        other => return Err(format!("body \"{other}\": only \"*\" or none is used here")),
    };
    if !text("response_body").is_empty() {
        return Err("response_body is not used here".to_owned());
    }
    if matches!(verb, Verb::Get | Verb::Delete) && body == Body::All {
        return Err(format!("{verb} takes no body"));
    }
    let mut path_fields = Vec::new();
    for segment in segments(&template) {
        match segment.strip_prefix('{').map(|rest| rest.strip_suffix('}')) {
            Some(Some(name)) if mainstay_types::format::is_slug(name) => {
                path_fields.push(name.to_owned());
            }
            None if !segment.is_empty() && !segment.contains(['{', '}', '*', ':']) => {}
            _ => {
                return Err(format!(
                    "path segment \"{segment}\" of {template} is not supported"
                ));
            }
        }
    }
    if !template.starts_with('/') {
        return Err(format!("path {template} does not begin with /"));
    }
    Ok(Binding {
        verb,
        template,
        path_fields,
        body,
    })
}
