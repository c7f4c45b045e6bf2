#!/bin/bash
# Sees to it that the system's share of what idcfs needs is there.
#
#   system-packages.sh run     what `make demo` needs: FUSE, and what compiles pyfuse3
#   system-packages.sh test    that, and the programs which the tests run over a mount
#   system-packages.sh bench   the first, and what the benchmark compares with and runs through
#
# Looks for the programs and headers themselves and asks apt only for what is missing, so
# that a user without root works on where an administrator has installed it.
# PYTHON is the interpreter meant for the virtual environments.
set -euo pipefail

wanted=${1:?"run, test or bench"}
python=${PYTHON:?"the interpreter to use"}

missing() {
    # Prints the packages, one a line, whose program or header is not there.
    local name
    has fusermount3 || echo fuse3
    has gcc || echo gcc
    if ! has pkg-config; then
        echo pkg-config libfuse3-dev
    elif ! pkg-config --exists fuse3; then
        echo libfuse3-dev
    fi
    name=$(basename "$python")
    if ! has "$python"; then
        echo python3 python3-dev python3-venv
    else
        "$python" -c 'import ensurepip' 2>/dev/null || echo "$name-venv"
        "$python" - <<'PYTHON' || echo "$name-dev"
import pathlib, sys, sysconfig
sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())
PYTHON
    fi
    if [ "$wanted" = test ]; then
        { has dcmdump && has dcmftest; } || echo dcmtk
        has gdcminfo || echo libgdcm-tools
        has dcm2niix || echo dcm2niix
        has rsync || echo rsync
        has getfattr || echo attr
        has ps || echo procps
        { has findmnt && has setpriv && has unshare; } || echo util-linux
        has systemd-analyze || echo systemd
        { has ip || [ -x /usr/sbin/ip ]; } || echo iproute2
    fi
    if [ "$wanted" != run ]; then
        { has nginx || [ -x /usr/sbin/nginx ]; } || echo nginx
    fi
    if [ "$wanted" = bench ]; then
        has s3fs || echo s3fs
        [ -e /usr/lib/nginx/modules/ngx_http_lua_module.so ] || echo libnginx-mod-http-lua
    fi
}

has() {
    command -v "$1" >/dev/null
}

refuse() {
    echo "idcfs needs system packages that are not there. Please run this, then try again:" >&2
    echo "    $*" >&2
    exit 1
}

if has "$python" &&
    ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "idcfs needs Python 3.11 or later, and $python is older." >&2
    echo "Please say which one to use: make PYTHON=/path/to/python3" >&2
    exit 1
fi

packages=$(missing | xargs)
[ -n "$packages" ] || exit 0

# Word splitting of $packages is wanted from here on.
if ! has apt-get; then
    echo "idcfs needs what Debian and Ubuntu call: $packages" >&2
    echo "Please install it with this system's package manager, then try again." >&2
    exit 1
elif [ "$(id -u)" = 0 ]; then
    as_root=()
elif has sudo && { [ -t 0 ] || sudo --non-interactive true 2>/dev/null; }; then
    as_root=(sudo)
else
    refuse "sudo apt-get install --no-install-recommends $packages"
fi

echo "• system packages: $packages"
apt() {
    # Quiet when all goes well; the whole story when not.
    local log
    log=$(mktemp)
    if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq "$@" >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}
# Tests and benchmark run nginx themselves: Debian is not to start it as a service.
policy=/usr/sbin/policy-rc.d
if [ "$wanted" != run ] && ! [ -e "$policy" ]; then
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
fi
apt update || echo "  (the package lists could not be refreshed; trying with those at hand)" >&2
# shellcheck disable=SC2086
apt install --yes --no-install-recommends $packages ||
    refuse "sudo apt-get update && sudo apt-get install --no-install-recommends $packages"

packages=$(missing | xargs)
[ -z "$packages" ] || { echo "still missing after the installation: $packages" >&2; exit 1; }
