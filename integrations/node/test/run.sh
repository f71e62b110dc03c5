#!/bin/sh
# Runs everything: tests and types, the packed package, and the conformance suite on each version of Node and each way in.
# CIMD_CACHE_BIN is the cimd-cache command, CIMD_CACHE_CONFORMANCE the suite's program.
set -eu
: "${CIMD_CACHE_BIN:?the cimd-cache command}" "${CIMD_CACHE_CONFORMANCE:?the conformance suite}"
cd "$(dirname "$0")/.."

npm install --no-package-lock --no-audit --no-fund --silent
npm test
npm run conformance
