"""The official `stripe` library against the Stripe simulator.

    stripe_sim_test.py --base-url http://127.0.0.1:12111

Owns what the library's users rely on: keys, errors, lists, webhooks, and that it reads what the simulator answers.
Deliberately absent: anything that the Rust tests of the simulator say better, such as restarts and arithmetic.
"""

import argparse
import json
import queue
import sys
import threading
import unittest
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import stripe

BASE = ""


def control(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"{BASE}/_{path}", data=data, method=method, headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def fault(**fields):
    control("POST", "/faults", {"provider": "stripe", **fields})


def key():
    return str(uuid.uuid4())


class StripeTest(unittest.TestCase):
    def setUp(self):
        self.addCleanup(control, "DELETE", "/faults")

    def customer(self, card="pm_card_visa"):
        customer = stripe.Customer.create(name="Acme Roofing", email="owner@acme.test")
        method = stripe.PaymentMethod.attach(card, customer=customer.id)
        return stripe.Customer.modify(customer.id, invoice_settings={"default_payment_method": method.id})

    def price(self, amount=99700):
        return stripe.Price.create(
            currency="usd", unit_amount=amount, recurring={"interval": "month"}, product_data={"name": "Pro"}
        )


class Keys(StripeTest):
    def test_the_same_key_replays_the_first_answer(self):
        used = key()
        first = stripe.Customer.create(email="a@acme.test", idempotency_key=used)
        again = stripe.Customer.create(email="a@acme.test", idempotency_key=used)
        self.assertEqual(first.id, again.id)
        self.assertEqual(again.last_response.headers["Idempotent-Replayed"], "true")
        self.assertNotIn("Idempotent-Replayed", first.last_response.headers)

    def test_a_500_is_stored_and_replayed(self):
        used = key()
        fault(operation="customers.create", kind="status", value=500, count=1)
        with self.assertRaises(stripe.APIError) as first:
            stripe.Customer.create(email="b@acme.test", idempotency_key=used)
        self.assertEqual(first.exception.http_status, 500)
        with self.assertRaises(stripe.APIError) as again:
            stripe.Customer.create(email="b@acme.test", idempotency_key=used)
        self.assertEqual(again.exception.http_status, 500)
        self.assertEqual(again.exception.headers["Idempotent-Replayed"], "true")
        self.assertEqual(list(stripe.Customer.list(email="b@acme.test").auto_paging_iter()), [])
        self.assertTrue(stripe.Customer.create(email="b@acme.test", idempotency_key=key()).id.startswith("cus_"))

    def test_other_parameters_are_refused(self):
        used = key()
        stripe.Customer.create(email="c@acme.test", idempotency_key=used)
        with self.assertRaises(stripe.IdempotencyError) as refused:
            stripe.Customer.create(email="d@acme.test", idempotency_key=used)
        self.assertEqual(refused.exception.http_status, 400)

    def test_a_key_in_use_is_409(self):
        used, answers = key(), queue.Queue()
        fault(operation="customers.create", kind="latency", value=600_000, count=1)
        slow = threading.Thread(
            target=lambda: answers.put(stripe.Customer.create(email="e@acme.test", idempotency_key=used)), daemon=True
        )
        slow.start()
        while control("GET", "/faults")["data"][0]["fired"] == 0:
            pass
        with self.assertRaises(stripe.APIError) as refused:
            stripe.Customer.create(email="e@acme.test", idempotency_key=used)
        self.assertEqual((refused.exception.http_status, refused.exception.error.code), (409, "idempotency_key_in_use"))
        control("DELETE", "/faults")
        self.assertEqual(answers.get(timeout=60).email, "e@acme.test")
        slow.join()


class Reading(StripeTest):
    def test_lists_page_without_loss(self):
        email = f"{key()}@acme.test"
        made = [stripe.Customer.create(email=email).id for _ in range(23)]
        listed = [customer.id for customer in stripe.Customer.list(email=email, limit=5).auto_paging_iter()]
        self.assertEqual(listed, made[::-1])
        middle = stripe.Customer.list(email=email, limit=5, ending_before=made[0])
        self.assertEqual([c.id for c in middle.auto_paging_iter()], made[1:])

    def test_search_finds_metadata(self):
        mark = key()
        made = stripe.Customer.create(metadata={"mainstay_client_id": mark})
        found = stripe.Customer.search(query=f"metadata['mainstay_client_id']:'{mark}'")
        self.assertEqual([customer.id for customer in found.auto_paging_iter()], [made.id])

    def test_errors_have_their_classes(self):
        with self.assertRaises(stripe.InvalidRequestError) as missing:
            stripe.Customer.retrieve("cus_none")
        self.assertEqual((missing.exception.http_status, missing.exception.code), (404, "resource_missing"))
        with self.assertRaises(stripe.InvalidRequestError) as unknown:
            stripe.Customer.create(emial="x")
        self.assertEqual((unknown.exception.code, unknown.exception.param), ("parameter_unknown", "emial"))
        with self.assertRaises(stripe.AuthenticationError):
            stripe.Customer.list(api_key="sk_live_never")
        fault(operation="customers.list", kind="status", value=429, count=1)
        with self.assertRaises(stripe.RateLimitError):
            stripe.Customer.list()


class Money(StripeTest):
    def test_a_declined_card_is_a_card_error(self):
        customer = stripe.Customer.create()
        with self.assertRaises(stripe.CardError) as declined:
            stripe.PaymentMethod.attach("pm_card_chargeDeclined", customer=customer.id)
        self.assertEqual(declined.exception.code, "card_declined")
        self.assertEqual(declined.exception.error.decline_code, "generic_decline")
        with self.assertRaises(stripe.CardError):
            stripe.PaymentIntent.create(
                amount=1000, currency="usd", payment_method="pm_card_chargeDeclinedInsufficientFunds", confirm=True
            )

    def test_a_subscription_is_paid_refunded_and_canceled(self):
        customer, price = self.customer(), self.price()
        made = stripe.Subscription.create(
            customer=customer.id,
            items=[{"price": price.id, "quantity": 1}],
            metadata={"mainstay_saga_id": "saga_1"},
            expand=["latest_invoice.payments", "latest_invoice.confirmation_secret"],
        )
        self.assertEqual(made.status, "active")
        self.assertEqual(made.latest_invoice.status, "paid")
        self.assertTrue(made.latest_invoice.confirmation_secret.client_secret.startswith("pi_"))
        self.assertGreater(made["items"].data[0].current_period_end, made.created)
        intent = made.latest_invoice.payments.data[0].payment.payment_intent
        refund = stripe.Refund.create(payment_intent=intent, amount=700)
        self.assertEqual(refund.status, "succeeded")
        with self.assertRaises(stripe.InvalidRequestError):
            stripe.Refund.create(payment_intent=intent, amount=99001)
        self.assertEqual(stripe.Subscription.cancel(made.id).status, "canceled")
        ledger = control("GET", "/stripe/ledger")
        charges = [charge for charge in ledger["charges"] if charge["customer"] == customer.id]
        self.assertEqual([(c["amount"], c["amount_refunded"]) for c in charges], [(99700, 700)])

    def test_error_if_incomplete_makes_nothing(self):
        customer, price = self.customer("pm_card_chargeCustomerFail"), self.price()
        with self.assertRaises(stripe.CardError):
            stripe.Subscription.create(
                customer=customer.id, items=[{"price": price.id}], payment_behavior="error_if_incomplete"
            )
        self.assertEqual(stripe.Subscription.list(customer=customer.id, status="all").data, [])


    def test_a_coupon_is_on_the_invoice(self):
        customer, price = self.customer(), self.price(10_000)
        coupon = stripe.Coupon.create(id=key(), percent_off=20, duration="forever", max_redemptions=1)
        made = stripe.Subscription.create(
            customer=customer.id,
            items=[{"price": price.id}],
            discounts=[{"coupon": coupon.id}],
            expand=["latest_invoice", "discounts"],
        )
        invoice = made.latest_invoice
        self.assertEqual((invoice.subtotal, invoice.total, invoice.amount_paid), (10_000, 8_000, 8_000))
        self.assertEqual([amount.amount for amount in invoice.total_discount_amounts], [2_000])
        self.assertEqual(made.discounts[0].source.coupon, coupon.id)
        with self.assertRaises(stripe.InvalidRequestError) as exhausted:
            stripe.Subscription.create(
                customer=customer.id, items=[{"price": price.id}], discounts=[{"coupon": coupon.id}]
            )
        self.assertEqual(exhausted.exception.code, "coupon_expired")

    def test_collection_is_paused_and_goes_on(self):
        customer, price = self.customer(), self.price()
        made = stripe.Subscription.create(customer=customer.id, items=[{"price": price.id}])
        paused = stripe.Subscription.modify(made.id, pause_collection={"behavior": "void"})
        self.assertEqual((paused.status, paused.pause_collection.behavior), ("active", "void"))
        self.assertIsNone(stripe.Subscription.modify(made.id, pause_collection="").pause_collection)

    def test_the_holder_confirms_with_his_bank(self):
        intent = stripe.PaymentIntent.create(amount=1000, currency="usd")
        waiting = stripe.PaymentIntent.confirm(
            intent.id, payment_method="pm_card_authenticationRequired", return_url="https://app.acme.test/back"
        )
        self.assertEqual((waiting.status, waiting.next_action.type), ("requires_action", "redirect_to_url"))
        control("POST", f"/stripe/payment_intents/{intent.id}/authenticate", {"succeed": False})
        failed = stripe.PaymentIntent.retrieve(intent.id)
        self.assertEqual(failed.last_payment_error.code, "payment_intent_authentication_failure")
        stripe.PaymentIntent.confirm(intent.id, payment_method="pm_card_authenticationRequired")
        control("POST", f"/stripe/payment_intents/{intent.id}/authenticate", {"succeed": True})
        self.assertEqual(stripe.PaymentIntent.retrieve(intent.id).status, "succeeded")

    def test_a_dispute_is_answered_with_evidence(self):
        intent = stripe.PaymentIntent.create(
            amount=1000, currency="usd", payment_method="pm_card_createDispute", confirm=True
        )
        dispute = stripe.Dispute.list(payment_intent=intent.id).data[0]
        self.assertEqual((dispute.status, dispute.charge), ("needs_response", intent.latest_charge))
        won = stripe.Dispute.modify(dispute.id, evidence={"uncategorized_text": "winning_evidence"})
        self.assertEqual(won.status, "won")
        self.assertTrue(stripe.Charge.retrieve(intent.latest_charge).disputed)

    def test_a_checkout_session_is_completed_by_its_payer(self):
        session = stripe.checkout.Session.create(
            mode="subscription",
            line_items=[{"price": self.price().id, "quantity": 1}],
            success_url="https://app.acme.test/ok",
            subscription_data={"metadata": {"mainstay_client_id": "c"}},
        )
        control(
            "POST",
            f"/stripe/checkout_sessions/{session.id}/complete",
            {"payment_method": "pm_card_visa", "email": "payer@acme.test", "name": "Payer"},
        )
        done = stripe.checkout.Session.retrieve(session.id, expand=["subscription", "line_items"])
        self.assertEqual((done.status, done.payment_status), ("complete", "paid"))
        self.assertEqual(done.subscription.metadata["mainstay_client_id"], "c")
        self.assertEqual(done.customer_details.email, "payer@acme.test")
        open_one = stripe.checkout.Session.create(
            mode="setup", currency="usd", success_url="https://app.acme.test/ok"
        )
        self.assertEqual(stripe.checkout.Session.expire(open_one.id).status, "expired")
        link = stripe.PaymentLink.create(line_items=[{"price": self.price().id, "quantity": 1}])
        opened = control("POST", f"/stripe/payment_links/{link.id}/open", {})
        self.assertEqual(stripe.checkout.Session.retrieve(opened["id"]).payment_link, link.id)


class Time(StripeTest):
    def test_a_test_clock_renews_what_lives_by_it(self):
        start, month = 1_700_000_000, 31 * 86_400
        clock = stripe.test_helpers.TestClock.create(frozen_time=start, name="renewals")
        customer = stripe.Customer.create(test_clock=clock.id, payment_method="pm_card_visa")
        card = customer.list_payment_methods().data[0]
        stripe.Customer.modify(customer.id, invoice_settings={"default_payment_method": card.id})
        made = stripe.Subscription.create(customer=customer.id, items=[{"price": self.price().id}])
        self.assertEqual((made.created, made.test_clock), (start, clock.id))
        self.assertEqual(stripe.test_helpers.TestClock.advance(clock.id, frozen_time=start + month).status, "advancing")
        while stripe.test_helpers.TestClock.retrieve(clock.id).status != "ready":
            pass
        invoices = list(stripe.Invoice.list(customer=customer.id).auto_paging_iter())
        self.assertEqual([invoice.status for invoice in invoices], ["paid", "paid"])
        self.assertEqual(invoices[0].created - start, 30 * 86_400)
        self.assertTrue(stripe.test_helpers.TestClock.delete(clock.id).deleted)


class Refusals(StripeTest):
    def test_load_is_told_with_when_to_come_back(self):
        fault(operation="customers.create", kind="status", value=429, count=1)
        with self.assertRaises(stripe.RateLimitError) as limited:
            stripe.Customer.create(idempotency_key=key())
        self.assertEqual(limited.exception.headers["Retry-After"], "1")
        self.assertEqual(limited.exception.headers["Stripe-Should-Retry"], "true")
        fault(operation="customers.create", kind="lock_timeout", count=1)
        with self.assertRaises(stripe.RateLimitError) as locked:
            stripe.Customer.create(idempotency_key=key())
        self.assertEqual(locked.exception.error.code, "lock_timeout")
        fault(operation="customers.create", kind="lock_timeout", count=1)
        # The library itself comes back, under the same key.
        client = stripe.StripeClient("sk_test_simulator", base_addresses={"api": f"{BASE}/stripe"}, max_network_retries=2)
        self.assertTrue(client.v1.customers.create().id.startswith("cus_"))


class Events(StripeTest):
    def test_events_are_listed_by_type_and_time_in_both_directions(self):
        made = [stripe.Customer.create().id for _ in range(5)]
        wanted = {"type": "customer.created", "limit": 2}
        listed = [event.data.object.id for event in stripe.Event.list(**wanted).auto_paging_iter()]
        self.assertEqual(listed[:5], made[::-1])
        oldest = stripe.Event.list(type="customer.created", limit=5).data[-1]
        newer = stripe.Event.list(types=["customer.created"], ending_before=oldest.id, limit=2)
        self.assertEqual([event.data.object.id for event in newer.auto_paging_iter()], made[1:])
        after = stripe.Event.list(types=["customer.created"], created={"gte": oldest.created}, delivery_success=True)
        self.assertTrue(set(made) <= {event.data.object.id for event in after.auto_paging_iter()})
        self.assertEqual(stripe.Event.list(created={"lt": 1000}).data, [])


class Webhooks(StripeTest):
    def test_the_library_accepts_a_delivery_and_refuses_a_forged_one(self):
        arrived = queue.Queue()

        class Hook(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                arrived.put((body, self.headers["stripe-signature"]))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        endpoint = stripe.WebhookEndpoint.create(
            url=f"http://127.0.0.1:{server.server_port}/hook", enabled_events=["customer.subscription.created"]
        )
        self.addCleanup(stripe.WebhookEndpoint.delete, endpoint.id)
        customer, price = self.customer(), self.price()
        made = stripe.Subscription.create(customer=customer.id, items=[{"price": price.id}])
        body, signature = arrived.get(timeout=60)
        event = stripe.Webhook.construct_event(body, signature, endpoint.secret)
        self.assertEqual((event.type, event.data.object.id), ("customer.subscription.created", made.id))
        self.assertEqual(stripe.Event.retrieve(event.id).data.object.id, made.id)
        for forged, header, secret in [
            (body.replace(b"active", b"paused"), signature, endpoint.secret),
            (body, signature, "whsec_other"),
            (body, signature.replace("t=", "t=1"), endpoint.secret),
        ]:
            with self.assertRaises(stripe.SignatureVerificationError):
                stripe.Webhook.construct_event(forged, header, secret)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-url", required=True, help="where the simulators answer, without /stripe")
    options, rest = parser.parse_known_args()
    BASE = options.base_url.rstrip("/")
    stripe.api_key = "sk_test_simulator"
    stripe.api_base = f"{BASE}/stripe"
    # The library's own retries would hide what is tested here.
    stripe.max_network_retries = 0
    unittest.main(argv=[sys.argv[0], *rest], verbosity=2)
