//! The database of `up`: a private PostgreSQL in the data directory, or the one that `DATABASE_URL` names; roles and
//! schemas made, migrations applied.
//! Deliberately absent: how a private server is found, started and recovered. `mainstay_db::local` knows.

use anyhow::Context;
use mainstay_db::bootstrap::{BootstrapOptions, ServiceCredentials, bootstrap};
use mainstay_db::local::{LocalOptions, LocalPostgres};
use mainstay_db::migrate;
use mainstay_runtime::config::Config;
use mainstay_types::ServiceName;

use crate::data_dir::DataDir;
use crate::failure::Advise;
use crate::migrate::database_name;
use crate::output;
use crate::secrets::Secrets;
use crate::settings;

const DATABASE: &str = "mainstay";

/// The server, ours or given.
pub struct Server {
    private: Option<LocalPostgres>,
    /// The database as its superuser.
    pub admin_url: String,
}

impl Server {
    /// Starts the private server, or takes the given one.
    ///
    /// # Errors
    /// When neither can be had, saying what to do.
    pub async fn start(data_dir: &DataDir, config: &Config) -> anyhow::Result<Self> {
        if let Some(admin_url) = config.get::<Option<String>>(&settings::DATABASE_URL) {
            return Ok(Server {
                private: None,
                admin_url,
            });
        }
        let server = LocalPostgres::start(&LocalOptions::new(data_dir.root()))
            .await
            .advise(
                "the private PostgreSQL does not start",
                "see `mainstay doctor`, or set DATABASE_URL to a server of your own",
            )?;
        for notice in server.notices() {
            output::note(format!("note: {notice}"));
        }
        server.create_database(DATABASE).await?;
        let admin_url = server.admin_url(DATABASE);
        Ok(Server {
            private: Some(server),
            admin_url,
        })
    }

    /// Makes the roles and schemas and applies the migrations. Gives how each service logs in.
    ///
    /// # Errors
    /// When the given role is no superuser, or a migration fails.
    pub async fn prepare(&self, secrets: &mut Secrets) -> anyhow::Result<Vec<ServiceCredentials>> {
        let secret = secrets.hex("database_roles");
        let options = BootstrapOptions::for_database(
            &database_name(&self.admin_url),
            ServiceName::CONTEXTS.map(ServiceName::as_str),
            secret.as_bytes(),
        );
        let credentials = bootstrap(&self.admin_url, &options).await.advise(
            "the database's roles and schemas cannot be made",
            "is DATABASE_URL a superuser's, and does its database exist?",
        )?;
        let migrations = crate::migrations::all();
        // Schemas do not know each other, so they are brought up together.
        let mut applied = tokio::task::JoinSet::new();
        for role in &credentials {
            let (url, service, migrations) = (
                role.migrator_url.clone(),
                role.service.clone(),
                migrations.clone(),
            );
            applied.spawn(async move { migrate::up(&url, &service, &migrations, false).await });
        }
        while let Some(steps) = applied.join_next().await {
            steps.context("a migration broke off")?.advise(
                "the migrations cannot be applied",
                "if the data directory is from another version, start that version or choose another --data-dir",
            )?;
        }
        Ok(credentials)
    }

    /// Stops the private server; leaves a given one alone.
    ///
    /// # Errors
    /// When it does not stop in time.
    pub async fn stop(&self) -> anyhow::Result<()> {
        match &self.private {
            Some(server) => server.stop().await.advise(
                "PostgreSQL did not stop",
                "it recovers at the next start; its log is in the data directory",
            ),
            None => Ok(()),
        }
    }
}
