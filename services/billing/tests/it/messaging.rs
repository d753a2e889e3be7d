//! Messaging, as far as billing asks it: it keeps the limits it is told, refuses what the test says, and can be down.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use mainstay_proto::messaging::v1::client_closing_service_server::ClientClosingService;
use mainstay_proto::messaging::v1::limit_service_server::LimitService;
use mainstay_proto::messaging::v1::{
    ApplyLimitsRequest, ApplyLimitsResponse, CheckLimitsRequest, CheckLimitsResponse, ClientLimits,
    CloseClientRequest, CloseClientResponse, GetLimitsRequest,
};
use mainstay_rpc::{ErrorReason, Problem, open};
use tonic::{Request, Response, Status};

#[derive(Default)]
struct Known {
    stored: HashMap<String, ApplyLimitsRequest>,
    fences: HashMap<String, i64>,
    on_hold: HashMap<String, String>,
    closed: HashMap<String, u32>,
    down: bool,
    turned_away: u32,
}

/// A script of messaging. Clones are the same one.
#[derive(Clone, Default)]
pub struct Messaging {
    known: Arc<Mutex<Known>>,
}

impl Messaging {
    /// The client's sending is put on hold after it was asked whether it is: sales are refused, checks are not.
    pub fn hold(&self, client_id: &str, reason: &str) {
        self.know(|known| {
            known
                .on_hold
                .insert(client_id.to_owned(), reason.to_owned())
        });
    }

    /// From now on it cannot be reached, or can again.
    pub fn set_down(&self, down: bool) {
        self.know(|known| known.down = down);
    }

    /// How many calls met it down.
    pub fn turned_away(&self) -> u32 {
        self.know(|known| known.turned_away)
    }

    /// What stands for a client.
    pub fn stored(&self, client_id: &str) -> Option<ApplyLimitsRequest> {
        self.know(|known| known.stored.get(client_id).cloned())
    }

    /// How often a client was closed.
    pub fn closed(&self, client_id: &str) -> u32 {
        self.know(|known| known.closed.get(client_id).copied().unwrap_or(0))
    }

    fn know<T>(&self, with: impl FnOnce(&mut Known) -> T) -> T {
        with(&mut self.known.lock().expect("no test panics here"))
    }
}

#[tonic::async_trait]
impl ClientClosingService for Messaging {
    async fn close_client(
        &self,
        request: Request<CloseClientRequest>,
    ) -> Result<Response<CloseClientResponse>, Status> {
        let (_, request) = open(request)?;
        self.know(|known| *known.closed.entry(request.client_id).or_default() += 1);
        Ok(Response::new(CloseClientResponse {}))
    }
}

#[tonic::async_trait]
impl LimitService for Messaging {
    async fn apply_limits(
        &self,
        request: Request<ApplyLimitsRequest>,
    ) -> Result<Response<ApplyLimitsResponse>, Status> {
        let (_, request) = open(request)?;
        let answer = self.know(|known| {
            if known.down {
                known.turned_away += 1;
                return Err(Problem::unavailable(std::io::Error::other("down")));
            }
            if let Some(reason) = known.on_hold.get(&request.client_id)
                && request.sale
                && !request.undo
            {
                let detail = format!("Sending is on hold: {reason}.");
                return Err(Problem::new(ErrorReason::SendingOnHold, detail));
            }
            let step = format!("{}/{}", request.saga_id, request.step);
            let highest = known.fences.entry(step).or_default();
            if request.fence < *highest {
                let detail = "A higher fence stands.";
                return Err(Problem::new(ErrorReason::Conflict, detail));
            }
            *highest = request.fence;
            let before = known.stored.get(&request.client_id);
            let stored = before.map_or(0, |stored| stored.version);
            let applied = request.version > stored || (request.undo && request.version == stored);
            let version = request.version.max(stored);
            if applied {
                known.stored.insert(request.client_id.clone(), request);
            }
            Ok(ApplyLimitsResponse { applied, version })
        });
        Ok(Response::new(answer.map_err(Status::from)?))
    }

    async fn check_limits(
        &self,
        request: Request<CheckLimitsRequest>,
    ) -> Result<Response<CheckLimitsResponse>, Status> {
        open(request)?;
        Ok(Response::new(CheckLimitsResponse {}))
    }

    async fn get_limits(
        &self,
        _: Request<GetLimitsRequest>,
    ) -> Result<Response<ClientLimits>, Status> {
        Err(Problem::not_found("limits").into())
    }
}
