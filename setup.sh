#!/bin/sh
# Installs what a build and a demo need and this machine lacks: the guest's compilation target and the Postgres binaries.
# With the argument `tests` it also installs what some tests need, which are skipped without it, and with `integrations`
# what the tests of the packages need. If everything is there, it does nothing and prints nothing.
set -eu

fail() {
    echo "setup: $1" >&2
    exit 1
}

target=wasm32-unknown-unknown
command -v cargo >/dev/null || fail "there is no cargo: install Rust with rustup, https://rustup.rs"
# The compiler is asked, so that a Rust installed without rustup works too.
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

# Installs packages, as root or with sudo. Fails if neither works.
install() {
    command -v apt-get >/dev/null || return 1
    if [ "$(id -u)" = 0 ]; then
        sudo=
    elif command -v sudo >/dev/null; then
        sudo=sudo
    else
        return 1
    fi
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

if ! has_postgres; then
    echo "setup: installing the package postgresql for its binaries; a server that it may start is not used" >&2
    install postgresql || fail "there are no Postgres binaries: install the package postgresql, as root"
    has_postgres || fail "the package postgresql brought no initdb: install Postgres by hand"
fi

if [ "${1:-}" = tests ]; then
    # The ways in of other languages.
    command -v javac >/dev/null && [ -e /usr/share/java/gson.jar ] ||
        install openjdk-17-jdk-headless libgoogle-gson-java >&2 ||
        echo "setup: without Java 17 and Gson the test of the Java client is skipped" >&2
    command -v elixirc >/dev/null && [ -d /usr/lib/erlang/lib ] && ls -d /usr/lib/erlang/lib/jiffy-* >/dev/null 2>&1 ||
        install elixir erlang-jiffy >&2 ||
        echo "setup: without Elixir and jiffy the test of the Elixir client is skipped" >&2
    command -v python3 >/dev/null || install python3-minimal >&2 || fail "there is no python3, for the test of the Python client"
    for program in pgbouncer faketime; do
        command -v $program >/dev/null || [ -x /usr/sbin/$program ] || install $program >&2 ||
            echo "setup: without the program $program a fault test is skipped" >&2
    done
fi

if [ "${1:-}" = integrations ]; then
    # Debian's Node may be too old for the packages: npm brings others.
    command -v npm >/dev/null || install npm >&2 || fail "there is no npm: install Node.js 20 or later"
    python=${PYTHON:-python3}
    command -v "$python" >/dev/null && "$python" -c 'import ensurepip' 2>/dev/null ||
        install python3-venv >&2 || fail "$python has no venv: install Python 3.10 or later with it"
    # For the certificates of their tests.
    command -v openssl >/dev/null || install openssl >&2 || fail "there is no openssl: install it"
fi
