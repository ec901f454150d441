#!/usr/bin/env bash
# Installs pinned optional tools into .tools, and says at the end what it could not.
# Nothing of it is needed for `make demo` and `make test`; tests that use a tool skip without it.
set -u
cd "$(dirname "$0")/.." || exit 1
bin="$PWD/.tools/bin"
mkdir -p "$bin"
missing=()

go_tool() { # name, module@version
    [ -e "$bin/$1" ] && return
    if ! command -v go >/dev/null; then missing+=("$1: needs Go"); return; fi
    echo "building $1 ($2)"
    if ! GOBIN="$bin" GOTOOLCHAIN=auto go install "$2" >"$bin/../$1.log" 2>&1; then
        missing+=("$1: go install failed, see .tools/$1.log")
    fi
}

go_tool grpcurl github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4
go_tool protoc-gen-go google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
go_tool protoc-gen-go-grpc google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2

echo "fetching TLC (models)"
why=$(scripts/tlc.sh) || missing+=("$why")

if [ ! -e /usr/lib/postgresql/15/bin/postgres ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing PostgreSQL 15"
        (apt-get update -q && apt-get install -q -y --no-install-recommends postgresql-15) \
            >"$bin/../postgresql-15.log" 2>&1 || missing+=("postgresql-15: see .tools/postgresql-15.log")
    else
        missing+=("postgresql-15: needs root and apt-get; install it from your distribution")
    fi
fi

if ! ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing libfaketime"
        (apt-get update -q && apt-get install -q -y --no-install-recommends libfaketime) \
            >"$bin/../libfaketime.log" 2>&1 || missing+=("libfaketime: see .tools/libfaketime.log")
    else
        missing+=("libfaketime (make chaos, clocks an hour off): needs root and apt-get; install it from your distribution")
    fi
fi

if ! PATH="$PATH:/usr/sbin" command -v pgbouncer >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing pgbouncer"
        (apt-get update -q && apt-get install -q -y --no-install-recommends pgbouncer) \
            >"$bin/../pgbouncer.log" 2>&1 || missing+=("pgbouncer: see .tools/pgbouncer.log")
    else
        missing+=("pgbouncer: needs root and apt-get; install it from your distribution")
    fi
fi

if ! command -v prometheus >/dev/null || ! command -v promtool >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing Prometheus"
        # Its service would start at once and take port 9090.
        (apt-get update -q && RUNLEVEL=1 apt-get install -q -y --no-install-recommends prometheus) \
            >"$bin/../prometheus.log" 2>&1 || missing+=("prometheus: see .tools/prometheus.log")
    else
        missing+=("prometheus (make verify-deploy, make cluster): needs root and apt-get; install it from your distribution")
    fi
fi

echo "installing what make verify-deploy checks with"
while read -r why; do missing+=("$why"); done < <(scripts/deploy_tools.sh)

echo "tools in .tools/bin: $(ls "$bin" | tr '\n' ' ')"
for line in "${missing[@]+"${missing[@]}"}"; do echo "could not install $line"; done
exit 0
