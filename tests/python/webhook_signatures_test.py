"""Whether webhooks that the providers' own libraries sign are taken in, and what they did not sign is not.

Usage: webhook_signatures_test.py GATEWAY TWILIO_TOKEN TWILIO_SECRET TWILIO_OLD_SECRET RESEND_TOKEN RESEND_SECRET
Sends everything twice, prints what was answered otherwise than it should be, and exits with 1 then.
Deliberately absent: what is stored. The test that starts this counts rows.
"""

import datetime
import json
import sys

import requests
from svix.webhooks import Webhook
from twilio.request_validator import RequestValidator

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
wrong = []


def expect(status, what, answer):
    if answer.status_code != status:
        wrong.append(f"{what}: {answer.status_code} instead of {status}: {answer.text}")
    return answer


def twilio(gateway, token, secrets):
    current, old = (RequestValidator(secret) for secret in secrets)
    stranger = RequestValidator("0" * 32)
    message = {
        "MessageSid": "SMpython1",
        "From": "+15125550123",
        "To": "+15125550199",
        "Body": "  Ünïcode & trailing space ",
        "NumMedia": "0",
        "lowercase": "z",
        "Added": "without notice",
    }
    status = {"MessageSid": "SMpython2", "MessageStatus": "delivered", "From": "+15125550199", "To": "+15125550123"}
    call = {"CallSid": "CApython1", "From": "+15125550123", "To": "+15125550199", "CallStatus": "ringing"}
    ended = {"CallSid": "CApython1", "CallStatus": "completed"}
    base = f"{gateway}/webhooks/twilio/{token}"
    for url, parameters, twiml in [
        (f"{base}/sms", message, True),
        (f"{base}/status?attempt=att_01h455vb4pex5vsknk084sn02q", status, False),
        (f"{base}/voice", call, True),
        (f"{base}/voice/status", ended, False),
    ]:
        for signer in (current, old):
            headers = FORM | {"X-Twilio-Signature": signer.compute_signature(url, parameters)}
            answer = expect(200, url, requests.post(url, data=parameters, headers=headers, timeout=30))
            if twiml != answer.headers["content-type"].startswith("text/xml"):
                wrong.append(f"{url}: answered as {answer.headers['content-type']}")
        forged = dict(parameters, Body="forged", MessageSid="SMforged", CallSid="CAforged")
        signature = current.compute_signature(url, parameters)
        for body, given in [
            (forged, signature),
            (forged, stranger.compute_signature(url, forged)),
            (forged, ""),
        ]:
            headers = FORM | {"X-Twilio-Signature": given}
            expect(401, f"{url} forged", requests.post(url, data=body, headers=headers, timeout=30))
        expect(401, f"{url} unsigned", requests.post(url, data=forged, timeout=30))
    body = json.dumps({"MessageSid": "SMpython3", "MessageStatus": "read"})
    url = f"{base}/status?bodySHA256={current.compute_hash(body)}"
    headers = {"Content-Type": "application/json", "X-Twilio-Signature": current.compute_signature(url, {})}
    for _ in range(2):
        expect(200, url, requests.post(url, data=body, headers=headers, timeout=30))
    expect(401, url, requests.post(url, data=body.replace("3", "forged"), headers=headers, timeout=30))


def resend(gateway, token, secret):
    url = f"{gateway}/webhooks/resend/{token}"
    signer, stranger = Webhook(secret), Webhook("whsec_" + "A" * 32)
    body = json.dumps({"type": "email.delivered", "created_at": "2026-11-21T00:00:00Z", "data": {"email_id": "e1"}})
    now = datetime.datetime.now(tz=datetime.timezone.utc)

    def send(identifier, at, signature):
        headers = {"svix-id": identifier, "svix-timestamp": str(int(at.timestamp())), "svix-signature": signature}
        return requests.post(url, data=body, headers=headers, timeout=30)

    for _ in range(2):
        expect(200, "resend", send("msg_python1", now, signer.sign("msg_python1", now, body)))
    old = now - datetime.timedelta(seconds=310)
    expect(401, "resend, old", send("msg_forged", old, signer.sign("msg_forged", old, body)))
    expect(401, "resend, of a stranger", send("msg_forged", now, stranger.sign("msg_forged", now, body)))
    expect(401, "resend, of another", send("msg_forged", now, signer.sign("msg_python1", now, body)))


def main(gateway, twilio_token, twilio_secret, twilio_old_secret, resend_token, resend_secret):
    twilio(gateway, twilio_token, (twilio_secret, twilio_old_secret))
    resend(gateway, resend_token, resend_secret)
    for text in wrong:
        print(text, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
