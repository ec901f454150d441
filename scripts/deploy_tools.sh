#!/usr/bin/env bash
# Installs what `make verify-deploy` checks with into .tools/deploy, pinned. Prints a line for each tool that could not be.
set -u
cd "$(dirname "$0")/.." || exit 1
tools="$PWD/.tools"
mkdir -p "$tools/bin" "$tools/deploy"

compose=github.com/compose-spec/compose-go/v2/cmd@v2.16.2
if [ ! -e "$tools/bin/compose-check" ]; then
    if ! command -v go >/dev/null; then
        echo "compose-check: needs Go"
    # The program is called `cmd`, so it is built aside and renamed.
    elif GOBIN="$tools/deploy" GOTOOLCHAIN=auto go install "$compose" >"$tools/compose-check.log" 2>&1; then
        mv "$tools/deploy/cmd" "$tools/bin/compose-check"
    else
        echo "compose-check: go install failed, see .tools/compose-check.log"
    fi
fi

python=${PYTHON:-.venv/bin/python}
if [ ! -e "$tools/deploy/venv/bin/kubernetes-validate" ]; then
    if ! { "$python" -m venv "$tools/deploy/venv" || python3 -m venv "$tools/deploy/venv"; } \
        >"$tools/kubernetes-validate.log" 2>&1 ||
        ! "$tools/deploy/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
            -r deploy/checks/requirements.txt >>"$tools/kubernetes-validate.log" 2>&1; then
        echo "kubernetes-validate: pip failed, see .tools/kubernetes-validate.log"
    fi
fi

want=$(sha256sum deploy/grafana/check/package-lock.json | cut -d' ' -f1)
if [ "$(cat "$tools/deploy/grafana/.installed" 2>/dev/null)" != "$want" ]; then
    if ! command -v npm >/dev/null; then
        echo "tsc with @grafana/schema: needs Node.js and npm"
    else
        mkdir -p "$tools/deploy/grafana"
        cp deploy/grafana/check/package.json deploy/grafana/check/package-lock.json "$tools/deploy/grafana/"
        if npm --prefix "$tools/deploy/grafana" ci --ignore-scripts --no-audit --no-fund >"$tools/grafana-schema.log" 2>&1; then
            echo "$want" >"$tools/deploy/grafana/.installed"
        else
            echo "tsc with @grafana/schema: npm ci failed, see .tools/grafana-schema.log"
        fi
    fi
fi
exit 0
