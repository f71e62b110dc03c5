#!/bin/sh
# Tests the packages for Node and Python, and real auth servers that run on them. It installs what they need from npm and
# PyPI, into temporary directories. With arguments, only those: node, python, or the name of a server in
# tests/integrations.
set -eu
cd "$(dirname "$0")/.."

# As `make test` builds them, or everything would be built once more. The suite is a test target: its program has a
# name that only cargo knows. What it tests, the command, is built with it.
suite=$(cargo test --locked --workspace --features cimd-cache-cli/otlp --test conformance --no-run 2>&1 |
    sed -n 's/^ *Executable .*(\(.*\))$/\1/p')
export CIMD_CACHE_BIN="$PWD/target/debug/cimd-cache" CIMD_CACHE_CONFORMANCE="$PWD/$suite"

wanted() {
    [ $# -gt 1 ] || return 0
    name=$1
    shift
    for each in "$@"; do [ "$each" = "$name" ] && return 0; done
    return 1
}

if wanted node "$@"; then
    (
        cd integrations/node
        npm install --no-package-lock --no-audit --no-fund --silent
        npm test
        npm run conformance
    )
fi
if wanted python "$@"; then
    integrations/python/tests/run.sh
fi
for server in tests/integrations/*/run; do
    name=$(basename "$(dirname "$server")")
    if wanted "$name" "$@"; then
        echo "== $name"
        "$server"
    fi
done
