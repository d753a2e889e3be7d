//! How many differences wait for a person, for the health report.
//! Deliberately absent: which, and whose. Each agency sees its own in its list.

use mainstay_db::{Database, Result, Worker};
use mainstay_jobs::probe::MOST;
use mainstay_runtime::health::{Alert, Finding, Probe, Probing, Severity};

/// Counts open differences.
#[derive(Debug)]
pub struct ReconciliationProbe(Worker);

impl ReconciliationProbe {
    /// In this database.
    pub fn new(database: &Database) -> Self {
        ReconciliationProbe(database.worker())
    }

    async fn ask(&self) -> Result<i64> {
        let mut connection = self.0.connection().await?;
        let row = sqlx::query!(
            r#"
            select count(*) as "open!"
            from (select from billing_discrepancy where state = 'open' and kind <> 'foreign' limit $1) open
            "#,
            MOST,
        )
        .fetch_one(connection.conn())
        .await?;
        Ok(row.open)
    }
}

impl Probe for ReconciliationProbe {
    fn name(&self) -> &'static str {
        "reconciliation"
    }

    fn probe(&self) -> Probing<'_> {
        Box::pin(async {
            match self.ask().await {
                Ok(0) => Vec::new(),
                Ok(open) => vec![Finding::Alert(Alert::new(
                    "discrepancies_open",
                    Severity::Warning,
                    format!("{open} differences between Stripe and our rows wait for a person"),
                ))],
                Err(error) => {
                    tracing::debug!(%error, "open differences could not be counted");
                    vec![Finding::Alert(Alert::new(
                        "probe_failed",
                        Severity::Warning,
                        "reconciliation could not be looked at",
                    ))]
                }
            }
        })
    }
}
