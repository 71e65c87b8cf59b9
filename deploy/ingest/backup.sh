#!/bin/sh
# Makes a backup in a folder named by its time, reads it back, and then removes the oldest of those that this script made.
# Usage: backup.sh INGEST.YAML FOLDER KEEP
set -eu

[ $# -eq 3 ] || { echo "usage: backup.sh INGEST.YAML FOLDER KEEP" >&2; exit 2; }
CONFIGURATION=$1
FOLDER=$2
KEEP=$3
case $KEEP in
    '' | *[!0-9]* | 0) echo "backup.sh: KEEP is a number of backups, at least 1" >&2; exit 2 ;;
esac
SHOPFLOOR=$(dirname "$0")/bin/shopfloor
[ -x "$SHOPFLOOR" ] || SHOPFLOOR=shopfloor

mkdir -p "$FOLDER"
made=$FOLDER/$(date -u +%Y-%m-%dT%H%M%SZ)
"$SHOPFLOOR" ingest backup "$CONFIGURATION" "$made"
"$SHOPFLOOR" ingest verify "$CONFIGURATION" --backup "$made"

# The new one is sound: only now an old one may go. Folders without a manifest are no backups; they go as well, once they
# are older than the one that was made now.
count=0
for old in $(ls -1r "$FOLDER" | grep -E '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{6}Z$'); do
    if [ -e "$FOLDER/$old/manifest.json" ]; then
        count=$((count + 1))
        [ $count -gt "$KEEP" ] || continue
    fi
    rm -rf "${FOLDER:?}/$old"
    echo "removed $FOLDER/$old"
done
