//! Coordinators of the stage beside the one that serves, and the sagas they run.
//! Deliberately absent: what a saga is to do; each test says that.

use std::time::Duration;

use mainstay_billing::saga::prover::{Prover, Sabotage};
use mainstay_billing::saga::{Engine, EngineLimits};
use mainstay_billing::{Settings, coordinator};
use mainstay_rpc::ServiceName;
use mainstay_runtime::{Clock, Shutdown};
use mainstay_types::{ClientId, SagaId};

use super::Stage;

impl Stage {
    /// The newest saga of a client of this name, once there is one.
    pub async fn saga_of(&self, client: ClientId, definition: &str) -> SagaId {
        let mut connection = self.database.admin().await;
        let sql = "select id from billing.saga where tenant_id = $1 and definition = $2 order by id desc limit 1";
        let found = async {
            loop {
                let row: Option<(uuid::Uuid,)> = sqlx::query_as(sql)
                    .bind(client.uuid())
                    .bind(definition)
                    .fetch_optional(&mut connection)
                    .await
                    .expect("a database");
                match row {
                    Some((id,)) => return SagaId::from_uuid(id),
                    None => tokio::task::yield_now().await,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), found)
            .await
            .expect("the saga is started")
    }

    /// What a prover works with: the log, and a coordinator that takes over what another left.
    pub async fn prover(&self, limits: EngineLimits, sabotage: Sabotage) -> Prover {
        let (second, worker) = self
            .engine(limits, Some(sabotage.clone()), Clock::system(0))
            .await;
        let takes_over = second.clone();
        tokio::spawn(async move { takes_over.run().await });
        Prover {
            sabotage,
            second,
            worker,
            patience: Duration::from_secs(120),
        }
    }

    /// A coordinator of its own, which breaks as it is told.
    pub async fn engine(
        &self,
        limits: EngineLimits,
        sabotage: Option<Sabotage>,
        clock: Clock,
    ) -> (Engine, mainstay_db::Worker) {
        let database = mainstay_db::Database::connect(&self.config())
            .await
            .expect("billing's roles");
        let settings = Settings {
            stripe: self.stripe(),
        };
        let channels = self.house.channels(ServiceName::Billing, &self.billing.url);
        let shutdown = Shutdown::new();
        let engine = coordinator(
            &settings, &database, &channels, clock, shutdown, limits, sabotage,
        );
        (engine, database.worker())
    }

    /// The sagas that billing runs.
    pub async fn definitions(&self) -> Vec<mainstay_billing::saga::Definition> {
        let database = mainstay_db::Database::connect(&self.config())
            .await
            .expect("billing's roles");
        let channels = self.house.channels(ServiceName::Billing, &self.billing.url);
        mainstay_billing::definitions(
            &mainstay_billing::stripe::StripeGateway::new(self.stripe()),
            &mainstay_billing::identity::Identity::new(&channels),
            &mainstay_billing::messaging::Messaging::new(&channels),
            &mainstay_billing::integrations::Integrations::new(&channels),
            &database.worker(),
        )
    }
}
