#!/usr/bin/env bash
# Installs what the tests can be run against beyond the embedded stack: Redis, Postgres and an S3 server. Starts
# nothing: tests start what they need on free ports, in temporary folders. Run it as often as you like.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
command -v redis-server >/dev/null || missing+=(redis-server)
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
if [ "${#missing[@]}" -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    # Packages must not start servers of their own (101: not allowed), nor make a default cluster.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
      printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
      trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    apt-get install -q -y --no-install-recommends "${missing[@]}"
  else
    echo "Not installed (needs root and apt-get): ${missing[*]}; their tests will be skipped." >&2
  fi
fi

version=v1.8.0
if [ ! -x .cache/bin/versitygw ] && ! command -v versitygw >/dev/null; then
  if command -v go >/dev/null; then
    mkdir -p .cache/bin
    GOBIN="$PWD/.cache/bin" go install "github.com/versity/versitygw/cmd/versitygw@$version"
  else
    echo "No S3 server (needs go to build versitygw $version): its tests will be skipped." >&2
  fi
fi
