"""The official `twilio` library against the Twilio simulator.

    twilio_sim_test.py --base-url http://127.0.0.1:12111

Owns what the library's users rely on: that it reads what is answered, walks lists, knows the errors, and takes the
signatures for genuine. Deliberately absent: what the Rust tests of the simulator say better, such as faults.
"""

import datetime
import sys
import unittest
import urllib.parse

from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.request_validator import RequestValidator
from twilio.rest import Client

import simulator
from simulator import Receiver, control

SID, TOKEN = "AC" + "1" * 32, "a-token"
OURS, PERSON = "+15125550100", "+15125550123"


class Here(TwilioHttpClient):
    """Sends to the simulator what is meant for Twilio."""

    def request(self, method, url, *rest, **named):
        there = "https://api.twilio.com/"
        assert url.startswith(there), url
        return super().request(method, f"{simulator.BASE}/twilio/{url[len(there):]}", *rest, **named)


class TwilioTest(unittest.TestCase):
    def setUp(self):
        self.receiver = Receiver()
        self.addCleanup(self.receiver.close)
        number = {"number": OURS, "sms_url": f"{self.receiver.url}/sms?token=a%2Bb", "voice_url": f"{self.receiver.url}/voice"}
        control("POST", "/twilio/accounts", {"account_sid": SID, "auth_token": TOKEN, "numbers": [number]})
        self.twilio = Client(SID, TOKEN, http_client=Here())

    def assert_genuine(self, arrived):
        fields = dict(urllib.parse.parse_qsl(arrived.body.decode(), keep_blank_values=True))
        signature = arrived.headers["x-twilio-signature"]
        self.assertTrue(RequestValidator(TOKEN).validate(arrived.url, fields, signature))
        self.assertFalse(RequestValidator("another").validate(arrived.url, fields, signature))
        return fields

    def test_a_message_goes_out_and_its_callbacks_are_genuine(self):
        callback = f"{self.receiver.url}/status?attempt=att_1&empty="
        made = self.twilio.messages.create(to=PERSON, from_=OURS, body="Grüße ☺", status_callback=callback)
        self.assertEqual((made.status, made.num_segments), ("queued", "1"))
        told = [self.assert_genuine(self.receiver.next()) for _ in range(2)]
        self.assertEqual({fields["MessageStatus"] for fields in told}, {"sent", "delivered"})
        kept = self.twilio.messages(made.sid).fetch()
        self.assertEqual((kept.status, kept.body, kept.error_code), ("delivered", "Grüße ☺", None))
        self.assertIsInstance(kept.date_sent, datetime.datetime)

    def test_lists_are_walked_page_by_page(self):
        to = "+15125550888"
        made = [self.twilio.messages.create(to=to, from_=OURS, body=str(n)).sid for n in range(5)]
        since = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=5)
        found = self.twilio.messages.list(to=to, from_=OURS, date_sent_after=since, page_size=2)
        self.assertEqual([message.sid for message in found], made[::-1])
        self.assertEqual(self.twilio.messages.list(to=to, date_sent_before=since), [])

    def test_errors_are_the_librarys(self):
        for fields, code in [
            ({"to": "+15005550001", "from_": OURS}, 21211),
            ({"to": "+15005550009", "from_": OURS}, 21614),
            ({"to": PERSON, "from_": "+15125559999"}, 21606),
        ]:
            with self.assertRaises(TwilioRestException) as refused:
                self.twilio.messages.create(body="x", **fields)
            self.assertEqual((refused.exception.status, refused.exception.code), (400, code))
        with self.assertRaises(TwilioRestException) as refused:
            Client(SID, "wrong", http_client=Here()).messages("SM" + "0" * 32).fetch()
        self.assertEqual((refused.exception.status, refused.exception.code), (401, 20003))
        with self.assertRaises(TwilioRestException) as missing:
            self.twilio.messages("SM" + "0" * 32).fetch()
        self.assertEqual((missing.exception.status, missing.exception.code), (404, 20404))

    def test_a_persons_message_is_genuine_and_answered(self):
        self.receiver.answer = ("text/xml", "<Response><Message>Thanks</Message></Response>")
        control("POST", "/inbound/sms", {"from": PERSON, "to": OURS, "body": "Hi & bye"})
        fields = self.assert_genuine(self.receiver.next())
        self.assertEqual((fields["Body"], fields["From"], fields["FromCity"]), ("Hi & bye", PERSON, ""))
        control("POST", "/inbound/call", {"from": PERSON, "to": OURS})
        self.assert_genuine(self.receiver.next())

    def test_a_call_that_is_put_through_is_told_of_with_genuine_signatures(self):
        action = f"{self.receiver.url}/dialed?attempt=1&amp;x=a%2Bb"
        self.receiver.answer = ("text/xml", f'<Response><Dial action="{action}">+15125550142</Dial></Response>')
        number = {"number": OURS, "voice_url": f"{self.receiver.url}/voice", "status_url": f"{self.receiver.url}/ended"}
        control("POST", "/twilio/accounts", {"account_sid": SID, "auth_token": TOKEN, "numbers": [number]})
        control("POST", "/inbound/call", {"from": PERSON, "to": OURS, "outcome": "no-answer"})
        rang, dialed, ended = [self.assert_genuine(self.receiver.next()) for _ in range(3)]
        self.assertEqual(rang["CallStatus"], "ringing")
        self.assertEqual((dialed["DialCallStatus"], dialed["CallSid"]), ("no-answer", rang["CallSid"]))
        self.assertEqual(ended["CallStatus"], "completed")

    def test_numbers_and_calls(self):
        bought = self.twilio.incoming_phone_numbers.create(area_code="737")
        bought = bought.update(sms_url="https://example.test/sms")
        self.assertEqual(self.twilio.incoming_phone_numbers(bought.sid).fetch().sms_url, "https://example.test/sms")
        listed = self.twilio.incoming_phone_numbers.list(phone_number=bought.phone_number)
        self.assertEqual([number.sid for number in listed], [bought.sid])
        self.assertTrue(bought.delete())
        status = f"{self.receiver.url}/call"
        made = self.twilio.calls.create(to="+15005553101", from_=OURS, twiml="<Response/>", status_callback=status)
        self.assertEqual(self.assert_genuine(self.receiver.next())["CallStatus"], "no-answer")
        self.assertEqual(self.twilio.calls(made.sid).fetch().status, "no-answer")


if __name__ == "__main__":
    simulator.run(sys.modules["__main__"])
