#!/bin/sh
# Installs, upgrades or removes a Shopfloor edge agent from the archive that this file lies in. No network is used.
set -eu
# The service's user has to read what root installs; what is nobody else's has its mode below.
umask 022

PREFIX=/opt/shopfloor-edge
CONFIGURATION=/etc/shopfloor-edge
DATA=/var/lib/shopfloor-edge
OWNER=shopfloor-edge
UNIT=/etc/systemd/system/shopfloor-edge.service
COMMAND=/usr/local/bin/shopfloor
PYTHON=
SYSTEMD=yes
ACTION=install
HERE=$(cd "$(dirname "$0")" && pwd)

usage() {
    cat <<END
usage: install.sh [--prefix DIR] [--no-systemd] [--python PYTHON] [--uninstall]

  --prefix DIR       where to install (default $PREFIX)
  --no-systemd       no unit and no user: everything lies below --prefix, root is not needed
  --python PYTHON    the Python to use, such as python3.12
  --uninstall        remove the agent; its configuration and its buffer stay

Configuration and buffer are never overwritten: running it again with a newer archive is the upgrade.
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

uninstall() {
    if [ -n "$SYSTEMD" ] && [ -e "$UNIT" ]; then
        systemctl disable --now shopfloor-edge.service
        rm -f "$UNIT"
        systemctl daemon-reload
    fi
    if [ -n "$SYSTEMD" ] && [ "$(readlink "$COMMAND" || true)" = "$PREFIX/current/bin/shopfloor" ]; then
        rm -f "$COMMAND"
    fi
    rm -rf "$PREFIX/releases" "$PREFIX/current"
    echo "removed; these stay: $CONFIGURATION (configuration), $DATA (buffer, with what was not delivered)"
}

# What this archive is for: VERSION, MACHINE, PYTHON_VERSION and RELEASE.
check_platform() {
    [ "$(uname -s)" = Linux ] || refuse "this archive is for Linux, this is $(uname -s)"
    machine=$(uname -m)
    [ "$machine" = arm64 ] && machine=aarch64
    [ "$machine" = "$MACHINE" ] || refuse "this archive is for $MACHINE, this machine is $machine: make edge-bundle PLATFORM=$machine"
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
    refuse "this archive is for Python $PYTHON_VERSION${others:-, and there is no Python}: make edge-bundle FOR_PYTHON=X.Y"
}

# Whole or not at all: what runs now stays until the new one works, and one step back is kept.
install_release() {
    target=$PREFIX/releases/$RELEASE
    # A link to the system's Python breaks when that is replaced.
    if [ ! -e "$target/complete" ] || ! "$target/bin/shopfloor" edge --version >/dev/null 2>&1; then
        rm -rf "$target"
        mkdir -p "$PREFIX/releases"
        # pip comes along: many gateways have Python without it.
        "$PYTHON" -m venv --without-pip "$target" || refuse "$PYTHON -m venv failed"
        PYTHONPATH=$(echo "$HERE"/pip/pip-*.whl) PIP_CONFIG_FILE=/dev/null PIP_DISABLE_PIP_VERSION_CHECK=1 \
            PIP_ROOT_USER_ACTION=ignore \
            "$target/bin/python" -m pip install --quiet --no-cache-dir --no-index --find-links "$HERE/wheels" \
            --no-deps --require-hashes --requirement "$HERE/requirements.txt"
        cp "$HERE/README.md" "$target/"
        "$target/bin/shopfloor" edge --version >/dev/null
        : >"$target/complete"
    fi
    if [ -n "$SYSTEMD" ]; then
        runuser -u "$OWNER" -- "$target/bin/shopfloor" edge --version >/dev/null ||
            refuse "user $OWNER can't run $target/bin/shopfloor: everybody must be able to enter $PREFIX and what is above it"
    fi
    before=$(readlink "$PREFIX/current" || true)
    ln -sfn "releases/$RELEASE" "$PREFIX/current.new"
    mv -T "$PREFIX/current.new" "$PREFIX/current"
    # Installed once more: the one before this one still is the step back.
    [ "$before" != "releases/$RELEASE" ] || return 0
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
    if [ ! -e "$CONFIGURATION/agent.yaml" ]; then
        sed "s|@DATA@|$DATA|" "$HERE/agent.sample.yaml" >"$CONFIGURATION/agent.yaml"
        chmod 640 "$CONFIGURATION/agent.yaml"
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
    chown "root:$OWNER" "$CONFIGURATION" "$CONFIGURATION/agent.yaml"
    chmod 750 "$CONFIGURATION"
    chown "$OWNER:$OWNER" "$DATA"
    chmod 750 "$DATA"
    sed "s|/opt/shopfloor-edge|$PREFIX|" "$HERE/shopfloor-edge.service" >"$UNIT"
    if [ ! -e "$COMMAND" ] || [ -L "$COMMAND" ]; then
        ln -sfn "$PREFIX/current/bin/shopfloor" "$COMMAND"
    fi
    systemctl daemon-reload
    systemctl enable --quiet shopfloor-edge.service
    systemctl try-restart shopfloor-edge.service
}

if [ $ACTION = uninstall ]; then
    uninstall
    exit 0
fi
. "$HERE/platform"
check_platform
find_python
[ -z "$SYSTEMD" ] || install_user
install_release
install_configuration
shopfloor=$PREFIX/current/bin/shopfloor
[ -z "$SYSTEMD" ] || install_service
installed=$("$shopfloor" edge --version)
echo "$installed is installed in $PREFIX"
if [ -n "${fresh:-}" ]; then
    echo "now: edit $CONFIGURATION/agent.yaml, put the token into $CONFIGURATION/agent.token (mode 640), then"
    echo "  $shopfloor edge doctor $CONFIGURATION/agent.yaml"
    if [ -n "$SYSTEMD" ]; then
        echo "  chgrp $OWNER $CONFIGURATION/agent.token && systemctl start shopfloor-edge"
    else
        echo "  $shopfloor edge run $CONFIGURATION/agent.yaml"
    fi
fi
