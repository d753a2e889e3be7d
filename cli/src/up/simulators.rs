//! The simulators of `up`: its own, or those that run elsewhere and outlive it; and the webhook address they are told.
//! Deliberately absent: any provider's rules. `mainstay_sandbox` knows those.

use anyhow::Context;
use mainstay_runtime::Shutdown;
use mainstay_sandbox::{Sandbox, SandboxConfig};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::data_dir::DataDir;
use crate::failure::Advise;
use crate::ports::Ports;

/// Simulators that can be reached.
pub struct Simulators {
    /// Where.
    pub url: String,
    /// Ours, if they are.
    own: Option<(Shutdown, JoinHandle<std::io::Result<()>>)>,
}

impl Simulators {
    /// Takes those that run elsewhere.
    pub fn elsewhere(url: &str) -> Self {
        Simulators {
            url: url.trim_end_matches('/').to_owned(),
            own: None,
        }
    }

    /// Starts our own, with what they were told before.
    ///
    /// # Errors
    /// When their journal or port cannot be had.
    pub async fn start(
        data_dir: &DataDir,
        ports: &mut Ports,
        stripe_secret_key: &str,
    ) -> anyhow::Result<Self> {
        let (listener, address) = ports.listen("simulators").await?;
        let sandbox = Sandbox::open(SandboxConfig {
            data_dir: Some(data_dir.sandbox()),
            stripe_secret_key: Some(stripe_secret_key.to_owned()),
        })
        .await
        .advise(
            "the simulators do not start",
            "see `mainstay doctor`, or use another --data-dir",
        )?;
        let shutdown = Shutdown::new();
        let task = tokio::spawn(sandbox.serve(listener, shutdown.triggered()));
        Ok(Simulators {
            url: format!("http://{address}"),
            own: Some((shutdown, task)),
        })
    }

    /// Stops our own; leaves others alone.
    ///
    /// # Errors
    /// When they broke.
    pub async fn stop(self) -> anyhow::Result<()> {
        if let Some((shutdown, task)) = self.own {
            shutdown.trigger();
            task.await.context("the simulators broke off")??;
        }
        Ok(())
    }
}

/// Tells the simulated Stripe where webhooks go and what they are signed with. Under the same name the address is
/// replaced, so that what was not delivered before a restart goes to where we are now.
///
/// # Errors
/// When it does not answer, or refuses.
pub async fn register_webhook(
    sandbox_url: &str,
    name: &str,
    url: &str,
    secret: &str,
) -> anyhow::Result<()> {
    let to = format!("{sandbox_url}/_/stripe/webhook_endpoint");
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(std::time::Duration::from_secs(10))
        .build()?;
    let answer = http.put(&to).json(&json!({"name": name, "url": url, "secret": secret})).send().await.advise(
        format!("the simulators at {sandbox_url} do not answer"),
        "start them with `mainstay serve sandbox`, or unset SANDBOX_URL so that `up` starts its own",
    )?;
    let status = answer.status();
    let body = answer.text().await.unwrap_or_default();
    anyhow::ensure!(
        status.is_success(),
        "the simulators refused the webhook address: {status} {body}"
    );
    Ok(())
}

/// Tells the simulators something of their own side, below `/_/`, and gives their answer.
///
/// # Errors
/// When they do not answer, or refuse.
pub async fn tell(sandbox_url: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(std::time::Duration::from_secs(10))
        .build()?;
    let answer = http.post(format!("{sandbox_url}{path}")).json(body).send().await.advise(
        format!("the simulators at {sandbox_url} do not answer"),
        "start them with `mainstay serve sandbox`, or unset SANDBOX_URL so that `up` starts its own",
    )?;
    let status = answer.status();
    let text = answer.text().await.unwrap_or_default();
    anyhow::ensure!(
        status.is_success(),
        "the simulators refused {path}: {status} {text}"
    );
    serde_json::from_str(&text)
        .with_context(|| format!("{path} answered something that is not JSON"))
}
