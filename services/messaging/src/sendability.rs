//! The gate, asked: how an address stands, the decision, and why.
//! Deliberately absent: a permit. What is allowed here is asked again when a message is let go.

mod rpc;

pub(crate) use rpc::{answer, purpose, time};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use mainstay_types::Tenant;

use crate::Messaging;
use crate::address::Address;
use crate::gate::places::{self, Certainty, Place};
use crate::gate::{Channel, Decision, Purpose, decide};
use crate::standing::{self, Asked, Standing};

/// What would be sent to whom, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// To whom.
    pub address: Address,
    /// How.
    pub channel: Channel,
    /// What for.
    pub purpose: Purpose,
    /// Where the person is, if that is known.
    pub zone: Option<Tz>,
    /// In which state, if that is known.
    pub state: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
}

/// The decision and what it rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The decision.
    pub decision: Decision,
    /// Where the person may be.
    pub places: Vec<Place>,
    /// How that is known.
    pub certainty: Certainty,
}

/// Asks the gate. It always answers: a database that does not is a no as well, and says when to ask again.
pub async fn explain(messaging: &Messaging, tenant: Tenant, question: &Question) -> Explanation {
    let phone = question
        .address
        .is_phone()
        .then(|| question.address.as_str());
    let (places, certainty) = places::plausible(&places::Known {
        zone: question.zone,
        state: question.state.as_deref(),
        phone,
        sender: None,
    });
    let found = find(messaging, tenant, question).await;
    let row = found.as_ref().map_err(String::clone);
    let facts = standing::facts(row, places.clone());
    Explanation {
        decision: decide(&facts, question.purpose, question.channel, question.at),
        places,
        certainty,
    }
}

async fn find(
    messaging: &Messaging,
    tenant: Tenant,
    question: &Question,
) -> Result<Standing, String> {
    let asked = Asked {
        channel: question.channel,
        address: question.address.clone(),
        message: None,
    };
    let now = messaging.clock.now();
    let opened = messaging.database.tenant(tenant).await;
    let mut tx = opened.map_err(|error| error.to_string())?;
    // Read only: left to roll back.
    let found = standing::find_in_time(tx.conn(), tenant, &[asked], now).await?;
    let found = found.into_iter().next();
    found.ok_or_else(|| "no row".to_owned())
}
