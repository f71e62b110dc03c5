#!/bin/sh
# Installs what a build and a test need and this machine lacks: the guest's compilation target, and the binaries of
# Postgres. Does nothing, and says nothing, where both are there.
set -eu

fail() {
    echo "setup: $1" >&2
    exit 1
}

target=wasm32-unknown-unknown
command -v cargo >/dev/null || fail "there is no cargo: install Rust with rustup, https://rustup.rs"
# The compiler's own answer, so that a Rust that did not come by rustup will do too.
if ! [ -d "$(rustc --print target-libdir --target "$target")" ]; then
    command -v rustup >/dev/null || fail "there is neither the target $target nor rustup: install the target's standard library"
    rustup target add "$target"
fi

has_postgres() {
    command -v initdb >/dev/null && return
    for initdb in /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb \
        /opt/homebrew/opt/postgresql@*/bin/initdb /usr/local/opt/postgresql@*/bin/initdb; do
        [ -x "$initdb" ] && return
    done
    return 1
}

if ! has_postgres; then
    command -v apt-get >/dev/null || fail "there are no Postgres binaries: install Postgres with this system's packages"
    if [ "$(id -u)" = 0 ]; then
        sudo=
    elif command -v sudo >/dev/null; then
        sudo=sudo
    else
        fail "there are no Postgres binaries: install them as root, with: apt-get install postgresql"
    fi
    echo "setup: installing the package postgresql, for its binaries; the server it may start is not used" >&2
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql
    has_postgres || fail "the package postgresql brought no initdb: install Postgres by hand"
fi
