#!/bin/bash
# Runs once, when InfluxDB 2 is set up: makes a token that writes and reads the bucket for the ingestion service, and one
# that only reads it for Grafana, in files that are mounted into their containers. The operator's token goes nowhere.
set -euo pipefail
WRITE=${TOKEN_FOLDER:-/tokens}/write
READ=${TOKEN_FOLDER:-/tokens}/read

# Prints the token alone: the fourth column of `influx auth create --hide-headers` is it (ID, description, token, ...).
make_token() {
    influx auth create --hide-headers --org "$DOCKER_INFLUXDB_INIT_ORG" "$@" | tr '\t' '\n' |
        grep -E -m 1 '^[A-Za-z0-9_-]{80,}={0,2}$'
}

bucket=$DOCKER_INFLUXDB_INIT_BUCKET_ID
written=$(make_token --description "Shopfloor ingestion service" --write-bucket "$bucket" --read-bucket "$bucket")
read_only=$(make_token --description "Shopfloor dashboards" --read-bucket "$bucket")
# Into the files that are there: a new one in their place would be seen by nobody.
printf '%s\n' "$written" >"$WRITE"
printf '%s\n' "$read_only" >"$READ"
