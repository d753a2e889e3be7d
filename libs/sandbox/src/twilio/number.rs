//! Owns an account's numbers: bought through the API, or named when the account was registered.
//!
//! Deliberately absent: the search for numbers that may be bought. Any number that nobody has can be.

use serde_json::{Value, json};

use super::errors::error;
use super::params::Params;
use super::{API_VERSION, NUMBER, find, invalid_url, is_e164, is_url, number, page, rfc2822, sid};
use super::{text, uri};
use crate::door::{Call, Operation, Reply};
use crate::ids;
use crate::store::{By, Tx};

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "POST",
        path: "/2010-04-01/Accounts/{AccountSid}/IncomingPhoneNumbers.json",
        name: "numbers.create",
        run: create,
    },
    Operation {
        method: "GET",
        path: "/2010-04-01/Accounts/{AccountSid}/IncomingPhoneNumbers.json",
        name: "numbers.list",
        run: list,
    },
    Operation {
        method: "GET",
        path: "/2010-04-01/Accounts/{AccountSid}/IncomingPhoneNumbers/{Sid}.json",
        name: "numbers.fetch",
        run: |tx, call| Ok(Reply::json(200, find(tx, call, NUMBER)?)),
    },
    Operation {
        method: "POST",
        path: "/2010-04-01/Accounts/{AccountSid}/IncomingPhoneNumbers/{Sid}.json",
        name: "numbers.update",
        run: update,
    },
    Operation {
        method: "DELETE",
        path: "/2010-04-01/Accounts/{AccountSid}/IncomingPhoneNumbers/{Sid}.json",
        name: "numbers.delete",
        run: |tx, call| {
            let id = sid(find(tx, call, NUMBER)?).to_owned();
            tx.delete(NUMBER, &id);
            Ok(Reply::empty(204))
        },
    },
];

/// Addresses of a number, by parameter and by field.
const URLS: [(&str, &str); 3] = [
    ("SmsUrl", "sms_url"),
    ("VoiceUrl", "voice_url"),
    ("StatusCallback", "status_callback"),
];

pub(super) fn make(tx: &Tx<'_>, account: &str, phone_number: &str) -> Value {
    let id = ids::twilio("PN");
    json!({
        "account_sid": account,
        "api_version": API_VERSION,
        "beta": false,
        "capabilities": { "fax": false, "mms": true, "sms": true, "voice": true },
        "date_created": rfc2822(tx.now),
        "date_updated": rfc2822(tx.now),
        "friendly_name": phone_number,
        "origin": "twilio",
        "phone_number": phone_number,
        "sid": id,
        "sms_application_sid": "",
        "sms_fallback_method": "POST",
        "sms_fallback_url": "",
        "sms_method": "POST",
        "sms_url": "",
        "status": "in-use",
        "status_callback": "",
        "status_callback_method": "POST",
        "trunk_sid": null,
        "uri": uri(account, &format!("IncomingPhoneNumbers/{id}")),
        "voice_application_sid": "",
        "voice_fallback_method": "POST",
        "voice_fallback_url": "",
        "voice_method": "POST",
        "voice_url": "",
        "_advanced_opt_out": true,
    })
}

fn create(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Reply, Reply> {
    let params = Params::body(call.request)?;
    let wanted = params.get("PhoneNumber");
    let area = params.get("AreaCode");
    let phone_number = match (wanted, area) {
        (Some("+15005550000"), _) => {
            return Err(error(
                400,
                21422,
                "Phone number is not available: +15005550000",
            ));
        }
        (Some(wanted), _) if wanted == "+15005550001" || !is_e164(wanted) => {
            return Err(error(
                400,
                21421,
                format!("PhoneNumber is invalid: {wanted}"),
            ));
        }
        (Some(wanted), _) => wanted.to_owned(),
        (None, Some("533")) => {
            return Err(error(400, 21452, "No phone numbers found in area code 533"));
        }
        (None, Some(area)) => free_in(tx, area)?,
        (None, None) => {
            return Err(error(400, 21421, "PhoneNumber or AreaCode is required"));
        }
    };
    if number(tx, &phone_number).is_some() {
        let message = format!("Phone number is not available: {phone_number}");
        return Err(error(400, 21422, message));
    }
    let mut made = make(tx, sid(call.account), &phone_number);
    change(tx, &mut made, &params)?;
    tx.put(NUMBER, made.clone());
    Ok(Reply::json(201, &made))
}

/// The first number of an area that nobody has.
fn free_in(tx: &Tx<'_>, area: &str) -> Result<String, Reply> {
    if area.len() != 3 || !area.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(error(400, 21451, format!("Invalid area code: {area}")));
    }
    (2_550_000..2_560_000)
        .map(|local| format!("+1{area}{local}"))
        .find(|candidate| number(tx, candidate).is_none())
        .ok_or_else(|| {
            error(
                400,
                21452,
                format!("No phone numbers found in area code {area}"),
            )
        })
}

fn update(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Reply, Reply> {
    let params = Params::body(call.request)?;
    let mut changed = find(tx, call, NUMBER)?.clone();
    change(tx, &mut changed, &params)?;
    tx.put(NUMBER, changed.clone());
    Ok(Reply::json(200, &changed))
}

/// An empty address takes the one there was away.
fn change(tx: &Tx<'_>, number: &mut Value, params: &Params) -> Result<(), Reply> {
    for (parameter, field) in URLS {
        let Some(url) = params.sent(parameter) else {
            continue;
        };
        if !url.is_empty() && !is_url(url) {
            return Err(invalid_url(parameter, url));
        }
        number[field] = json!(url);
    }
    if let Some(name) = params.get("FriendlyName") {
        number["friendly_name"] = json!(name);
    }
    number["date_updated"] = json!(rfc2822(tx.now));
    Ok(())
}

fn list(tx: &mut Tx<'_>, call: &Call<'_>) -> Result<Reply, Reply> {
    let params = Params::query(call.request)?;
    let (wanted, name) = (params.get("PhoneNumber"), params.get("FriendlyName"));
    let exact = wanted.filter(|wanted| is_e164(wanted));
    let by = exact.and_then(|wanted| By::field("phone_number", wanted));
    // Twilio takes a part of a number too.
    let key = (NUMBER, "incoming_phone_numbers");
    page::list(tx, call, key, by.as_ref(), |number| {
        let digits = |wanted: &str| wanted.trim_matches('*').to_owned();
        wanted.is_none_or(|wanted| text(number, "phone_number").contains(&digits(wanted)))
            && name.is_none_or(|name| number["friendly_name"] == name)
    })
}
