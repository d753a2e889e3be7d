//! Owns Twilio's lists: pages with the address of the next one, newest first, steady while new objects come in.
//!
//! Deliberately absent: the way back. `previous_page_uri` is null; nobody walks backwards.

use serde_json::{Map, Value, json};

use super::errors::{error, invalid};
use super::params::Params;
use super::sid;
use crate::door::{Call, Reply};
use crate::shown::public;
use crate::store::{By, Tx};
use crate::urlencoded;

const DEFAULT_SIZE: usize = 50;
const LARGEST: usize = 1_000;
/// What stands before the last object's sid in a page's token.
const TOKEN: &str = "PA";

/// One page of the account's objects that are wanted; `name` is what the list is called in the answer.
pub(super) fn list(
    tx: &Tx<'_>,
    call: &Call<'_>,
    (kind, name): (&str, &str),
    by: Option<&By>,
    wanted: impl Fn(&Value) -> bool,
) -> Result<Reply, Reply> {
    let params = Params::query(call.request)?;
    let size = number(&params, "PageSize")?.unwrap_or(DEFAULT_SIZE);
    if size == 0 {
        return Err(invalid("PageSize must be at least 1"));
    }
    let size = size.min(LARGEST);
    let page = number(&params, "Page")?.unwrap_or(0);
    let below = match params.get("PageToken") {
        None if page == 0 => None,
        None => return Err(error(400, 20004, "Page without its PageToken")),
        Some(token) => {
            let last = token.strip_prefix(TOKEN).unwrap_or_default();
            let position = tx.world().position(kind, last);
            Some(position.ok_or_else(|| error(400, 20004, "Invalid PageToken"))?)
        }
    };
    let account = &call.account["sid"];
    let mut found = tx
        .world()
        .newest_first(kind, by, below)
        .map(|(_, object)| object)
        .filter(|object| object["account_sid"] == *account && wanted(object));
    let objects: Vec<&Value> = found.by_ref().take(size).collect();
    let more = found.next().is_some();
    let address = |page: usize, token: Option<&str>| {
        let mut pairs = params.without(&["Page", "PageSize", "PageToken"]);
        pairs.push(("PageSize".into(), size.to_string()));
        pairs.push(("Page".into(), page.to_string()));
        pairs.extend(token.map(|last| ("PageToken".to_owned(), format!("{TOKEN}{last}"))));
        format!("{}?{}", call.request.path, urlencoded::encode(&pairs))
    };
    let last = objects.last().filter(|_| more).map(|last| sid(last));
    let start = page * size;
    let mut answer = Map::new();
    answer.insert("first_page_uri".into(), json!(address(0, None)));
    answer.insert(
        "end".into(),
        json!((start + objects.len()).saturating_sub(1)),
    );
    answer.insert("previous_page_uri".into(), Value::Null);
    let shown: Vec<Value> = objects.iter().map(|object| public(object)).collect();
    answer.insert(name.to_owned(), Value::Array(shown));
    let own = format!("{}?{}", call.request.path, call.request.query);
    answer.insert("uri".into(), json!(own));
    answer.insert("page_size".into(), json!(size));
    answer.insert("start".into(), json!(start));
    let next = last.map(|last| address(page + 1, Some(last)));
    answer.insert("next_page_uri".into(), json!(next));
    answer.insert("page".into(), json!(page));
    Ok(Reply::json(200, &Value::Object(answer)))
}

fn number(params: &Params, name: &str) -> Result<Option<usize>, Reply> {
    params
        .get(name)
        .map(|text| {
            let number = text.parse::<usize>();
            number.map_err(|_| invalid(format!("{name} must be a whole number")))
        })
        .transpose()
}
