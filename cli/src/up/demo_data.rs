//! What there is to begin with: the demo agency with its owner and a key, made inside identity since nobody on the network
//! makes agencies; and a demo client, made as anybody makes one, through the REST API.
//! Deliberately absent: plans and subscriptions. The story of `mainstay demo` makes its own.

use anyhow::Context;
use mainstay_identity::bootstrap::{self, Wanted};
use mainstay_runtime::config::Config;
use mainstay_runtime::config::common::Common;
use serde_json::{Value, json};

use crate::api::Api;
use crate::dev_file::DevClient;
use crate::failure::Advise;
use crate::role;
use crate::secrets::Secrets;

const OWNER_EMAIL: &str = "owner@agency.test";
const CLIENT_NAME: &str = "Acme Roofing";
const CLIENT_EMAIL: &str = "owner@acme.test";

/// The demo agency, and how to sign in to it.
pub struct Agency {
    /// Its id.
    pub agency_id: String,
    /// Where its owner would get mail.
    pub owner_email: String,
    /// The owner's key.
    pub api_key: String,
}

/// Makes the agency, its owner and a key, unless they are there already.
///
/// # Errors
/// When identity's database does not answer.
pub async fn agency(
    config: &Config,
    common: &Common,
    secrets: &mut Secrets,
) -> anyhow::Result<Agency> {
    let identity = role::identity(config, common, role::Patience::OfAStart).await?;
    let wanted = Wanted {
        slug: "demo".to_owned(),
        name: "Demo Agency".to_owned(),
        owner_name: "Olivia Owner".to_owned(),
        owner_email: OWNER_EMAIL.to_owned(),
    };
    let made = bootstrap::ensure_agency(&identity, &wanted, secrets.owner_api_key.as_deref())
        .await
        .advise(
            "the demo agency cannot be made",
            "see the log in the data directory",
        )?;
    if made.secret.is_some() {
        secrets.owner_api_key = made.secret;
    }
    let api_key = secrets.owner_api_key.clone();
    let api_key = api_key.context("identity kept a key that nobody has")?;
    Ok(Agency {
        agency_id: made.agency.to_string(),
        owner_email: OWNER_EMAIL.to_owned(),
        api_key,
    })
}

/// The demo client: the one made before, if it still stands.
///
/// # Errors
/// When the gateway does not answer, or refuses.
pub async fn client(api: &Api, secrets: &mut Secrets) -> anyhow::Result<DevClient> {
    if let Some(known) = &secrets.demo_client {
        let found = api.get(&format!("/v1/clients/{}", known.id)).await?;
        if found.status == 200 {
            return Ok(known.clone());
        }
    }
    let body = json!({"name": CLIENT_NAME, "email": CLIENT_EMAIL, "phone": "+15125550100", "time_zone": "America/Chicago"});
    let made = api
        .post("/v1/clients", &body, "mainstay-up-demo-client")
        .await?;
    let id = match made.code() {
        // Made at a start that was killed before it could remember.
        Some("client_email_taken") => by_email(api).await?,
        _ => made.expect(&[201])?.text("id")?,
    };
    let client = DevClient {
        id,
        name: CLIENT_NAME.to_owned(),
    };
    secrets.demo_client = Some(client.clone());
    Ok(client)
}

async fn by_email(api: &Api) -> anyhow::Result<String> {
    let mut path = "/v1/clients?page_size=100".to_owned();
    loop {
        let page = api.get(&path).await?.expect(&[200])?;
        let clients = page.body["data"].as_array().into_iter().flatten();
        let found = clients
            .into_iter()
            .find(|client| client["email"] == CLIENT_EMAIL);
        if let Some(id) = found.and_then(|client| client["id"].as_str()) {
            return Ok(id.to_owned());
        }
        let next = page.body.get("next_page_token").and_then(Value::as_str);
        let Some(next) = next else {
            anyhow::bail!("the address {CLIENT_EMAIL} is taken by a client that no page lists");
        };
        path = format!(
            "/v1/clients?page_size=100&page_token={}",
            crate::saga::query_value(next)
        );
    }
}
