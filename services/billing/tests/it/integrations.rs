//! Integrations, as far as billing asks it: it parks what it is told to, and keeps whose.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use mainstay_proto::integrations::v1::sender_parking_service_server::SenderParkingService;
use mainstay_proto::integrations::v1::{ParkSendersRequest, ParkSendersResponse};
use mainstay_rpc::open;
use tonic::{Request, Response, Status};

/// A script of integrations. Clones are the same one.
#[derive(Clone, Default)]
pub struct Integrations {
    parked: Arc<Mutex<HashMap<String, u32>>>,
}

impl Integrations {
    /// How often a client's senders were parked.
    pub fn parked(&self, client_id: &str) -> u32 {
        let parked = self.parked.lock().expect("no test panics here");
        parked.get(client_id).copied().unwrap_or(0)
    }
}

#[tonic::async_trait]
impl SenderParkingService for Integrations {
    async fn park_senders(
        &self,
        request: Request<ParkSendersRequest>,
    ) -> Result<Response<ParkSendersResponse>, Status> {
        let (_, request) = open(request)?;
        let mut parked = self.parked.lock().expect("no test panics here");
        *parked.entry(request.client_id).or_default() += 1;
        Ok(Response::new(ParkSendersResponse { parked: 1 }))
    }
}
