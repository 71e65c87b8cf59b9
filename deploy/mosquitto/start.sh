#!/bin/sh
# Starts the broker with the users of a file of lines NAME:PASSWORD, which it keeps as hashes in memory.
set -eu
umask 077
USERS=${1:-/run/secrets/broker_users}
CONFIGURATION=${2:-/mosquitto/config/mosquitto.conf}
HASHES=${3:-/tmp/passwords}
if grep -nvE '^[A-Za-z0-9._-]+:.{12,}$' "$USERS" | cut -d: -f1 | grep .; then
    echo "start.sh: these lines of $USERS are not NAME:PASSWORD with 12 characters or more" >&2
    exit 2
fi
cp "$USERS" "$HASHES"
chmod 600 "$HASHES"
mosquitto_passwd -U "$HASHES"
exec mosquitto -c "$CONFIGURATION"
