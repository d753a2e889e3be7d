"""Whether each role, started as a rendered kustomization starts it, would find all its settings and know each it is given.

Usage: k8s_settings.py BINARY RENDERED.yaml: runs `BINARY config check` with the environment of every Deployment,
secrets replaced by well-formed ones. Prints what the binary refuses; exits with 1 then.
Deliberately absent: real secrets, and anything that connects.
"""

import subprocess
import sys

import yaml

WELL_FORMED = [
    ("_DATABASE_URL", "postgres://role:kT8vQ2mZ@postgresql.acme.test:5432/mainstay"),
    ("_SERVICE_KEY", "5c" * 32),
    ("_LOOKUP_KEY", "5c" * 32),
    ("_PERMIT_KEY", "5c" * 32),
    ("_SESSION_KEY", "5c" * 32),
    ("_SIGN_IN_KEY", "5c" * 32),
    ("_LINK_KEY", "5c" * 32),
    ("STRIPE_SECRET_KEY", "sk_live_kT8vQ2mZ1aB9xWq7"),
    ("OPENAI_API_KEY", "sk-proj-kT8vQ2mZ1aB9xWq7"),
    ("_MASTER_KEYS", "2026:" + "5c1a60b2f7d84e93" * 4),
    ("TWILIO_AUTH_TOKENS", "b3a1f0c2d4e5968778695a4b3c2d1e0f"),
    ("STRIPE_WEBHOOK_SECRETS", "whsec_kT8vQ2mZ1aB9xWq7,whsec_Zm2Qv8Tk9Ba1Wxq7"),
]


def secret(name):
    for suffix, value in WELL_FORMED:
        if name.endswith(suffix):
            return value
    sys.exit(f"{name} comes from a Secret, and this test does not know what it looks like")


def environment(container, maps):
    found = {}
    for source in container.get("envFrom", []):
        found.update(maps[source["configMapRef"]["name"]])
    for variable in container.get("env", []):
        found[variable["name"]] = variable["value"] if "value" in variable else secret(variable["name"])
    return found


def main(binary, path):
    with open(path, encoding="utf-8") as file:
        documents = [document for document in yaml.safe_load_all(file) if document]
    maps = {d["metadata"]["name"]: d["data"] for d in documents if d["kind"] == "ConfigMap"}
    failed = False
    for document in documents:
        if document["kind"] != "Deployment":
            continue
        role = document["metadata"]["name"]
        container = document["spec"]["template"]["spec"]["containers"][0]
        command = [binary, "config", "check", "--role", role]
        checked = subprocess.run(command, env=environment(container, maps), capture_output=True, text=True, timeout=60)
        if checked.returncode != 0:
            failed = True
            print(f"{role} would not start: {checked.stderr}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
