//! Every role alone, as it is deployed: each a process started by `serve` with its own database roles on a loopback port, beside
//! simulators that are a process too. They play the whole story.
//! Deliberately absent: production mode. It refuses simulators, which another test proves.

use anyhow::ensure;
use mainstay_tests::{Platform, Starting, platform, rest, story, world};

const CONTEXTS: [&str; 5] = [
    "identity",
    "billing",
    "messaging",
    "escalation",
    "integrations",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_that_were_started_alone_play_the_whole_story() -> anyhow::Result<()> {
    let (_simulators, url) = platform::simulators("roles").await?;
    let starting = Starting {
        env: vec![("SANDBOX_URL".to_owned(), url)],
        ..Starting::default()
    };
    // Everything at once makes what a deployment is given: databases, settings, an agency with its accounts. Then it is gone.
    let mut platform = Platform::start_with("roles", starting).await?;
    ensure!(platform.stop().await?.success());
    let postgres = platform.postgres().await?;
    let mut roles = Vec::new();
    for role in CONTEXTS {
        let address = platform.dev_text(&format!("/grpc/{role}"))?.to_owned();
        roles.push(platform.serve(role, &address)?);
    }
    let gateway = platform.dev_text("/gateway_url")?.to_owned();
    roles.push(platform.serve("gateway", &gateway)?);
    let http = rest::http()?;
    world::until("every role is ready", async || {
        let asked = http.get(format!("{gateway}/readyz")).send().await;
        Ok(asked
            .is_ok_and(|answer| answer.status() == 200)
            .then_some(()))
    })
    .await?;
    std::fs::write(
        platform.data_dir().join("dev.json"),
        serde_json::to_vec(platform.dev())?,
    )?;
    let played = story::play(&mut platform, |_| None).await?;
    ensure!(played.proved.len() > 15, "{:?}", played.proved);
    for role in &mut roles {
        ensure!(role.try_wait()?.is_none(), "a role ended meanwhile");
    }
    postgres.stop().await?;
    Ok(())
}
