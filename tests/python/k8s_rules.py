"""What every pod and policy of a rendered kustomization must keep to, beyond being valid Kubernetes.

Reads the rendered documents from the files named, prints every breach, and exits with 1 when there is one.
Deliberately absent: the schemas; kubernetes-validate holds the documents against those.
"""

import sys

import yaml

ROLES = ["identity", "billing", "messaging", "escalation", "integrations", "gateway"]
# SIGTERM to SIGKILL: draining, requests in hand, the longest lease of a job, and the flush of traces.
LEAST_GRACE_SECONDS = 60


def component(labels):
    return (labels or {}).get("app.kubernetes.io/component")


def pods(documents):
    for document in documents:
        if document["kind"] in ("Deployment", "Job"):
            yield document["metadata"]["name"], document["spec"]["template"]


def check_pod(name, template, problem):
    spec = template["spec"]
    security = spec.get("securityContext", {})
    if security.get("runAsNonRoot") is not True or not security.get("runAsUser"):
        problem(name, "may run as root")
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        problem(name, "has no seccomp profile")
    if spec.get("automountServiceAccountToken") is not False:
        problem(name, "is given a token of the cluster that it does not need")
    if spec.get("enableServiceLinks") is not False:
        problem(name, "is given settings that nobody wrote (service links)")
    if spec.get("serviceAccountName") != name:
        problem(name, "has no service account of its own")
    for container in spec["containers"]:
        security = container.get("securityContext", {})
        if security.get("allowPrivilegeEscalation") is not False:
            problem(name, "may gain privileges")
        if security.get("readOnlyRootFilesystem") is not True:
            problem(name, "may write to its image")
        if security.get("capabilities", {}).get("drop") != ["ALL"] or security["capabilities"].get("add"):
            problem(name, "keeps capabilities")
        resources = container.get("resources", {})
        if not {"cpu", "memory"} <= set(resources.get("requests", {})) or "memory" not in resources.get("limits", {}):
            problem(name, "does not say what it needs")
        if container["image"].endswith(":latest"):
            problem(name, "runs whatever :latest is")
        for variable in container.get("env", []):
            if "value" in variable and any(word in variable["name"] for word in ("KEY", "SECRET", "URL", "PASSWORD")):
                problem(name, f"has {variable['name']} written out")


def check_role(role, documents, problem):
    mine = {d["kind"]: d for d in documents if component(d["metadata"].get("labels")) == role and d["kind"] != "Ingress"}
    for kind in ("ServiceAccount", "Service", "Deployment", "PodDisruptionBudget", "HorizontalPodAutoscaler", "NetworkPolicy"):
        if kind not in mine:
            problem(role, f"has no {kind}")
    if len(mine) < 6:
        return
    pod = mine["Deployment"]["spec"]["template"]
    labels = pod["metadata"]["labels"]
    for kind in ("Deployment", "PodDisruptionBudget"):
        if not mine[kind]["spec"]["selector"]["matchLabels"].items() <= labels.items():
            problem(role, f"its {kind} selects other pods")
    if not mine["Service"]["spec"]["selector"].items() <= labels.items():
        problem(role, "its Service selects other pods")
    if role != "gateway" and mine["Service"]["spec"].get("clusterIP") != "None":
        problem(role, "its gRPC Service is not headless")
    if mine["HorizontalPodAutoscaler"]["spec"]["minReplicas"] < 2:
        problem(role, "may be alone, so that a drained node stops it")
    container = pod["spec"]["containers"][0]
    if container["args"] != ["serve", role]:
        problem(role, "runs another role")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if probe not in container:
            problem(role, f"has no {probe}")
    if pod["spec"].get("terminationGracePeriodSeconds", 30) < LEAST_GRACE_SECONDS:
        problem(role, "is killed before it could finish")
    policy = mine["NetworkPolicy"]["spec"]
    for rule in policy.get("ingress", []):
        for source in rule.get("from") or [{}]:
            outside = "podSelector" not in source
            if outside and role != "gateway":
                problem(role, "can be reached from outside")
            for expression in source.get("podSelector", {}).get("matchExpressions", []):
                for caller in set(expression["values"]) - set(ROLES):
                    problem(role, f"can be reached by {caller}")
        if not rule.get("ports"):
            problem(role, "can be reached on every port")


def main(paths):
    problems = []
    for path in paths:
        with open(path, encoding="utf-8") as file:
            documents = [document for document in yaml.safe_load_all(file) if document]

        def problem(name, what):
            problems.append(f"{path}: {name} {what}")

        for document in documents:
            if document["kind"] == "Secret":
                problem(document["metadata"]["name"], "is a Secret; values do not belong here")
            if document["kind"] != "Namespace" and document["metadata"].get("namespace") != "mainstay":
                problem(document["metadata"]["name"], "is in no namespace of ours")
        for name, template in pods(documents):
            check_pod(name, template, problem)
        for role in ROLES:
            check_role(role, documents, problem)
        if not any(d["kind"] == "NetworkPolicy" and d["spec"]["podSelector"] == {} for d in documents):
            problem("the namespace", "does not deny by default")
        if not any(d["kind"] == "Job" and d["metadata"]["name"] == "migrate" for d in documents):
            problem("the rollout", "has no migration")
    for text in problems:
        print(text, file=sys.stderr)
    return 1 if problems or not paths else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
