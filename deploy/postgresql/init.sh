#!/bin/sh
# Runs once, when the database is set up: the service gets a user of its own, which is no superuser, and a database.
set -eu
export PLANT_PASSWORD_FILE="${PLANT_PASSWORD_FILE:-/run/secrets/plant_password}"
[ -s "$PLANT_PASSWORD_FILE" ] || { echo "init.sh: $PLANT_PASSWORD_FILE is empty or missing" >&2; exit 1; }
psql --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'END'
\set password `cat "$PLANT_PASSWORD_FILE"`
CREATE ROLE shopfloor LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'password';
CREATE DATABASE shopfloor OWNER shopfloor ENCODING 'UTF8' TEMPLATE template0;
REVOKE ALL ON DATABASE shopfloor FROM PUBLIC;
END
