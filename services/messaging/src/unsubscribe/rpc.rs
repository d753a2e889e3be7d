//! `UnsubscribeService`, from the gateway alone.
//! Deliberately absent: an answer that says whose the link is.

use mainstay_proto::messaging::v1 as proto;
use mainstay_proto::messaging::v1::unsubscribe_service_server::UnsubscribeService;
use mainstay_rpc::{Problem, open};
use tonic::{Request, Response, Status};

use crate::Messaging;

#[tonic::async_trait]
impl UnsubscribeService for Messaging {
    async fn check_unsubscribe_link(
        &self,
        request: Request<proto::CheckUnsubscribeLinkRequest>,
    ) -> Result<Response<proto::CheckUnsubscribeLinkResponse>, Status> {
        let (_, request) = open(request)?;
        super::check(self, &request.token)
            .await
            .map_err(Problem::from)?;
        Ok(Response::new(proto::CheckUnsubscribeLinkResponse {}))
    }

    async fn unsubscribe(
        &self,
        request: Request<proto::UnsubscribeRequest>,
    ) -> Result<Response<proto::UnsubscribeResponse>, Status> {
        let (_, request) = open(request)?;
        super::unsubscribe(self, &request.token)
            .await
            .map_err(Problem::from)?;
        Ok(Response::new(proto::UnsubscribeResponse {}))
    }
}
