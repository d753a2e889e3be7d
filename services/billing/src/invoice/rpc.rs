//! Invoices over gRPC.
//! Deliberately absent: lines and PDF; they come with BIL-54.

use mainstay_db::{Database, page::PageRequest};
use mainstay_proto::billing::v1::{
    Invoice as ProtoInvoice, InvoiceStatus as ProtoStatus, ListInvoicesRequest,
    ListInvoicesResponse, invoice_service_server::InvoiceService,
};
use mainstay_rpc::open;
use mainstay_types::{ClientId, InvoiceId};
use tonic::{Request, Response, Status};

use super::{Invoice, InvoiceStatus, sql};
use crate::wire::{database_problem, money, page_problem, timestamp};

/// Serves invoices.
#[derive(Debug)]
pub struct InvoiceRpc {
    database: Database,
}

impl InvoiceRpc {
    /// On this database.
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

#[tonic::async_trait]
impl InvoiceService for InvoiceRpc {
    async fn list_invoices(
        &self,
        request: Request<ListInvoicesRequest>,
    ) -> Result<Response<ListInvoicesResponse>, Status> {
        let (ctx, request) = open(request)?;
        let page = PageRequest::<InvoiceId>::new(
            "billing.invoices",
            request.page_size,
            request.page_token.as_deref(),
        )
        .map_err(page_problem)?;
        let tenant = ctx.tenant();
        let mut tx = self
            .database
            .tenant(tenant)
            .await
            .map_err(database_problem)?;
        let rows = sql::list(tx.conn(), tenant, page.after().copied(), page.limit())
            .await
            .map_err(database_problem)?;
        let page = page
            .page(rows, |invoice| invoice.id)
            .map(|invoice| proto(tenant.client, invoice));
        Ok(Response::new(ListInvoicesResponse {
            data: page.rows,
            next_page_token: page.next_page_token,
        }))
    }
}

fn proto(client: ClientId, invoice: Invoice) -> ProtoInvoice {
    let status = match invoice.status {
        InvoiceStatus::Draft => ProtoStatus::Draft,
        InvoiceStatus::Open => ProtoStatus::Open,
        InvoiceStatus::Uncollectible => ProtoStatus::Uncollectible,
        InvoiceStatus::Void => ProtoStatus::Void,
        InvoiceStatus::Paid => ProtoStatus::Paid,
    };
    ProtoInvoice {
        id: Some(invoice.id.to_string()),
        client_id: Some(client.to_string()),
        subscription_id: invoice.subscription_id.map(|id| id.to_string()),
        stripe_invoice_id: Some(invoice.stripe_invoice_id),
        status: Some(status.into()),
        amount_due: Some(money(invoice.amount_due)),
        amount_paid: Some(money(invoice.amount_paid)),
        period_start_at: invoice.period_start_at.map(timestamp),
        period_end_at: invoice.period_end_at.map(timestamp),
        paid_at: invoice.paid_at.map(timestamp),
        created_at: Some(timestamp(invoice.created_at)),
    }
}
