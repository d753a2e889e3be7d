//! The demo agency's accounts at the simulated providers: made as anybody makes one, through the REST API, with credentials of
//! the instance's own; and told to the simulators at every start, with the addresses of this instance.
//! Deliberately absent: real providers. Their accounts are added by whoever has them.

use anyhow::Context;
use serde_json::{Value, json};

use super::simulators::tell;
use crate::api::Api;
use crate::data_dir::DataDir;
use crate::secrets::{Secrets, random_hex};

/// The demo client's number.
const NUMBER: &str = "+15125550199";
/// What the agency's own people are texted from.
const HOUSE_NUMBER: &str = "+15125550190";
/// What the demo client's mail comes from.
const CLIENT_MAIL: &str = "Acme Roofing <hello@acme.test>";
/// What mail comes from when Resend is away.
const AGENCY_MAIL: &str = "Demo Agency <hello@agency.test>";

/// Has Twilio say a thing again that was not taken; without it, only if no connection came about. Not sent, not signed.
const SAID_AGAIN: &str = "#rc=3&rp=all";

/// Makes the accounts and their senders unless they are there already, tells the simulators, and answers what `dev.json` says
/// of Twilio.
///
/// # Errors
/// When the gateway or the simulators do not answer, or refuse.
pub async fn ensure(
    api: &Api,
    client_id: &str,
    secrets: &mut Secrets,
    data_dir: &DataDir,
) -> anyhow::Result<Value> {
    let mut made = |name: &str, prefix: &str, digits: usize| {
        secrets.get_or_make(name, || format!("{prefix}{}", &random_hex()[..digits]))
    };
    let account_sid = made("twilio_account_sid", "AC", 32);
    let auth_token = made("twilio_auth_token", "", 32);
    let resend_key = made("resend_api_key", "re_", 32);
    // Hexadecimal digits are base64 as well.
    let resend_secret = made("resend_webhook_secret", "whsec_", 48);
    let sendgrid_key = made("sendgrid_api_key", "SG.", 48);
    // Kept before anything is made with them.
    secrets.keep(data_dir)?;
    let (gateway, sandbox) = (&api.dev.gateway_url, &api.dev.sandbox_url);

    let credentials = json!({"account_sid": account_sid, "auth_token": auth_token});
    let twilio = account(api, "twilio", &credentials).await?;
    let webhooks = format!("{gateway}/webhooks/twilio/{}", twilio.token);
    let number = |number: &str| {
        json!({
            "number": number,
            "sms_url": format!("{webhooks}/sms{SAID_AGAIN}"),
            "voice_url": format!("{webhooks}/voice{SAID_AGAIN}"),
            "status_url": format!("{webhooks}/voice/status{SAID_AGAIN}"),
        })
    };
    let told = json!({"account_sid": account_sid, "auth_token": auth_token, "numbers": [number(NUMBER), number(HOUSE_NUMBER)]});
    tell(sandbox, "/_/twilio/accounts", &told).await?;

    let model = json!({"api_key": model_key(secrets)});
    tell(sandbox, "/_/openai/accounts", &model).await?;

    let credentials = json!({"api_key": resend_key, "webhook_secret": resend_secret});
    let resend = account(api, "resend", &credentials).await?;
    let webhooks = format!("{gateway}/webhooks/resend/{}", resend.token);
    let told =
        json!({"api_key": resend_key, "webhook_url": webhooks, "webhook_secret": resend_secret});
    tell(sandbox, "/_/resend/accounts", &told).await?;

    // SendGrid makes the key that it signs with, and we make the address that it sends to: first the one, then the other.
    let known = tell(
        sandbox,
        "/_/sendgrid/accounts",
        &json!({"api_key": sendgrid_key}),
    )
    .await?;
    let public_key = known["public_key"]
        .as_str()
        .context("the simulated SendGrid told no public_key")?;
    let credentials = json!({"api_key": sendgrid_key, "webhook_public_key": public_key});
    let sendgrid = account(api, "sendgrid", &credentials).await?;
    let webhooks = format!("{gateway}/webhooks/sendgrid/{}", sendgrid.token);
    let told = json!({"api_key": sendgrid_key, "webhook_url": webhooks});
    tell(sandbox, "/_/sendgrid/accounts", &told).await?;
    if secrets.replace("sendgrid_public_key", public_key) {
        // The simulators have forgotten what they had, and made another one.
        let path = format!("/v1/provider_accounts/{}/rotate", sendgrid.id);
        let body = json!({"credentials": credentials});
        api.write(&path, &body).await?.expect(&[200])?;
    }
    secrets.keep(data_dir)?;

    sender(api, &twilio, "sms", NUMBER, Some(client_id)).await?;
    sender(api, &twilio, "sms", HOUSE_NUMBER, None).await?;
    sender(api, &resend, "email", CLIENT_MAIL, Some(client_id)).await?;
    sender(api, &sendgrid, "email", AGENCY_MAIL, None).await?;
    Ok(json!({"account_sid": account_sid, "auth_token": auth_token, "numbers": [NUMBER]}))
}

/// What opens the simulated model's door.
pub fn model_key(secrets: &mut Secrets) -> String {
    secrets.get_or_make("openai_api_key", || format!("sk-{}", &random_hex()[..48]))
}

/// An account, as far as it is needed here.
struct Account {
    id: String,
    token: String,
}

/// The account of this provider that was made at an earlier start, or a new one.
async fn account(api: &Api, provider: &str, credentials: &Value) -> anyhow::Result<Account> {
    let name = format!("Simulated {provider}");
    let path = format!("/v1/provider_accounts?provider={provider}&page_size=100");
    let page = api.get(&path).await?.expect(&[200])?;
    let known = page.body["data"].as_array().into_iter().flatten();
    let known = known.into_iter().find(|account| account["name"] == name);
    let account = match known {
        Some(account) => account.clone(),
        None => {
            let body = json!({"provider": provider, "name": name, "credentials": credentials});
            let made = api.write("/v1/provider_accounts", &body).await?;
            made.expect(&[201])?.body
        }
    };
    let text = |field: &str| {
        let found = account[field].as_str().map(str::to_owned);
        found.with_context(|| format!("an account of {provider} has no {field}"))
    };
    Ok(Account {
        id: text("id")?,
        token: text("endpoint_token")?,
    })
}

/// A sender of an account, unless there is one with its address already.
async fn sender(
    api: &Api,
    account: &Account,
    channel: &str,
    address: &str,
    client_id: Option<&str>,
) -> anyhow::Result<()> {
    let body = json!({"account_id": account.id, "channel": channel, "address": address, "client_id": client_id});
    let made = api.write("/v1/senders", &body).await?;
    if made.code() != Some("sender_address_taken") {
        made.expect(&[201])?;
    }
    Ok(())
}
