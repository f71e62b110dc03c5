#!/bin/sh
# Runs the Java client of service/clients as a way in. The first start compiles it, into target/; others wait for that.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
gson=${GSON_JAR:-/usr/share/java/gson.jar}
classes=${CARGO_TARGET_DIR:-$root/target}/ways/java

mkdir -p "$classes"
(
    flock 9
    for source in "$root/service/clients/CimdCache.java" "$root/tests/ways/JavaWay.java"; do
        if ! [ "$classes/compiled" -nt "$source" ]; then
            javac -Xlint:all,-serial -Werror -cp "$gson" -d "$classes" \
                "$root/service/clients/CimdCache.java" "$root/tests/ways/JavaWay.java" >&2
            touch "$classes/compiled"
        fi
    done
) 9>"$classes/lock"

# A process of the suite lives for a second: no time for the optimizing compiler or for threads of a collector.
exec java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx64m -cp "$classes:$gson" JavaWay
