#!/bin/sh
# Installs, upgrades or removes the part of Shopfloor whose archive this file lies in. No network is used.
set -eu
# The service's user has to read what root installs; what is nobody else's has its mode below.
umask 022

HERE=$(cd "$(dirname "$0")" && pwd)
# What this archive holds and what it is for: PART, VERSION, MACHINE, PYTHON_VERSION and RELEASE.
. "$HERE/platform"
NAME=shopfloor-$PART
case $PART in
    edge) FILE=agent.yaml ;;
    *) FILE=$PART.yaml ;;
esac
PREFIX=/opt/$NAME
CONFIGURATION=/etc/$NAME
DATA=/var/lib/$NAME
OWNER=$NAME
UNITS=/etc/systemd/system
COMMAND=/usr/local/bin/shopfloor
PYTHON=
SYSTEMD=yes
ACTION=install

usage() {
    cat <<END
usage: install.sh [--prefix DIR] [--no-systemd] [--python PYTHON] [--back | --uninstall]

  --prefix DIR       where to install (default $PREFIX)
  --no-systemd       no unit and no user: everything lies below --prefix, root is not needed
  --python PYTHON    the Python to use, such as python3.12
  --back             go back to the release that was installed before
  --uninstall        remove $NAME; configuration and data stay

Configuration and data are never overwritten: running it again with a newer archive is the upgrade.
END
}

refuse() {
    echo "install.sh: $*" >&2
    exit 1
}

while [ $# -gt 0 ]; do
    case $1 in
        --prefix) [ $# -gt 1 ] || refuse "--prefix needs a folder"; PREFIX=$2; shift ;;
        --python) [ $# -gt 1 ] || refuse "--python needs a program"; PYTHON=$2; shift ;;
        --no-systemd) SYSTEMD= ;;
        --back) ACTION=back ;;
        --uninstall) ACTION=uninstall ;;
        --help | -h) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done
case $PREFIX in
    /?*) ;;
    *) PREFIX=$(pwd)/$PREFIX ;;
esac
if [ -n "$SYSTEMD" ]; then
    [ "$(id -u)" = 0 ] || refuse "needs root; or give --prefix DIR --no-systemd"
    command -v systemctl >/dev/null || refuse "there is no systemctl here; give --no-systemd"
else
    CONFIGURATION=$PREFIX/etc
    DATA=$PREFIX/data
fi

each_unit() {
    for unit in "$HERE"/*.service "$HERE"/*.timer; do
        [ ! -e "$unit" ] || basename "$unit"
    done
}

uninstall() {
    if [ -n "$SYSTEMD" ]; then
        for unit in $(each_unit); do
            [ -e "$UNITS/$unit" ] || continue
            systemctl disable --now "$unit" 2>/dev/null || systemctl stop "$unit"
            rm -f "${UNITS:?}/$unit"
        done
        systemctl daemon-reload
    fi
    if [ -n "$SYSTEMD" ] && [ "$(readlink "$COMMAND" || true)" = "$PREFIX/current/bin/shopfloor" ]; then
        rm -f "$COMMAND"
    fi
    rm -rf "$PREFIX/releases" "$PREFIX/current" "$PREFIX/before"
    echo "removed; these stay: $CONFIGURATION (configuration), $DATA (data, and what was not delivered)"
}

# The link moves at once; what runs goes on until it is started anew.
point_to() {
    ln -sfn "$1" "$PREFIX/$2.new"
    mv -T "$PREFIX/$2.new" "$PREFIX/$2"
}

go_back() {
    before=$(readlink "$PREFIX/before") || refuse "there is no release to go back to in $PREFIX"
    [ -e "$PREFIX/$before/complete" ] || refuse "$PREFIX/$before is not complete any more"
    now=$(readlink "$PREFIX/current")
    point_to "$before" current
    point_to "$now" before
    [ -z "$SYSTEMD" ] || systemctl try-restart "$NAME.service"
    echo "back to $before; install.sh --back once more returns to $now"
}

check_platform() {
    [ "$(uname -s)" = Linux ] || refuse "this archive is for Linux, this is $(uname -s)"
    machine=$(uname -m)
    [ "$machine" = arm64 ] && machine=aarch64
    [ "$machine" = "$MACHINE" ] || refuse "this archive is for $MACHINE, this machine is $machine: make $PART-bundle PLATFORM=$machine"
    if ldd --version 2>&1 | grep -qi musl; then
        refuse "this archive is for glibc, this system has musl: use the container image"
    fi
}

find_python() {
    for candidate in $PYTHON "python$PYTHON_VERSION" python3; do
        command -v "$candidate" >/dev/null || continue
        found=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || continue
        if [ "$found" = "$PYTHON_VERSION" ]; then
            PYTHON=$("$candidate" -c 'import sys; print(sys.executable)')
            return
        fi
        others="${others:-}, $candidate is $found"
    done
    refuse "this archive is for Python $PYTHON_VERSION${others:-, and there is no Python}: make $PART-bundle FOR_PYTHON=X.Y"
}

# Whole or not at all: what runs now stays until the new one works, and one step back is kept.
install_release() {
    target=$PREFIX/releases/$RELEASE
    # A link to the system's Python breaks when that is replaced.
    if [ ! -e "$target/complete" ] || ! "$target/bin/shopfloor" "$PART" --version >/dev/null 2>&1; then
        rm -rf "$target"
        mkdir -p "$PREFIX/releases"
        # pip comes along: many gateways have Python without it.
        "$PYTHON" -m venv --without-pip "$target" || refuse "$PYTHON -m venv failed"
        PYTHONPATH=$(echo "$HERE"/pip/pip-*.whl) PIP_CONFIG_FILE=/dev/null PIP_DISABLE_PIP_VERSION_CHECK=1 \
            PIP_ROOT_USER_ACTION=ignore \
            "$target/bin/python" -m pip install --quiet --no-cache-dir --no-index --find-links "$HERE/wheels" \
            --no-deps --require-hashes --requirement "$HERE/requirements.txt"
        cp "$HERE/README.md" "$target/"
        [ ! -e "$HERE/backup.sh" ] || install -m 755 "$HERE/backup.sh" "$target/"
        "$target/bin/shopfloor" "$PART" --version >/dev/null
        : >"$target/complete"
    fi
    if [ -n "$SYSTEMD" ]; then
        runuser -u "$OWNER" -- "$target/bin/shopfloor" "$PART" --version >/dev/null ||
            refuse "user $OWNER can't run $target/bin/shopfloor: everybody must be able to enter $PREFIX and what is above it"
    fi
    before=$(readlink "$PREFIX/current" || true)
    point_to "releases/$RELEASE" current
    # Installed once more: the one before this one still is the step back.
    [ "$before" != "releases/$RELEASE" ] || return 0
    [ -z "$before" ] || point_to "$before" before
    for old in "$PREFIX"/releases/*; do
        case $old in
            "$target" | "$PREFIX/$before") ;;
            *) rm -rf "$old" ;;
        esac
    done
}

install_configuration() {
    for folder in "$CONFIGURATION" "$DATA"; do
        [ -d "$folder" ] || mkdir -p -m 750 "$folder"
    done
    if [ ! -e "$CONFIGURATION/$FILE" ]; then
        sed "s|@DATA@|$DATA|" "$HERE/${FILE%.yaml}.sample.yaml" >"$CONFIGURATION/$FILE"
        chmod 640 "$CONFIGURATION/$FILE"
        fresh=yes
    fi
}

install_user() {
    if ! id "$OWNER" >/dev/null 2>&1; then
        useradd --system --user-group --home-dir "$DATA" --no-create-home --shell /usr/sbin/nologin "$OWNER"
    fi
    runuser -u "$OWNER" -- "$PYTHON" -c 'import ssl, sqlite3' 2>/dev/null ||
        refuse "user $OWNER can't run $PYTHON: give --python another one, which everybody may read"
}

install_service() {
    chown "root:$OWNER" "$CONFIGURATION" "$CONFIGURATION/$FILE"
    chmod 750 "$CONFIGURATION"
    chown "$OWNER:$OWNER" "$DATA"
    chmod 750 "$DATA"
    for unit in $(each_unit); do
        sed "s|/opt/$NAME|$PREFIX|" "$HERE/$unit" >"$UNITS/$unit"
    done
    # Both parts on one machine: the command stays that of the first, each has its own below its prefix.
    [ -e "$COMMAND" ] || ln -sfn "$PREFIX/current/bin/shopfloor" "$COMMAND"
    systemctl daemon-reload
    systemctl enable --quiet "$NAME.service"
    systemctl try-restart "$NAME.service"
}

case $ACTION in
    uninstall) uninstall; exit 0 ;;
    back) go_back; exit 0 ;;
esac
check_platform
find_python
[ -z "$SYSTEMD" ] || install_user
install_release
install_configuration
shopfloor=$PREFIX/current/bin/shopfloor
[ -z "$SYSTEMD" ] || install_service
installed=$("$shopfloor" "$PART" --version)
echo "$installed is installed in $PREFIX"
[ -n "${fresh:-}" ] || exit 0
case $PART in
    edge)
        echo "now: edit $CONFIGURATION/$FILE, put the token into $CONFIGURATION/agent.token (mode 640), then"
        look="edge doctor" run="edge run" secret=agent.token ;;
    *)
        echo "now: edit $CONFIGURATION/$FILE, put certificate and key beside it (mode 640), then"
        look="ingest check" run="ingest serve" secret="*.key" ;;
esac
echo "  $shopfloor $look $CONFIGURATION/$FILE"
if [ -n "$SYSTEMD" ]; then
    echo "  chgrp $OWNER $CONFIGURATION/$secret && systemctl start $NAME"
else
    echo "  $shopfloor $run $CONFIGURATION/$FILE"
fi
