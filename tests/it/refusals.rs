//! A role with wrong settings refuses to start and names all that is wrong at once; it never falls back to simulators.

use std::{
    path::Path,
    process::{Output, Stdio},
};

use anyhow::{Context as _, ensure};
use mainstay_testkit::PATIENCE;
use mainstay_tests::{
    Platform,
    platform::{binary, scratch, stop},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStderr, Command},
};

const CONTEXTS: [&str; 5] = [
    "identity",
    "billing",
    "messaging",
    "escalation",
    "integrations",
];

async fn serve(
    role: &str,
    env: &[(String, String)],
    folder: &Path,
) -> anyhow::Result<(Output, String)> {
    let output = Command::new(binary()?)
        .args(["serve", role, "--listen", "127.0.0.1:0"])
        .env_clear()
        .envs(env.iter().cloned())
        .current_dir(folder)
        .kill_on_drop(true)
        .output();
    // A role that refuses ends by itself; one that wrongly starts would run on.
    let output = tokio::time::timeout(PATIENCE, output).await??;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output, said))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_without_settings_names_every_one_it_misses() -> anyhow::Result<()> {
    let folder = scratch("refusals")?;
    for role in CONTEXTS {
        let (output, said) = serve(role, &[], &folder).await?;
        ensure!(!output.status.success(), "{role} started with no settings");
        let upper = role.to_uppercase();
        for wanted in [format!("MAINSTAY_{upper}_"), "MAINSTAY_BASE_URL".to_owned()] {
            ensure!(
                said.contains(&wanted),
                "{role} does not name {wanted}: {said}"
            );
        }
        // Nothing is signed with a key that somebody else could know (BA H-9 L-1).
        for wanted in ["SESSION_KEY", "SIGN_IN_KEY", "LOOKUP_KEY"] {
            ensure!(
                role != "identity" || said.contains(&format!("MAINSTAY_IDENTITY_{wanted}")),
                "{role} does not name its {wanted}: {said}"
            );
        }
        ensure!(
            said.matches("MAINSTAY_").count() >= 3,
            "{role} names too few at once: {said}"
        );
        ensure!(!said.contains("panicked"), "{said}");
    }

    // Malformed beside missing beside unknown: all in one refusal.
    let env = [
        ("MAINSTAY_BASE_URL".to_owned(), "not a url".to_owned()),
        (
            "MAINSTAY_SHUTDOWN_GRACE_SECONDS".to_owned(),
            "soon".to_owned(),
        ),
        ("MAINSTAY_COLOUR".to_owned(), "red".to_owned()),
        ("MAINSTAY_CLOCK_OFFSET_SECONDS".to_owned(), "60".to_owned()),
    ];
    let (output, said) = serve("billing", &env, &folder).await?;
    ensure!(
        !output.status.success(),
        "billing started with bad settings"
    );
    for (name, _) in &env {
        ensure!(said.contains(name.as_str()), "{name} is not named: {said}");
    }
    ensure!(
        said.contains("STRIPE"),
        "a missing Stripe key is not named: {said}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_simulator_is_refused_in_production() -> anyhow::Result<()> {
    let folder = scratch("refusals-sandbox")?;
    let (output, said) = serve(
        "sandbox",
        &[("MAINSTAY_ENVIRONMENT".to_owned(), "production".to_owned())],
        &folder,
    )
    .await?;
    ensure!(
        !output.status.success() && said.contains("production"),
        "the simulators started in production: {said}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_role_that_can_look_over_the_walls_is_refused() -> anyhow::Result<()> {
    let platform = Platform::start("refusals-role").await?;
    let superuser = platform.dev_text("/database_url")?.to_owned();
    // The settings of a role as `up` made them, with one thing changed: the superuser's URL.
    let settings = platform.data_dir().join("settings.toml");
    let env = [
        ("MAINSTAY_CONFIG".to_owned(), settings.display().to_string()),
        (
            "MAINSTAY_ESCALATION_DATABASE_URL".to_owned(),
            superuser.clone(),
        ),
        (
            "MAINSTAY_ESCALATION_WORKER_DATABASE_URL".to_owned(),
            superuser.clone(),
        ),
    ];
    let (output, said) = serve("escalation", &env, platform.data_dir()).await?;
    ensure!(!output.status.success(), "escalation started as superuser");
    ensure!(
        said.matches("superuser").count() >= 2,
        "both roles are judged at once: {said}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_starts_before_its_database_waits_for_it() -> anyhow::Result<()> {
    let platform = Platform::start("refusals-early").await?;
    let superuser = platform.dev_text("/database_url")?.to_owned();
    let (_, rest) = superuser.split_once('@').context("a user")?;
    let (database, _) = rest.split_once('/').context("an address")?;
    // An address at which nobody answers yet.
    let place = TcpListener::bind("127.0.0.1:0").await?;
    let early = place.local_addr()?;
    drop(place);
    let url = superuser.replace(database, &early.to_string());
    let settings = platform.data_dir().join("settings.toml");
    let start = || -> anyhow::Result<(Child, Said)> {
        let mut role = Command::new(binary()?)
            .args(["serve", "escalation", "--listen", "127.0.0.1:0"])
            .env_clear()
            .env("MAINSTAY_CONFIG", &settings)
            .env("MAINSTAY_ESCALATION_DATABASE_URL", &url)
            .env("MAINSTAY_ESCALATION_WORKER_DATABASE_URL", &url)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let said = BufReader::new(role.stderr.take().context("its words")?).lines();
        Ok((role, said))
    };
    let (_role, mut said) = start()?;
    says(&mut said, "asking again").await?;

    // One that is stopped meanwhile ends at once, and well.
    let (mut stopped, mut last) = start()?;
    says(&mut last, "asking again").await?;
    let ended = stop(&mut stopped).await?;
    ensure!(ended.success(), "{ended}");

    // Now it is there. That the role judges it, as every other, is how it is seen to have gone on.
    let (place, database) = (TcpListener::bind(early).await?, database.to_owned());
    tokio::spawn(async move {
        while let Ok((mut theirs, _)) = place.accept().await {
            let database = database.clone();
            tokio::spawn(async move {
                let mut ours = TcpStream::connect(database).await?;
                tokio::io::copy_bidirectional(&mut theirs, &mut ours).await
            });
        }
    });
    says(&mut said, "superuser").await
}

/// What a role says, line by line.
type Said = Lines<BufReader<ChildStderr>>;

/// Waits until a role says this.
async fn says(said: &mut Said, wanted: &str) -> anyhow::Result<()> {
    let heard = async {
        let mut all = String::new();
        while let Some(line) = said.next_line().await? {
            if line.contains(wanted) {
                return Ok(());
            }
            all.push_str(&line);
        }
        anyhow::bail!("it ended without {wanted}: {all}")
    };
    tokio::time::timeout(PATIENCE, heard).await?
}
