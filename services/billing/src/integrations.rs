//! What billing asks of integrations: to park the numbers and addresses of a client that leaves.
//! Deliberately absent: webhooks. Integrations brings those by itself.

use mainstay_proto::integrations::v1::{
    ParkSendersRequest, sender_parking_service_client::SenderParkingServiceClient,
};
use mainstay_rpc::{Channels, Problem, ServiceChannel};
use mainstay_types::ServiceName;

use crate::saga::definition::{Call, Failure};

/// Billing's door to integrations.
#[derive(Debug, Clone)]
pub struct Integrations {
    senders: SenderParkingServiceClient<ServiceChannel>,
}

impl Integrations {
    /// Over these channels.
    pub fn new(channels: &Channels) -> Self {
        let channel = channels.channel(ServiceName::Integrations);
        Self {
            senders: SenderParkingServiceClient::new(channel),
        }
    }

    /// Parks the client's senders, for a saga step; gives how many there are.
    pub(crate) async fn park(&self, call: &Call<'_>) -> Result<i64, Failure> {
        let request = ParkSendersRequest {
            agency_id: call.tenant.agency.to_string(),
            client_id: call.tenant.client.to_string(),
        };
        let mut senders = self.senders.clone();
        match senders.park_senders(request).await {
            Ok(answer) => Ok(answer.into_inner().parked),
            Err(status) => {
                let problem = Problem::from_status(&status);
                Err(Failure::new(format!("integrations answered {problem}")))
            }
        }
    }
}
