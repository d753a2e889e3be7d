//! Owns the passing of time: what falls due is seen to, in the order of time, each in a transaction of its own.
//!
//! Deliberately absent: what any object does when its time has come. Its provider knows.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::core::Core;
use crate::store::{Origin, Record, Tx};
use crate::{resend, sendgrid, stripe, twilio};

/// What falls due by the passing of real time is seen to within this long even if nobody calls.
const PULSE: Duration = Duration::from_secs(1);

pub(crate) async fn keep(core: Arc<Core>, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = stopped.changed() => return,
            // Something was left to be done at once, after the answer to whoever caused it.
            () = core.due.notified() => catch_up(&core),
            () = tokio::time::sleep(PULSE) => catch_up(&core),
        }
    }
}

/// Does everything that is due by now.
pub(crate) fn catch_up(core: &Core) {
    while core
        .read(|world| world.next_due(None, world.now()))
        .is_some()
    {
        let committed = core.commit(|world| {
            // Looked up again under the lock: a request may have got there first.
            let Some((at, kind, id)) = world.next_due(None, world.now()) else {
                return (Record::default(), ());
            };
            let origin = Origin {
                operation: "clock.advance".to_owned(),
                ..Origin::default()
            };
            let mut tx = Tx::new(world, at, origin);
            match kind.split_once('.') {
                Some((twilio::NAME, _)) => twilio::due(&mut tx, &kind, &id),
                Some((resend::NAME, _)) => resend::due(&mut tx, &id),
                Some((sendgrid::NAME, _)) => sendgrid::due(&mut tx, &id),
                _ => stripe::due(&mut tx, &kind, &id),
            }
            (tx.into_record(), ())
        });
        if let Err(error) = committed {
            tracing::error!(%error, "the simulators' journal cannot be written; time stands still");
            return;
        }
    }
}
