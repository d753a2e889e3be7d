//! Payments over gRPC, with what was given back of each.
//! Deliberately absent: giving back; that is a request of its own (BIL-52).

use mainstay_db::{Database, page::PageRequest};
use mainstay_proto::billing::v1::{
    ListPaymentsRequest, ListPaymentsResponse, Payment as ProtoPayment,
    PaymentStatus as ProtoStatus, Refund as ProtoRefund, RefundStatus as ProtoRefundStatus,
    payment_service_server::PaymentService,
};
use mainstay_rpc::open;
use mainstay_types::{ClientId, Money, PaymentId};
use tonic::{Request, Response, Status};

use super::{Payment, PaymentStatus, sql};
use crate::refund::{self, Refund, RefundStatus};
use crate::wire::{database_problem, money, page_problem, timestamp};

/// Serves payments.
#[derive(Debug)]
pub struct PaymentRpc {
    database: Database,
}

impl PaymentRpc {
    /// On this database.
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

#[tonic::async_trait]
impl PaymentService for PaymentRpc {
    async fn list_payments(
        &self,
        request: Request<ListPaymentsRequest>,
    ) -> Result<Response<ListPaymentsResponse>, Status> {
        let (ctx, request) = open(request)?;
        let page = PageRequest::<PaymentId>::new(
            "billing.payments",
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
        let page = page.page(rows, |payment| payment.id);
        let shown: Vec<PaymentId> = page.rows.iter().map(|payment| payment.id).collect();
        let refunds = refund::sql::of_payments(tx.conn(), tenant, &shown)
            .await
            .map_err(database_problem)?;
        let page = page.map(|payment| {
            let of = refunds
                .iter()
                .filter(|refund| refund.payment_id == payment.id);
            proto(tenant.client, &payment, of)
        });
        Ok(Response::new(ListPaymentsResponse {
            data: page.rows,
            next_page_token: page.next_page_token,
        }))
    }
}

fn proto<'a>(
    client: ClientId,
    payment: &Payment,
    refunds: impl Iterator<Item = &'a Refund>,
) -> ProtoPayment {
    let status = match payment.status {
        PaymentStatus::RequiresPaymentMethod => ProtoStatus::RequiresPaymentMethod,
        PaymentStatus::RequiresConfirmation => ProtoStatus::RequiresConfirmation,
        PaymentStatus::RequiresAction => ProtoStatus::RequiresAction,
        PaymentStatus::RequiresCapture => ProtoStatus::RequiresCapture,
        PaymentStatus::Processing => ProtoStatus::Processing,
        PaymentStatus::Succeeded => ProtoStatus::Succeeded,
        PaymentStatus::Failed => ProtoStatus::Failed,
        PaymentStatus::Canceled => ProtoStatus::Canceled,
    };
    let of = |minor: i64| Some(money(Money::new(minor, payment.amount.currency)));
    ProtoPayment {
        id: Some(payment.id.to_string()),
        client_id: Some(client.to_string()),
        invoice_id: payment.invoice_id.map(|id| id.to_string()),
        stripe_payment_id: Some(payment.stripe_id.clone()),
        stripe_charge_id: payment.stripe_charge_id.clone(),
        status: Some(status.into()),
        amount: Some(money(payment.amount)),
        amount_captured: of(payment.captured_minor),
        amount_refunded: of(payment.refunded_minor),
        disputed: Some(payment.disputed),
        failure_code: payment.failure_code.clone(),
        failure_message: payment.failure_message.clone(),
        refunds: refunds.map(refunded).collect(),
        charged_at: payment.charged_at.map(timestamp),
        created_at: Some(timestamp(payment.created_at)),
    }
}

fn refunded(refund: &Refund) -> ProtoRefund {
    let status = match refund.status {
        RefundStatus::Pending => ProtoRefundStatus::Pending,
        RefundStatus::RequiresAction => ProtoRefundStatus::RequiresAction,
        RefundStatus::Succeeded => ProtoRefundStatus::Succeeded,
        RefundStatus::Failed => ProtoRefundStatus::Failed,
        RefundStatus::Canceled => ProtoRefundStatus::Canceled,
    };
    ProtoRefund {
        id: Some(refund.id.to_string()),
        stripe_refund_id: Some(refund.stripe_refund_id.clone()),
        status: Some(status.into()),
        amount: Some(money(refund.amount)),
        reason: refund.reason.clone(),
        failure_reason: refund.failure_reason.clone(),
        created_at: Some(timestamp(refund.created_at)),
    }
}
