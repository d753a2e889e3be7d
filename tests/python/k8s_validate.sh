#!/bin/sh
# Renders k8s/base and each overlay and holds them against the Kubernetes schemas (strictly) and against our own rules.
# With the path of the binary, also asks it whether each role would find its settings in the example overlay.
# Deliberately absent: a cluster. Needs kubectl or kustomize, and the Python environment that venv.sh makes.
set -eu

binary=${1:+$(realpath "$1")}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
MAINSTAY_PY_ENV=${MAINSTAY_PY_ENV:-$root/target/python}
export MAINSTAY_PY_ENV
# The oldest Kubernetes that is still looked after, and one to come.
versions="1.32 1.35"

if command -v kubectl >/dev/null 2>&1; then
    render="kubectl kustomize"
elif command -v kustomize >/dev/null 2>&1; then
    render="kustomize build"
else
    echo "k8s_validate: neither kubectl nor kustomize is installed; on Debian: apt-get install kubernetes-client" >&2
    exit 1
fi

"$here/venv.sh" >&2
rendered=$(mktemp -d)
trap 'rm -rf "$rendered"' EXIT

cd "$root/k8s"
for folder in base overlays/*/; do
    name=$(echo "$folder" | tr -s / -)
    if $render "$folder" >"$rendered/$name.yaml" 2>"$rendered/error"; then
        continue
    fi
    # kubectl before 1.21 (Debian 12 has 1.20) renders the base, but knows no overlay on a folder.
    if [ "$folder" != base ] && grep -q "must be a file" "$rendered/error"; then
        echo "k8s_validate: $folder needs kubectl 1.21 or newer to render; not checked" >&2
        rm "$rendered/$name.yaml"
        continue
    fi
    cat "$rendered/error" >&2
    exit 1
done

for version in $versions; do
    "$MAINSTAY_PY_ENV/bin/kubernetes-validate" -k "$version" --strict --quiet "$rendered"/*.yaml
done
"$MAINSTAY_PY_ENV/bin/python" "$here/k8s_rules.py" "$rendered"/*.yaml
if [ -n "$binary" ] && [ -f "$rendered/overlays-production-.yaml" ]; then
    "$MAINSTAY_PY_ENV/bin/python" "$here/k8s_settings.py" "$binary" "$rendered/overlays-production-.yaml"
fi
echo "k8s_validate: $(cat "$rendered"/*.yaml | grep -c '^kind:') documents are valid"
