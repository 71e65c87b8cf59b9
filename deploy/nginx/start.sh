#!/bin/sh
# Starts nginx with the name server that this container was given: Docker and Podman have different ones.
set -eu
CONFIGURATION=${1:-/etc/nginx/nginx.conf}
RESOLVER=${2:-/tmp/resolver.conf}
server=$(awk '$1 == "nameserver" {print index($2, ":") ? "[" $2 "]" : $2; exit}' /etc/resolv.conf)
[ -n "$server" ] || { echo "start.sh: /etc/resolv.conf names no name server" >&2; exit 1; }
echo "resolver $server valid=5s;" >"$RESOLVER"
nginx -t -q -c "$CONFIGURATION"
exec nginx -c "$CONFIGURATION" -g "daemon off;"
