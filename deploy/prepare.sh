#!/bin/sh
# Makes what a compose file needs beside itself: etc/ (configuration, yours from then on), secrets/ (random, or what is
# given), and .env. What is there already is never touched: run it again after an upgrade for what is new.
set -eu

HERE=$(cd "$(dirname "$0")" && pwd)
TO=$HERE
HOST=
CERTIFICATE=
KEY=
TOKEN=
AUTHORITY=
SUBNET=${SHOPFLOOR_SUBNET:-172.31.250.0/24}

usage() {
    cat <<END
usage: prepare.sh central | central-embedded | scaled  --host NAME --certificate FILE --key FILE
       prepare.sh gateway [--token FILE] [--authority FILE]

  --host NAME          under which browsers and agents reach the centre
  --certificate FILE   its certificate with its chain (PEM); shopfloor certs makes one
  --key FILE           the private key
  --token FILE         an agent's token, from shopfloor token create
  --authority FILE     certificate of the authority that signed the centre's
  --to FOLDER          put everything there instead of beside the compose files
END
}

refuse() {
    echo "prepare.sh: $*" >&2
    exit 1
}

[ $# -gt 0 ] || { usage >&2; exit 2; }
KIND=$1
shift
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage; exit 0 ;;
        --host | --certificate | --key | --token | --authority | --to) ;;
        *) usage >&2; exit 2 ;;
    esac
    [ $# -gt 1 ] || refuse "$1 needs a value"
    case $1 in
        --host) HOST=$2 ;;
        --certificate) CERTIFICATE=$2 ;;
        --key) KEY=$2 ;;
        --token) TOKEN=$2 ;;
        --authority) AUTHORITY=$2 ;;
        --to) TO=$2 ;;
    esac
    shift 2
done
case $KIND in
    central | central-embedded | scaled)
        [ -n "$HOST" ] || [ -e "$TO/.env" ] || refuse "--host NAME is needed: under which name is the centre reached?"
        case $HOST in *[!A-Za-z0-9.:-]*) refuse "--host $HOST: a DNS name or an IP address stands here" ;; esac ;;
    gateway) ;;
    *) usage >&2; exit 2 ;;
esac
for given in "$CERTIFICATE" "$KEY" "$TOKEN" "$AUTHORITY"; do
    [ -z "$given" ] || [ -r "$given" ] || refuse "$given can't be read"
done

# Nobody but root enters secrets/. The files in it can be read by everybody, since each container mounts single ones and
# runs as a user of its own.
mkdir -p "$TO/etc" "$TO/secrets"
chmod 700 "$TO/secrets"

random() {
    od -An -v -N32 -tx1 /dev/urandom | tr -d ' \n'
}

# secret NAME: stdin becomes a secret unless it is there; secret_mode says who may write it.
secret_mode=444
secret() {
    if [ -s "$TO/secrets/$1" ]; then
        cat >/dev/null
        return
    fi
    rm -f "$TO/secrets/$1"
    cat >"$TO/secrets/$1"
    chmod $secret_mode "$TO/secrets/$1"
    echo "made secrets/$1"
}

given() {
    if [ -n "$2" ]; then
        secret "$1" <"$2"
    elif [ ! -s "$TO/secrets/$1" ]; then
        missing="${missing:-}
  secrets/$1: $3"
    fi
}

configuration() {
    if [ ! -e "$TO/etc/$2" ]; then
        sed "s|@SUBNET@|$SUBNET|" "$HERE/$1" >"$TO/etc/$2"
        chmod 644 "$TO/etc/$2"
        echo "made etc/$2: look at it"
    fi
}

grafana() {
    random | secret grafana_password
    random | secret grafana_secret_key
}

# So that `docker compose` needs no -f.
environment() {
    [ -e "$TO/.env" ] || printf '%s\n' COMPOSE_FILE="$KIND.yaml" "$@" >"$TO/.env"
}

if [ "$KIND" = gateway ]; then
    environment
    configuration edge/agent.gateway.yaml agent.yaml
    given agent_token "$TOKEN" "shopfloor token create --role agent --asset ... at the centre"
    given authority "$AUTHORITY" "certificate of the authority that signed the centre's"
else
    environment SHOPFLOOR_HOST="$HOST" SHOPFLOOR_SUBNET="$SUBNET"
    configuration "ingest/ingest.$KIND.yaml" ingest.yaml
    given server_certificate "$CERTIFICATE" "shopfloor certs server central --host $HOST"
    given server_key "$KEY" "shopfloor certs server central --host $HOST"
fi
case $KIND in
    central)
        grafana
        random | secret influxdb_password
        random | secret influxdb_operator_token
        # InfluxDB writes these two when it is set up.
        for name in influxdb_write_token influxdb_read_token; do
            [ -e "$TO/secrets/$name" ] || : >"$TO/secrets/$name"
            chmod 666 "$TO/secrets/$name"
        done
        random | secret broker_agent_password
        printf 'agent:%s\n' "$(cat "$TO/secrets/broker_agent_password")" | secret broker_users
        configuration edge/agent.central.yaml agent.yaml ;;
    scaled)
        grafana
        random | secret postgres_password
        random | secret plant_password ;;
esac
if [ -n "${missing:-}" ]; then
    echo "still missing:$missing"
    exit 1
fi
