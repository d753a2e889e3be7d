//! `FormSubmissionService`: protobuf to questions and back.
//! Deliberately absent: authorisation. The stack has done it before a handler runs.

use mainstay_db::page::PageRequest;
use mainstay_proto::messaging::v1 as proto;
use mainstay_proto::messaging::v1::form_submission_service_server::FormSubmissionService;
use mainstay_rpc::{field, open};
use mainstay_types::ClientId;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Filter, FormSubmission};
use crate::Messaging;
use crate::wire::page_problem;

#[tonic::async_trait]
impl FormSubmissionService for Messaging {
    async fn list_form_submissions(
        &self,
        request: Request<proto::ListFormSubmissionsRequest>,
    ) -> Result<Response<proto::ListFormSubmissionsResponse>, Status> {
        let (ctx, request) = open(request)?;
        let tenant = ctx.tenant();
        let lead = request.lead_id.as_deref();
        let filter = Filter {
            lead: lead.map(|id| field::id("lead_id", id)).transpose()?,
        };
        let page: PageRequest<Uuid> = PageRequest::new(
            "messaging.form_submissions",
            request.page_size,
            request.page_token.as_deref(),
        )
        .map_err(page_problem)?;
        let page = super::page(self, tenant, filter, page).await?;
        let data = page.rows.into_iter();
        Ok(Response::new(proto::ListFormSubmissionsResponse {
            data: data.map(|row| answer(tenant.client, row)).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn get_form_submission(
        &self,
        request: Request<proto::GetFormSubmissionRequest>,
    ) -> Result<Response<proto::FormSubmission>, Status> {
        let (ctx, request) = open(request)?;
        let tenant = ctx.tenant();
        let id = field::id("form_submission_id", &request.form_submission_id)?;
        let found = super::get(self, tenant, id).await?;
        Ok(Response::new(answer(tenant.client, found)))
    }
}

fn answer(client: ClientId, submission: FormSubmission) -> proto::FormSubmission {
    let fields = submission.fields.into_iter();
    let problems = submission.problems.into_iter();
    proto::FormSubmission {
        id: Some(submission.id.to_string()),
        client_id: Some(client.to_string()),
        form_endpoint_id: Some(submission.endpoint.to_string()),
        lead_id: submission.lead.map(|lead| lead.to_string()),
        fields: fields
            .map(|field| proto::SubmittedField {
                name: Some(field.name),
                value: Some(field.value),
            })
            .collect(),
        problems: problems
            .map(|problem| proto::SubmittedProblem {
                field: Some(problem.field),
                message: Some(problem.message),
            })
            .collect(),
        submitted_at: Some(field::timestamp(submission.submitted_at)),
    }
}
