"""What the tests of the simulators share: the simulator's address, its control endpoints, and a receiver of webhooks.

Deliberately absent: any provider. Each test brings its provider's own library.
"""

import argparse
import json
import queue
import sys
import threading
import unittest
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BASE = ""


def control(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"{BASE}/_{path}", data=data, method=method, headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read()
    return json.loads(text) if text else None


class Arrived:
    """One request as it arrived: `url` is the address that was asked for, whole."""

    def __init__(self, url, headers, body):
        self.url, self.headers, self.body = url, headers, body


class Receiver:
    """Takes webhooks and answers `answer`, a content type and a text."""

    def __init__(self):
        self.arrived = queue.Queue()
        self.answer = ("application/json", "{}")
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.arrived.put(Arrived(receiver.url + self.path, self.headers, body))
                content_type, text = receiver.answer
                self.send_response(200)
                self.send_header("content-type", content_type)
                self.send_header("content-length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def next(self):
        return self.arrived.get(timeout=60)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def run(module):
    """Runs the tests of `module` against `--base-url`."""
    global BASE
    parser = argparse.ArgumentParser(description=module.__doc__)
    parser.add_argument("--base-url", required=True, help="where the simulators listen, such as http://127.0.0.1:12111")
    BASE = parser.parse_args().base_url.rstrip("/")
    suite = unittest.defaultTestLoader.loadTestsFromModule(module)
    sys.exit(not unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite).wasSuccessful())
