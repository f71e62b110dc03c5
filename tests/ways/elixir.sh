#!/bin/sh
# Runs the Elixir client of service/clients as a way in, or with the argument AttestoWay the cache for attesto_phoenix that
# docs/clients.md shows. The first start compiles them, into target/; others wait for that.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
modules=${CARGO_TARGET_DIR:-$root/target}/ways/elixir

mkdir -p "$modules"
(
    flock 9
    for source in service/clients/cimd_cache.ex tests/ways/elixir.exs tests/ways/attesto.exs docs/clients.md; do
        if ! [ "$modules/compiled" -nt "$root/$source" ]; then
            cd "$root"
            # Erlang reads ahead: the requests on stdin are not for the compiler.
            elixirc --warnings-as-errors -o "$modules" \
                service/clients/cimd_cache.ex tests/ways/elixir.exs tests/ways/attesto.exs </dev/null >&2
            touch "$modules/compiled"
        fi
    done
) 9>"$modules/lock"

exec elixir -pa "$modules" -e "${1:-Way}.run()"
