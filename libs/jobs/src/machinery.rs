//! What runs beside the requests of every service, started, looked at and stopped in one order: the runner of its jobs
//! (which also deletes what has expired), the relay of its events and audit rows, the inbox of events of others, the
//! probes of its database and queues, and whether it is ready.
//! Deliberately absent: what any of them does. A service brings its handlers.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::future::join_all;
use mainstay_db::Database;
use mainstay_rpc::{ClientDirectory, ServeError, ServiceRuntime};
use mainstay_runtime::{Clock, Shutdown};
use mainstay_types::ServiceName;
use tonic::service::Routes;

use crate::outbox::{RelaySettings, RemoteInbox};
use crate::queue::Jobs;
use crate::runner::{RunnerSettings, Wake};
use crate::{
    DatabaseProbe, EventHandler, Handler, Inbox, Queue, QueueProbe, Recurring, Relay, Runner,
    queue, readiness,
};

/// A service's machinery, set up before it serves.
pub struct Machinery {
    me: ServiceName,
    database: Database,
    clock: Clock,
    runner: Runner,
    /// Those of queues of the service's own.
    others: Vec<Runner>,
    queues: Vec<Arc<dyn Queue>>,
    relay: Relay,
    inbox: Option<Inbox>,
    /// What stops after the requests and before the machinery.
    between: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Machinery {
    /// On this database. Audit rows go to identity, as everybody's do.
    pub fn new(runtime: &ServiceRuntime, database: &Database) -> Self {
        let (me, clock) = (runtime.me, runtime.clock.clone());
        // First of all probes: a service's own come after what all have.
        runtime.health.probe(DatabaseProbe::new(database));
        runtime.health.probe(QueueProbe::new(database, &clock));
        let worker = database.worker();
        let runner = Runner::new(me, worker.clone(), clock.clone(), RunnerSettings::default());
        let mut relay = Relay::new(me, worker, clock.clone(), RelaySettings::default())
            .audit_to(RemoteInbox::new(&runtime.channels, ServiceName::Identity));
        // Every service has jobs that can be given up, and escalation hears of those.
        if me != ServiceName::Escalation {
            let inbox = RemoteInbox::new(&runtime.channels, ServiceName::Escalation);
            relay = relay.to(ServiceName::Escalation, inbox);
        }
        Machinery {
            me,
            database: database.clone(),
            clock,
            runner,
            others: Vec::new(),
            queues: vec![Arc::new(Jobs)],
            relay,
            inbox: None,
            between: None,
        }
    }

    /// Takes in events of others; `handler` has their effects.
    pub fn takes(mut self, handler: impl EventHandler) -> Self {
        let inbox = Inbox::new(self.me, self.database.worker(), handler);
        if self.me == ServiceName::Identity {
            // Its own audit rows go the way of everybody's, but for the wire.
            self.relay = self.relay.audit_to(inbox.clone());
        }
        if self.me == ServiceName::Escalation {
            self.relay = self.relay.to(self.me, inbox.clone());
        }
        self.inbox = Some(inbox);
        self
    }

    /// Tells its events to this consumer.
    pub fn tells(mut self, runtime: &ServiceRuntime, consumer: ServiceName) -> Self {
        let inbox = RemoteInbox::new(&runtime.channels, consumer);
        self.relay = self.relay.to(consumer, inbox);
        self
    }

    /// Works this kind of job.
    pub fn works(mut self, kind: &str, handler: impl Handler) -> Self {
        self.runner = self.runner.register(kind, handler);
        self
    }

    /// Works a job that is never done.
    pub fn recurs(mut self, job: impl Recurring) -> Self {
        self.runner = self.runner.recurs(job);
        self
    }

    /// Works a queue of the service's own beside `job`: all that is in it, by this handler. Gives who tells it that
    /// something may be due.
    pub fn works_queue(&mut self, queue: impl Queue, kind: &str, handler: impl Handler) -> Wake {
        let queue: Arc<dyn Queue> = Arc::new(queue);
        let (worker, clock) = (self.database.worker(), self.clock.clone());
        let runner = Runner::new(self.me, worker, clock, RunnerSettings::default())
            .of(Arc::clone(&queue))
            .register(kind, handler);
        let wake = runner.wake();
        self.others.push(runner);
        self.queues.push(queue);
        wake
    }

    /// What is done when the requests have ended and before jobs and events stop: ending what requests wait for, and what
    /// itself leaves events behind.
    pub fn then(mut self, stop: impl Future<Output = ()> + Send + 'static) -> Self {
        self.between = Some(Box::pin(stop));
        self
    }

    /// For those who enqueue.
    pub fn wake(&self) -> Wake {
        self.runner.wake()
    }

    /// Serves until the runtime's shutdown is triggered, then stops in the order in which each needs the next: requests,
    /// machinery, database. What was in hand is done or handed back.
    ///
    /// # Errors
    /// When the transport fails.
    pub async fn serve(
        self,
        runtime: ServiceRuntime,
        directory: Arc<dyn ClientDirectory>,
        routes: Routes,
    ) -> Result<(), ServeError> {
        let health = &runtime.health;
        // Its own dead letters and numbers, for whoever asks all queues.
        let routes = routes.add_service(queue::rpc::server(
            &self.database,
            self.queues,
            &self.clock,
            self.runner.wake(),
        ));
        let routes = match self.inbox {
            Some(inbox) => routes.add_service(inbox.server()),
            None => routes,
        };
        let watch = readiness::watch(
            self.database.clone(),
            health.clone(),
            runtime.shutdown.clone(),
        );
        runtime.shutdown.spawn(watch);
        // Not the runtime's: what requests in hand leave behind is still sent.
        let machinery = Shutdown::new();
        let runners = std::iter::once(self.runner).chain(self.others);
        let running: Vec<_> = runners
            .map(|runner| machinery.spawn(runner.run(machinery.clone())))
            .collect();
        let relaying = machinery.spawn(self.relay.run(machinery.clone()));
        let served = mainstay_rpc::serve(runtime, directory, routes).await;
        if let Some(stop) = self.between {
            stop.await;
        }
        machinery.trigger();
        drop(tokio::join!(join_all(running), relaying));
        self.database.close().await;
        served
    }
}
