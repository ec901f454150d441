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

debian_package() { # name, what it is for
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        missing+=("$1 ($2): needs root and apt-get; install it from your distribution")
        return
    fi
    echo "installing $1 ($2)"
    # RUNLEVEL=1: the services of some start at once and take their ports.
    (apt-get update -q && RUNLEVEL=1 apt-get install -q -y --no-install-recommends "$1") \
        >"$bin/../$1.log" 2>&1 || missing+=("$1: see .tools/$1.log")
}

[ -e /usr/lib/postgresql/15/bin/postgres ] || debian_package postgresql-15 "tests on the oldest version supported"
ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || debian_package libfaketime "make chaos, clocks an hour off"
PATH="$PATH:/usr/sbin" command -v pgbouncer >/dev/null || debian_package pgbouncer "tests of poolers"
{ command -v prometheus && command -v promtool; } >/dev/null || debian_package prometheus "make verify-deploy, make cluster"

echo "installing what make verify-deploy checks with"
while read -r why; do missing+=("$why"); done < <(scripts/deploy_tools.sh)

echo "tools in .tools/bin: $(ls "$bin" | tr '\n' ' ')"
for line in "${missing[@]+"${missing[@]}"}"; do echo "could not install $line"; done
exit 0
