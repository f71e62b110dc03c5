#!/bin/sh
# Installs the server in the directory of that name, with the package cimd-cache as it would be published, and runs its tests.
# CIMD_CACHE_BIN is the cimd-cache command, NODE_VERSION a version of Node from npm; further words go to node.
set -eu
: "${CIMD_CACHE_BIN:?the cimd-cache command}"
cd "$(dirname "$0")/../$1"
shift

node ../../../integrations/node/scripts/generate.mjs
# npm keeps a copy of the same version, and this one may have changed.
rm -rf node_modules/cimd-cache
npm install --install-links --no-package-lock --no-audit --no-fund --silent

temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
npm install --prefix "$temporary" --no-audit --no-fund --silent "node@${NODE_VERSION:-24}"
"$temporary/node_modules/.bin/node" --test --test-concurrency=1 "$@"
