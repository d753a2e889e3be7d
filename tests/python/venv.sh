#!/bin/sh
# Makes the virtual environment of the Python tests, or finds it made, and prints its interpreter's path.
# Deliberately absent: upgrades. The environment is thrown away and made anew when requirements.txt changes.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
env=${MAINSTAY_PY_ENV:-$root/target/python}
stamp=$env/.requirements

made() {
    [ -x "$env/bin/python" ] && cmp -s "$here/requirements.txt" "$stamp"
}

if ! made; then
    command -v python3 >/dev/null || { echo "python3 is missing: apt-get install python3 python3-venv" >&2; exit 1; }
    mkdir -p "$(dirname "$env")"
    # Tests of several crates may ask at once; the first one makes it, the others wait.
    exec 9>"$env.lock"
    flock 9
    if ! made; then
        rm -rf "$env"
        python3 -m venv "$env" >&2 || { echo "python3 cannot make environments: apt-get install python3-venv" >&2; exit 1; }
        "$env/bin/python" -m pip install --quiet --disable-pip-version-check --no-input -r "$here/requirements.txt" >&2
        cp "$here/requirements.txt" "$stamp"
    fi
fi
echo "$env/bin/python"
