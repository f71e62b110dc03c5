#!/bin/sh
# Runs everything: types, tests, the packaged wheel, and the conformance suite for each way in.
# CIMD_CACHE_BIN is the cimd-cache command, CIMD_CACHE_CONFORMANCE the suite's program.
set -eu
: "${CIMD_CACHE_BIN:?the cimd-cache command}" "${CIMD_CACHE_CONFORMANCE:?the conformance suite}"
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

venv=$(mktemp -d)
trap 'rm -rf "$venv"' EXIT
"$python" -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --requirement tests/requirements.txt
"$venv/bin/python" scripts/take_component.py
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --editable .

"$venv/bin/mypy"
"$venv/bin/python" -m pytest --quiet

cd ../..
way() {
    # With --service before it, a cimd-cache serve is started beside each copy.
    "$CIMD_CACHE_CONFORMANCE" run "$@"
}
for kind in service service-async; do
    way python-service --service "$venv/bin/python" integrations/python/tests/way.py "$kind"
done
for kind in in-process in-process-async asyncpg; do
    way python-in-process "$venv/bin/python" integrations/python/tests/way.py "$kind"
done
