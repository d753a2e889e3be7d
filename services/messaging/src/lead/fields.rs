//! A lead's fields, from requests and for answers.
//! Deliberately absent: correction, beyond the case of what has no case. What cannot be kept is named.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use mainstay_proto::messaging::v1 as proto;
use mainstay_rpc::{FieldViolation, Violations, field};
use mainstay_types::ClientId;
use mainstay_types::format::{self, Format};
use prost_types::value::Kind as Plain;
use serde_json::{Map, Number, Value};

use super::import::{Imported, Outcome, Row};
use super::{
    Edit, Engagement, Given, Identity, IdentityKind, Industry, Lead, Source, TaskPriority, rules,
};
use crate::address::Address;
use crate::consent::Said;
use crate::gate::places;
use crate::gate::rules::Consent;
use crate::wire;

/// Most characters of a tag.
const LONGEST_TAG: usize = 50;
/// Most characters of a custom field's name, and of its text.
const LONGEST_NAME: usize = 64;
const LONGEST_TEXT: usize = 1000;
/// Most bytes of all custom fields.
const MOST_BYTES: usize = 20_000;

/// The texts that requests to make, to change and to import a lead have alike.
#[derive(Debug, Default)]
pub struct Texts {
    pub external_id: Option<String>,
    pub name: Option<String>,
    pub phone: Option<String>,
    pub email: Option<String>,
    pub whatsapp: Option<String>,
    pub time_zone: Option<String>,
    pub state: Option<String>,
    pub tags: Option<Vec<String>>,
    pub custom_fields: Option<prost_types::Struct>,
}

/// Reads them; every one that cannot be kept is noted as a fault.
pub fn edit(texts: Texts, faults: &mut Violations) -> Edit {
    let mut addresses = Vec::new();
    for (name, kind, given) in [
        ("phone", IdentityKind::Phone, texts.phone),
        ("email", IdentityKind::Email, texts.email),
        ("whatsapp", IdentityKind::Whatsapp, texts.whatsapp),
    ] {
        let read = given.and_then(|text| faults.check(name, address(kind, &text)));
        addresses.extend(read.map(|address| (kind, address)));
    }
    Edit {
        name: short("name", texts.name, faults),
        external_id: short("external_id", texts.external_id, faults),
        addresses,
        time_zone: texts.time_zone.and_then(|text| {
            let known = format::parse_time_zone(&text).map(|zone| zone.name().to_owned());
            faults.check(
                "time_zone",
                known.ok_or("must be an IANA time zone, such as America/Chicago"),
            )
        }),
        state: texts.state.and_then(|text| {
            let code = text.to_ascii_uppercase();
            let known = places::is_region(&code).then_some(code);
            faults.check(
                "state",
                known.ok_or(
                    "must be a state of the United States or a province of Canada, such as TX",
                ),
            )
        }),
        tags: texts.tags.map(|given| tags(given, faults)),
        custom_fields: texts
            .custom_fields
            .map(|given| custom_fields(given, faults))
            .unwrap_or_default(),
        ..Edit::default()
    }
}

fn address(kind: IdentityKind, text: &str) -> Result<Address, &'static str> {
    let wanted = match kind {
        IdentityKind::Email => "must be an email address, such as mike@lead.test",
        IdentityKind::Phone | IdentityKind::Whatsapp => {
            "must be a telephone number in E.164 form, such as +15125550123"
        }
    };
    let address = Address::parse(text).map_err(|_| wanted)?;
    let fits = address.is_phone() != (kind == IdentityKind::Email);
    fits.then_some(address).ok_or(wanted)
}

fn short(name: &str, given: Option<String>, faults: &mut Violations) -> Option<String> {
    let text = given?;
    let fits = (1..=200).contains(&text.chars().count());
    faults.check(
        name,
        fits.then_some(text)
            .ok_or("must have from 1 to 200 characters"),
    )
}

fn tags(given: Vec<String>, faults: &mut Violations) -> Vec<String> {
    let mut tags = Vec::with_capacity(given.len());
    for (at, text) in given.iter().enumerate() {
        let tag = tag(text);
        if (1..=LONGEST_TAG).contains(&tag.chars().count()) {
            tags.push(tag);
        } else {
            faults.add(format!("tags[{at}]"), "must have from 1 to 50 characters");
        }
    }
    tags.sort_unstable();
    tags.dedup();
    tags
}

/// A tag as it is kept and looked for.
pub fn tag(text: &str) -> String {
    text.trim().to_lowercase()
}

fn custom_fields(given: prost_types::Struct, faults: &mut Violations) -> Map<String, Value> {
    let mut fields = Map::new();
    for (name, value) in given.fields {
        let path = format!("custom_fields.{name}");
        if !(1..=LONGEST_NAME).contains(&name.chars().count()) {
            faults.add(path, "its name must have from 1 to 64 characters");
        } else if let Err(wanted) = format::check(Format::Text, &name) {
            faults.add(path, format!("its name {wanted}"));
        } else if let Some(value) = faults.check(&path, scalar(value)) {
            fields.insert(name, value);
        }
    }
    let bytes: usize = fields
        .iter()
        .map(|(name, value)| name.len() + value.as_str().map_or(8, str::len))
        .sum();
    if bytes > MOST_BYTES {
        faults.add("custom_fields", "must have at most 20000 bytes in all");
    }
    fields
}

fn scalar(value: prost_types::Value) -> Result<Value, &'static str> {
    const WANTED: &str = "must be text, a number, true or false, or null to take it away";
    match value.kind {
        None | Some(Plain::NullValue(_)) => Ok(Value::Null),
        Some(Plain::BoolValue(flag)) => Ok(Value::Bool(flag)),
        Some(Plain::NumberValue(number)) => number_of(number).map(Value::Number).ok_or(WANTED),
        Some(Plain::StringValue(text)) if text.chars().count() > LONGEST_TEXT => {
            Err("must have at most 1000 characters")
        }
        Some(Plain::StringValue(text)) => {
            format::check(Format::Text, &text).map(|()| Value::String(text))
        }
        Some(Plain::StructValue(_) | Plain::ListValue(_)) => Err(WANTED),
    }
}

/// Whole numbers as such, so that they come back as they were sent.
fn number_of(number: f64) -> Option<Number> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "whole and within what a double counts exactly"
        )]
        return Some(Number::from(number as i64));
    }
    Number::from_f64(number)
}

/// Consent that comes with a lead.
pub fn given(
    consents: Vec<proto::LeadConsentGiven>,
    edit: &Edit,
    now: DateTime<Utc>,
    faults: &mut Violations,
) -> Vec<Given> {
    let mut read = Vec::with_capacity(consents.len());
    for (at, consent) in consents.into_iter().enumerate() {
        let path = |name: &str| format!("consents[{at}].{name}");
        let channel = wire::channel(&path("channel"), consent.channel, faults);
        let reached = channel.is_none_or(|channel| {
            let reaches = rules::kinds(channel);
            edit.addresses
                .iter()
                .any(|(kind, _)| reaches.contains(kind))
        });
        if !reached {
            faults.add(path("channel"), "reaches no address of the lead");
        }
        let basis = wire::basis(&path("basis"), consent.basis, faults);
        let given_at = field::time_given(&path("given_at"), consent.given_at.as_ref(), faults);
        let given_at = given_at.unwrap_or(now);
        if given_at > now + chrono::TimeDelta::minutes(5) {
            faults.add(path("given_at"), "must not be in the future");
        }
        if let (Some(channel), Some(basis)) = (channel, basis) {
            read.push(Given {
                channel,
                consent: Consent { basis, given_at },
                said: Said {
                    source: consent.source.unwrap_or_default(),
                    text: consent.text.filter(|text| !text.is_empty()),
                },
            });
        }
    }
    read
}

/// A row of an import, or all that is wrong with it.
pub fn row(row: proto::LeadRow) -> Result<Row, Vec<FieldViolation>> {
    // An empty cell says nothing.
    let text = |given: Option<String>| {
        let given = given.map(|text| text.trim().to_owned());
        given.filter(|text| !text.is_empty())
    };
    let mut faults = Violations::new();
    let mut edit = edit(
        Texts {
            external_id: text(row.external_id),
            name: text(row.name),
            phone: text(row.phone),
            email: text(row.email),
            whatsapp: text(row.whatsapp),
            time_zone: text(row.time_zone),
            state: text(row.state),
            tags: Some(row.tags).filter(|tags| !tags.is_empty()),
            custom_fields: row.custom_fields,
        },
        &mut faults,
    );
    edit.industry = word(
        "industry",
        text(row.industry),
        Industry::ALL,
        Industry::as_str,
        &mut faults,
    );
    edit.engagement = word(
        "engagement",
        text(row.engagement),
        Engagement::ALL,
        Engagement::as_str,
        &mut faults,
    );
    edit.task_priority = word(
        "task_priority",
        text(row.task_priority),
        TaskPriority::ALL,
        TaskPriority::as_str,
        &mut faults,
    );
    let source = word(
        "source",
        text(row.source),
        Source::ALL,
        Source::as_str,
        &mut faults,
    );
    if faults.is_empty() && edit.addresses.is_empty() {
        faults.add("phone", NO_ADDRESS);
    }
    match faults.finish() {
        Ok(()) => Ok(Row {
            source: source.unwrap_or(Source::Import),
            edit,
        }),
        Err(problem) => Err(problem.errors().to_vec()),
    }
}

/// What a lead without any address is told.
pub const NO_ADDRESS: &str = "is required, unless there is an email or whatsapp";

fn word<T: Copy>(
    name: &str,
    given: Option<String>,
    all: &[T],
    spelled: impl Fn(T) -> &'static str,
    faults: &mut Violations,
) -> Option<T> {
    let text = given?.to_ascii_lowercase();
    let known = all.iter().copied().find(|word| spelled(*word) == text);
    if known.is_none() {
        let words: Vec<&str> = all.iter().map(|word| spelled(*word)).collect();
        faults.add(name, format!("must be one of: {}", words.join(", ")));
    }
    known
}

/// A lead as answers have it.
pub fn answer(client: ClientId, lead: &Lead) -> proto::Lead {
    let primary = |kind| {
        let address = rules::primary(&lead.identities, kind);
        address.map(|address| address.as_str().to_owned())
    };
    proto::Lead {
        id: Some(lead.id.to_string()),
        client_id: Some(client.to_string()),
        name: lead.name.clone(),
        phone: primary(IdentityKind::Phone),
        email: primary(IdentityKind::Email),
        whatsapp: primary(IdentityKind::Whatsapp),
        identities: lead.identities.iter().map(identity).collect(),
        time_zone: lead.time_zone.clone(),
        state: lead.state.clone(),
        status: Some(lead.status.answer()),
        source: Some(lead.source.answer()),
        industry: lead.industry.map(Industry::answer),
        tags: lead.tags.clone(),
        custom_fields: Some(object(&lead.custom_fields)),
        owner_member_id: lead.owner.map(|owner| owner.to_string()),
        engagement: Some(lead.engagement.answer()),
        task_priority: Some(lead.task_priority.answer()),
        external_id: lead.external_id.clone(),
        merged_into_lead_id: lead.merged_into.map(|into| into.to_string()),
        etag: Some(rules::etag(lead.revision)),
        created_at: Some(field::timestamp(lead.created_at)),
        updated_at: Some(field::timestamp(lead.updated_at)),
    }
}

fn identity(identity: &Identity) -> proto::LeadIdentity {
    proto::LeadIdentity {
        kind: Some(identity.kind.answer()),
        address: Some(identity.address.as_str().to_owned()),
        primary: Some(identity.primary),
    }
}

fn object(fields: &Map<String, Value>) -> prost_types::Struct {
    let plain = |value: &Value| match value {
        Value::Bool(flag) => Plain::BoolValue(*flag),
        Value::Number(number) => Plain::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Plain::StringValue(text.clone()),
        // None of these is ever kept.
        Value::Null | Value::Array(_) | Value::Object(_) => Plain::NullValue(0),
    };
    let fields: BTreeMap<String, prost_types::Value> = fields
        .iter()
        .map(|(name, value)| {
            let kind = Some(plain(value));
            (name.clone(), prost_types::Value { kind })
        })
        .collect();
    prost_types::Struct { fields }
}

fn outcome(outcome: Outcome) -> proto::LeadRowOutcome {
    match outcome {
        Outcome::Created => proto::LeadRowOutcome::Created,
        Outcome::Updated => proto::LeadRowOutcome::Updated,
        Outcome::Unchanged => proto::LeadRowOutcome::Unchanged,
        Outcome::Rejected => proto::LeadRowOutcome::Rejected,
    }
}

/// What became of the rows, as answers have it.
pub fn report(imported: &[Imported]) -> proto::ImportLeadsResponse {
    let count = |outcome| {
        let rows = imported.iter().filter(|row| row.outcome == outcome).count();
        Some(i32::try_from(rows).unwrap_or(i32::MAX))
    };
    let results = imported
        .iter()
        .enumerate()
        .map(|(at, row)| proto::LeadRowResult {
            row: Some(i32::try_from(at).unwrap_or(i32::MAX)),
            outcome: Some(outcome(row.outcome).into()),
            lead_id: row.lead.map(|lead| lead.to_string()),
            errors: row.faults.clone(),
        });
    proto::ImportLeadsResponse {
        created: count(Outcome::Created),
        updated: count(Outcome::Updated),
        unchanged: count(Outcome::Unchanged),
        rejected: count(Outcome::Rejected),
        results: results.collect(),
    }
}
