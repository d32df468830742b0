#!/usr/bin/env bash
# Installs what the project needs and this machine lacks; does nothing, quickly, when all is there.
#
#   ops/setup.sh            to run dotstream: Java 17+, Maven, npm, uv, and the Python environment .venv
#   ops/setup.sh --tests    headless Chromium too, and what --data brings
#   ops/setup.sh --data     the packages that `dotstream data prepare` builds from: 3-D models, photographs, OSMesa
#
# Debian packages are installed when this is root on a Debian system; otherwise the names of what is missing are printed.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=()

java_major() {
    java -version 2>&1 | sed -n 's/.*version "\(1\.\)\?\([0-9]*\).*/\2/p' | head -n 1
}

command -v java >/dev/null && [ "$(java_major)" -ge 17 ] 2>/dev/null || packages+=(default-jre-headless)
command -v mvn >/dev/null || packages+=(maven)
command -v npm >/dev/null || packages+=(npm)
if [ "${1:-}" = --tests ]; then
    command -v chromium >/dev/null || packages+=(chromium)
fi
if [ "${1:-}" = --tests ] || [ "${1:-}" = --data ]; then
    ls /usr/share/sweethome3d/furniture/*.sh3f >/dev/null 2>&1 || packages+=(sweethome3d-furniture)
    ls /usr/share/datasets/fashion-mnist/*.gz >/dev/null 2>&1 || packages+=(dataset-fashion-mnist)
    ldconfig -p | grep -q libOSMesa || packages+=(libosmesa6)
fi

uv=uv
if ! uv --version >/dev/null 2>&1; then
    uv=.uv/bin/uv
    if [ ! -x "$uv" ] && ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        packages+=(python3-venv)
    fi
fi

if [ ${#packages[@]} -gt 0 ]; then
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "missing on this machine: ${packages[*]}; install them (Debian: sudo apt-get install ${packages[*]})" >&2
        exit 1
    fi
    echo "installing ${packages[*]}" >&2
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi

if [ "$uv" = .uv/bin/uv ] && [ ! -x "$uv" ]; then
    echo "installing uv into .uv" >&2
    python3 -m venv .uv
    .uv/bin/pip install --quiet --disable-pip-version-check uv
fi

# Exactly what uv.lock says, with the Python that is here.
groups=()
[ "${1:-}" != --bench ] || groups=(--group bench)
UV_PYTHON_DOWNLOADS=never "$uv" sync --frozen --quiet "${groups[@]}"
