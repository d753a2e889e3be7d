//! What people do with a parked saga (BIL-21): try it again, say what came of the step with evidence, or give it up. One
//! decision takes the saga, all others are told; each is audited, also the one that came too late.
//! Deliberately absent: trust. Evidence is verified where the step left its effect, before anything is written.

use mainstay_jobs::audit::{self, AuditRecord};
use mainstay_rpc::ErrorReason;
use mainstay_types::SagaId;
use serde_json::{Value, json};

use super::{Direction, Engine, Error, Leased, Started};
use crate::history::{self, By};
use crate::repeat::{Begun, Repeat, RepeatError};
use crate::saga::definition::{Call, Definition, Probed, Refusal, Stop};
use crate::saga::log::{self, Decision};
use crate::saga::rpc::answer;
use crate::subscription::sql as accounts;

/// What an operator decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Try the step again, with a whole new budget.
    Retry,
    /// The step was done.
    Done {
        /// The id of what it left, where it leaves something.
        evidence: Option<String>,
    },
    /// The step was not done, and is not to be: undo the rest.
    NotDone,
    /// Leave the other side as it is; give back what the saga holds here.
    Abandon,
}

impl Verdict {
    fn decision(&self) -> Decision {
        match self {
            Verdict::Retry => Decision::Retry,
            Verdict::Done { .. } => Decision::ResolveDone,
            Verdict::NotDone => Decision::ResolveNotDone,
            Verdict::Abandon => Decision::Abandon,
        }
    }
}

/// Why a decision does not stand.
#[derive(Debug, thiserror::Error)]
pub enum DecisionError {
    /// There is no such saga.
    #[error("there is no such saga")]
    NotFound,
    /// It is not parked, or not any more.
    #[error("the saga is {state}, not parked")]
    NotParked {
        /// Where it stands.
        state: String,
        /// Who decided last.
        decided_by: Option<String>,
    },
    /// What was said of the step could not be verified.
    #[error("{0}")]
    Unverified(String),
    /// This coordinator does not know the definition.
    #[error("this release does not know the saga's definition")]
    Unknown,
    /// The Idempotency-Key says no.
    #[error(transparent)]
    Repeat(#[from] RepeatError),
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] Error),
}

impl Engine {
    /// Decides on a parked saga of the agency, and gives the answer, which is made where the decision is written and kept for
    /// repeats. The caller has seen that it may see the saga.
    ///
    /// # Errors
    /// See [`DecisionError`]; nothing was changed then.
    pub async fn decide(
        &self,
        id: SagaId,
        verdict: &Verdict,
        note: &str,
        by: &By,
        repeat: &Repeat,
    ) -> Result<Vec<u8>, DecisionError> {
        let mut worker = self.inner.worker.connection().await?;
        if let Begun::Before(answer) = repeat.find(worker.conn(), by).await? {
            return Ok(answer);
        }
        let parked = log::find(worker.conn(), id).await?;
        let parked = parked.ok_or(DecisionError::NotFound)?;
        let state = log::decided(worker.conn(), id).await?;
        drop(worker);
        if state.is_none_or(|(state, _)| state != "parked") {
            return Err(self.too_late(&parked, verdict.decision(), note, by).await?);
        }
        let definition = self.definition(&parked).ok_or(DecisionError::Unknown)?;
        let known = self.establish(&definition, &parked, verdict).await?;

        let mut tx = self.inner.worker.tenant(parked.tenant).await?;
        if let Begun::Before(answer) = repeat.begin(tx.conn(), by).await? {
            return Ok(answer);
        }
        let (owner, lease) = (self.inner.owner, self.inner.limits.lease);
        let decision = verdict.decision();
        // Before the saga's row, as everywhere.
        accounts::lock_account(tx.conn(), parked.tenant).await?;
        let claimed =
            log::claim_parked(tx.conn(), owner, lease, id, decision, &by.principal).await?;
        let Some(mut saga) = claimed else {
            drop(tx);
            return Err(self.too_late(&parked, decision, note, by).await?);
        };
        let mut follower = None;
        if *verdict == Verdict::Abandon {
            follower = self
                .give_up(&mut tx, &definition, &mut saga, note, by)
                .await?;
        }
        audit(tx.conn(), &saga, decision, note, by, "decided").await?;
        history::saga_decided(
            tx.conn(),
            by,
            saga.tenant,
            (id, saga.fence),
            decision.as_str(),
        )
        .await?;
        let answer = answer(tx.conn(), by.agency, id).await?;
        repeat.store(tx.conn(), by, answer.clone()).await?;
        tx.commit().await?;
        tracing::warn!(saga = %id, decision = decision.as_str(), by = by.principal, note, "an operator decided on a parked saga");
        match verdict {
            Verdict::Abandon => {
                if let Some(follower) = follower {
                    self.launch(follower);
                }
            }
            _ => self.spawn(saga, known, None),
        }
        Ok(answer)
    }

    /// Verifies what the verdict says of the step, outside any transaction.
    async fn establish(
        &self,
        definition: &Definition,
        parked: &Leased,
        verdict: &Verdict,
    ) -> Result<Option<Result<Value, Stop>>, DecisionError> {
        let Some(step) = definition.steps.get(parked.position) else {
            return Err(DecisionError::Unknown);
        };
        let call = self.call(parked, step.name());
        match (verdict, parked.direction) {
            (Verdict::Retry | Verdict::Abandon, _) => Ok(None),
            (Verdict::Done { evidence }, Direction::Do) => {
                let verified = step.verify(&call, evidence.as_deref()).await;
                Ok(Some(Ok(verified.map_err(DecisionError::Unverified)?)))
            }
            // An undoing leaves nothing; whoever settled it by hand is believed, and audited.
            (Verdict::Done { .. }, Direction::Undo) => Ok(Some(Ok(Value::Null))),
            (Verdict::NotDone, Direction::Undo) => Err(DecisionError::Unverified(
                "what is not undone has to be: retry it, settle it by hand and say `done`, or abandon the saga".into(),
            )),
            (Verdict::NotDone, Direction::Do) => {
                match self.guard(step.probe(&call)).await {
                    Ok(Probed::Done(_)) => {
                        return Err(DecisionError::Unverified(
                            "it was looked for and is done: say `done`, or retry".into(),
                        ));
                    }
                    Ok(Probed::NotDone | Probed::Unknowable) => {}
                    Err(_) => {
                        return Err(DecisionError::Unverified(
                            "it could not be looked for now; try again".into(),
                        ));
                    }
                }
                Ok(Some(Err(Refusal::new(
                    ErrorReason::ProviderRefused,
                    "It could not be carried out, and was undone. Nothing is charged; it can be tried again.",
                )
                .into())))
            }
        }
    }

    /// Gives back what the saga holds in our own rows, and ends it. What stands elsewhere stays; reconciliation reports it.
    async fn give_up(
        &self,
        tx: &mut mainstay_db::TenantTx,
        definition: &Definition,
        saga: &mut Leased,
        note: &str,
        by: &By,
    ) -> Result<Option<Started>, DecisionError> {
        let refusal = Refusal::new(
            ErrorReason::ProviderRefused,
            "It could not be carried out; your agency settles what is left of it by hand.",
        );
        saga.refusal.get_or_insert(refusal);
        let not_undone = match saga.direction {
            Direction::Do => 0..saga.position,
            Direction::Undo => 0..saga.position + 1,
        };
        saga.direction = Direction::Undo;
        for position in not_undone.rev() {
            let step = definition.steps[position].as_ref();
            if !step.undoable() || !step.records_undo() {
                continue;
            }
            let call = self.call(saga, step.name());
            step.record_undo(tx, &call).await.map_err(|stop| {
                DecisionError::Unverified(format!("it cannot be given up now: {stop:?}"))
            })?;
        }
        let refusal = saga
            .refusal
            .as_ref()
            .and_then(|kept| serde_json::to_value(kept).ok());
        let ended = log::abandon(tx.conn(), self.lease(saga), refusal, note).await?;
        if !ended {
            return Err(DecisionError::NotFound);
        }
        match definition.followed_by {
            None => Ok(None),
            Some(next) => {
                let id = SagaId::generate();
                let started = self
                    .start(tx.conn(), saga.tenant, next, id, &saga.input)
                    .await?;
                tracing::info!(saga = %saga.id, follower = %id, by = by.principal, "others are told what stands");
                Ok(Some(started))
            }
        }
    }

    /// Whoever comes too late is told who was first, and that too is on record.
    async fn too_late(
        &self,
        parked: &Leased,
        decision: Decision,
        note: &str,
        by: &By,
    ) -> Result<DecisionError, DecisionError> {
        let mut tx = self.inner.worker.tenant(parked.tenant).await?;
        let Some((state, decided_by)) = log::decided(tx.conn(), parked.id).await? else {
            return Ok(DecisionError::NotFound);
        };
        audit(tx.conn(), parked, decision, note, by, "too_late").await?;
        tx.commit().await?;
        Ok(DecisionError::NotParked { state, decided_by })
    }

    pub(super) fn call<'a>(&self, saga: &'a Leased, step: &'static str) -> Call<'a> {
        Call {
            saga: saga.id,
            tenant: saga.tenant,
            step,
            direction: saga.direction,
            fence: saga.fence,
            attempt: saga.attempt,
            intended_for: saga.intended_for,
            now: self.inner.clock.now(),
            refusal: saga.refusal.as_ref(),
            input: &saga.input,
            outputs: &saga.outputs,
        }
    }
}

async fn audit(
    conn: &mut sqlx::PgConnection,
    saga: &Leased,
    decision: Decision,
    note: &str,
    by: &By,
    outcome: &str,
) -> Result<(), Error> {
    let action = match decision {
        Decision::Retry => "billing.saga.retry",
        Decision::ResolveDone | Decision::ResolveNotDone => "billing.saga.resolve",
        Decision::Abandon => "billing.saga.abandon",
    };
    let record = AuditRecord {
        agency: saga.tenant.agency,
        client: Some(saga.tenant.client),
        actor: &by.principal,
        action,
        target_type: "saga",
        target_id: &saga.id.to_string(),
        before: Some(json!({
            "definition": saga.definition,
            "direction": saga.direction.as_str(),
            "position": saga.position,
        })),
        after: Some(json!({ "decision": decision.as_str(), "note": note, "outcome": outcome })),
        request_id: by.request_id.as_deref(),
        occurred_at: by.now,
    };
    audit::record(conn, &record).await?;
    Ok(())
}
