"""The official `resend`, `svix` and `sendgrid` libraries against the simulators of mail.

    mail_sim_test.py --base-url http://127.0.0.1:12111

Owns what the libraries' users rely on: that they send, know the errors, and take the webhooks for genuine. Deliberately
absent: what the Rust tests of the simulators say better, such as faults and receivers that fail.
"""

import json
import sys
import unittest

import resend
from python_http_client.exceptions import BadRequestsError, UnauthorizedError
from resend.exceptions import InvalidApiKeyError, MissingRequiredFieldsError, ResendError
from sendgrid import SendGridAPIClient
from sendgrid.helpers.eventwebhook import EventWebhook, EventWebhookHeader
from sendgrid.helpers.mail import CustomArg, Mail
from svix.webhooks import Webhook, WebhookVerificationError

import simulator
from simulator import Receiver, control

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class ResendTest(unittest.TestCase):
    def setUp(self):
        self.receiver = Receiver()
        self.addCleanup(self.receiver.close)
        account = {"api_key": "re_test", "webhook_url": f"{self.receiver.url}/resend", "webhook_secret": SECRET}
        control("POST", "/resend/accounts", account)
        resend.api_key, resend.api_url = "re_test", f"{simulator.BASE}/resend"

    def mail(self, **more):
        return {"from": "Acme <hi@acme.test>", "to": ["lead@example.test"], "subject": "Hi", "html": "<p>Hi</p>", **more}

    def test_a_mail_goes_out_and_its_webhooks_are_genuine(self):
        sent = resend.Emails.send(self.mail(tags=[{"name": "kind", "value": "reply"}]))
        for _ in range(2):
            arrived = self.receiver.next()
            headers = dict(arrived.headers.items())
            Webhook(SECRET).verify(arrived.body, headers)
            self.assertEqual(json.loads(arrived.body)["data"]["email_id"], sent["id"])
            with self.assertRaises(WebhookVerificationError):
                Webhook(SECRET).verify(arrived.body + b" ", headers)
            with self.assertRaises(WebhookVerificationError):
                Webhook("whsec_" + "A" * 32).verify(arrived.body, headers)
        kept = resend.Emails.get(sent["id"])
        self.assertEqual((kept["last_event"], kept["to"]), ("delivered", ["lead@example.test"]))

    def test_one_key_is_one_mail(self):
        key = {"idempotency_key": "welcome/1"}
        first = resend.Emails.send(self.mail(), key)
        self.assertEqual(resend.Emails.send(self.mail(), key)["id"], first["id"])
        with self.assertRaises(ResendError) as refused:
            resend.Emails.send(self.mail(subject="Other"), key)
        self.assertEqual((refused.exception.code, refused.exception.error_type), (409, "invalid_idempotent_request"))

    def test_errors_are_the_librarys(self):
        with self.assertRaises(MissingRequiredFieldsError):
            resend.Emails.send({"from": "a@acme.test", "html": "x"})
        resend.api_key = "re_other"
        with self.assertRaises(InvalidApiKeyError):
            resend.Emails.send(self.mail())


class SendGridTest(unittest.TestCase):
    def setUp(self):
        self.receiver = Receiver()
        self.addCleanup(self.receiver.close)
        account = {"api_key": "SG.test", "webhook_url": f"{self.receiver.url}/sendgrid"}
        self.public_key = control("POST", "/sendgrid/accounts", account)["public_key"]

    def client(self, key="SG.test"):
        return SendGridAPIClient(key, host=f"{simulator.BASE}/sendgrid")

    def mail(self):
        mail = Mail(from_email="hi@acme.test", to_emails="lead@example.test", subject="Hi", html_content="<p>Hi</p>")
        mail.add_custom_arg(CustomArg("message_id", "msg_1"))
        return mail

    def test_a_mail_goes_out_and_its_events_are_genuine(self):
        answer = self.client().send(self.mail())
        self.assertEqual(answer.status_code, 202)
        message = answer.headers["X-Message-Id"]
        webhook, told = EventWebhook(self.public_key), []
        for _ in range(2):
            arrived = self.receiver.next()
            body, signature = arrived.body.decode(), arrived.headers[EventWebhookHeader.SIGNATURE]
            timestamp = arrived.headers[EventWebhookHeader.TIMESTAMP]
            self.assertTrue(webhook.verify_signature(body, signature, timestamp))
            self.assertFalse(webhook.verify_signature(body + " ", signature, timestamp))
            self.assertFalse(webhook.verify_signature(body, signature, str(int(timestamp) + 1)))
            told += json.loads(body)
        self.assertEqual({event["event"] for event in told}, {"processed", "delivered"})
        for event in told:
            self.assertEqual((event["email"], event["message_id"]), ("lead@example.test", "msg_1"))
            self.assertTrue(event["sg_message_id"].startswith(message))

    def test_errors_are_the_librarys(self):
        with self.assertRaises(BadRequestsError) as refused:
            self.client().send(Mail(from_email="hi@acme.test", to_emails="lead@example.test", subject="Hi"))
        self.assertIn("content parameter is required", json.loads(refused.exception.body)["errors"][0]["message"])
        with self.assertRaises(UnauthorizedError):
            self.client("SG.other").send(self.mail())


if __name__ == "__main__":
    simulator.run(sys.modules["__main__"])
