#!/bin/sh
# Tests the packages for Node and Python, and real auth servers that run on them. It installs what they need from npm and
# PyPI, in temporary directories and in node_modules. With arguments, only those: node, python, or the name of a server
# in tests/integrations.
set -eu
cd "$(dirname "$0")/.."

parts="node python"
for server in tests/integrations/*/run; do
    parts="$parts $(basename "$(dirname "$server")")"
done
for part in "$@"; do
    case " $parts " in
    *" $part "*) ;;
    *) echo "there is no $part: the parts are $parts" >&2 && exit 2 ;;
    esac
done

# As `make test` builds them, or everything would be built once more. The suite is a test target: its program has a
# name that only cargo knows. What it tests, the command, is built with it.
build() {
    cargo test --locked --workspace --features cimd-cache-cli/otlp --test conformance --no-run "$@"
}
build
suite=$(realpath "$(build 2>&1 | sed -n 's/^ *Executable .*(\(.*\))$/\1/p')")
export CIMD_CACHE_CONFORMANCE="$suite" CIMD_CACHE_BIN="${suite%/deps/*}/cimd-cache"

temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
if ! node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null; then
    npm install --prefix "$temporary" --no-audit --no-fund --silent node@24
    PATH="$temporary/node_modules/.bin:$PATH"
fi

for part in ${*:-$parts}; do
    echo "== $part"
    case $part in
    node) integrations/node/test/run.sh ;;
    python) integrations/python/tests/run.sh ;;
    *) "tests/integrations/$part/run" ;;
    esac
done
