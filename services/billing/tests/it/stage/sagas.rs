//! Coordinators of the stage beside the one that serves, and the sagas they run.
//! Deliberately absent: what a saga is to do; each test says that.

use std::time::{Duration, Instant};

use mainstay_billing::saga::prover::{Prover, Sabotage};
use mainstay_billing::saga::{Engine, EngineLimits, Standing, start_subscription};
use mainstay_billing::{Settings, coordinator};
use mainstay_proto::billing::v1::{CreateSubscriptionRequest, Subscription};
use mainstay_rpc::ServiceName;
use mainstay_runtime::{Clock, Shutdown};
use mainstay_testkit::{Looks, PATIENCE};
use mainstay_types::{ClientId, SagaId};

use super::Stage;

impl Stage {
    /// The newest saga of a client of this name, once there is one.
    pub async fn saga_of(&self, client: ClientId, definition: &str) -> SagaId {
        self.begun_by(client, definition, std::future::pending::<()>())
            .await
    }

    /// The saga that somebody's request starts; it goes on when they have gone. What they are told counts only where there is
    /// no saga.
    pub async fn begun_by<T: std::fmt::Debug + Send + 'static>(
        &self,
        client: ClientId,
        definition: &str,
        request: impl Future<Output = T> + Send + 'static,
    ) -> SagaId {
        let mut connection = self.database.admin().await;
        let sql = "select id from billing.saga where tenant_id = $1 and definition = $2 order by id desc limit 1";
        let asked = tokio::spawn(request);
        let mut looks = Looks::every(Duration::from_millis(5));
        while looks.again().await {
            let answered = asked.is_finished();
            let row: Option<(uuid::Uuid,)> = sqlx::query_as(sql)
                .bind(client.uuid())
                .bind(definition)
                .fetch_optional(&mut connection)
                .await
                .expect("a database");
            if let Some((id,)) = row {
                return SagaId::from_uuid(id);
            }
            if answered {
                panic!("it began no {definition}: {:?}", asked.await);
            }
        }
        panic!("no {definition} was begun");
    }

    /// Waits until a saga is at rest.
    pub async fn at_rest(&self, saga: &str) -> Standing {
        let id: SagaId = saga.parse().expect("an id of a saga");
        let until = Instant::now() + PATIENCE;
        let standing = self.waiter.wait_for_rest(id, until).await.expect("a saga");
        if !standing.at_rest {
            let saga = self.saga(saga).await;
            panic!(
                "the saga does not end: at {} for the {}th time: {}",
                saga.step(),
                saga.attempt(),
                saga.error()
            );
        }
        standing
    }

    /// A client's subscription once its saga has ended, however long that takes.
    pub async fn subscribed(
        &self,
        client: ClientId,
        request: CreateSubscriptionRequest,
    ) -> Subscription {
        let made = self.subscribe(request).await.expect("subscribed");
        let saga = self.saga_of(client, start_subscription::NAME).await;
        self.at_rest(&saga.to_string()).await;
        self.subscription_of(client, made.id()).await
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
            patience: PATIENCE,
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
