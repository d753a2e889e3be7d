//! The platform looks at itself: every service is asked how it stands, and what is found twice in a row is an alert of the operators'
//! agency, over when it is missed twice in a row.
//! Deliberately absent: the gateway, which serves no gRPC and is looked at from outside (`/v1/health`).

pub(crate) mod rules;
mod sql;

use std::time::Duration;

use futures_util::future::join_all;
use mainstay_jobs::record::By;
use mainstay_proto::health::v1::health_report_service_client::HealthReportServiceClient;
use mainstay_proto::health::v1::{GetHealthReportRequest, HealthReport};
use mainstay_rpc::{Channels, ServiceChannel, health_report};
use mainstay_runtime::Health;
use mainstay_runtime::health::Summary;
use mainstay_types::{AgencyId, AgencyScope, ServiceName, Visible};
use tonic::Request;

use crate::Escalating;
use crate::alert::{self, New, Thing, Told};
use rules::{Finding, Look, Step};

/// How long a service may take to say how it stands: its probes have two seconds.
const PATIENCE: Duration = Duration::from_secs(4);

/// Asks the services.
#[derive(Clone)]
pub(crate) struct Services {
    own: Health,
    others: Vec<(ServiceName, HealthReportServiceClient<ServiceChannel>)>,
}

impl Services {
    /// Through these channels; escalation itself by its own health.
    pub(crate) fn new(channels: &Channels, own: &Health) -> Self {
        let others = ServiceName::CONTEXTS
            .into_iter()
            .filter(|service| *service != ServiceName::Escalation);
        Services {
            own: own.clone(),
            others: others
                .map(|service| {
                    let client = HealthReportServiceClient::new(channels.channel(service));
                    (service, client)
                })
                .collect(),
        }
    }

    /// How all of them stand, each asked at once.
    async fn ask(&self) -> Vec<Look> {
        let asking = self.others.iter().map(|(service, client)| async move {
            let mut request = Request::new(GetHealthReportRequest {});
            request.set_timeout(PATIENCE);
            let answer = client.clone().get_health_report(request).await;
            let report = answer.ok().map(tonic::Response::into_inner);
            look(*service, report.as_ref())
        });
        let (mut looks, findings) =
            futures_util::future::join(join_all(asking), self.own.findings()).await;
        let own = health_report(&self.own, &findings, Summary::default());
        looks.push(look(ServiceName::Escalation, Some(&own)));
        looks
    }
}

fn look(service: ServiceName, report: Option<&HealthReport>) -> Look {
    Look {
        service: service.as_str().to_owned(),
        found: rules::findings(report),
        answered: report.is_some(),
    }
}

/// Looks once, and takes in what it saw: all of it in one transaction, so that a look that is cut off was none.
pub(crate) async fn run(escalating: &Escalating, operators: AgencyId) -> mainstay_db::Result<()> {
    let looks = escalating.services.ask().await;
    let now = escalating.clock.now();
    let by = By::itself(ServiceName::Escalation, operators, now);
    let scope = AgencyScope {
        agency: operators,
        visible: Visible::All,
    };
    let mut tx = escalating.database.worker().agency(&scope).await?;
    let known = sql::list(tx.conn()).await?;
    for step in rules::steps(&known, &looks) {
        match step {
            Step::Keep(sighting) => sql::put(tx.conn(), &sighting, now).await?,
            Step::Raise(sighting) => {
                sql::put(tx.conn(), &sighting, now).await?;
                let (thing, severity) = (
                    thing(&sighting.service, &sighting.finding),
                    sighting.finding.severity,
                );
                // A look is no occurrence: what lasts is one, until it becomes worse or somebody says too early that it is over.
                if !alert::is_known(tx.conn(), operators, &thing, severity).await? {
                    let new = New {
                        thing,
                        severity,
                        summary: rules::summary(&sighting.service, &sighting.finding),
                    };
                    let told = Told {
                        at: now,
                        traceparent: None,
                    };
                    alert::raise(tx.conn(), &by, &new, told).await?;
                }
            }
            Step::End(sighting) => {
                sql::delete(tx.conn(), &sighting).await?;
                let thing = thing(&sighting.service, &sighting.finding);
                alert::end(tx.conn(), &by, &thing, now).await?;
            }
        }
    }
    tx.commit().await?;
    escalating.jobs.wake();
    Ok(())
}

fn thing(service: &str, finding: &Finding) -> Thing {
    Thing {
        kind: finding.kind,
        subject: format!("{service}/{}", finding.subject),
        item: None,
        client: None,
    }
}
