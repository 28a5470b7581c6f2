#!/usr/bin/env bash
# Validates docker-compose.yml and deploy/ against the schemas of Compose and Kubernetes, and lints them. There is no Docker
# and no cluster in it: the tools are Python's, in an environment of their own in .cache.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=.cache/check-deploy
if [ ! -x "$tools/bin/kubernetes-validate" ]; then
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check \
    check-jsonschema==0.39.0 kubernetes-validate==1.37.0 yamllint==1.38.0
fi
manifests=$(ls deploy/kubernetes/*.yaml | grep -v kustomization)
"$tools/bin/check-jsonschema" --builtin-schema vendor.compose-spec docker-compose.yml
# shellcheck disable=SC2086
"$tools/bin/kubernetes-validate" --strict $manifests
"$tools/bin/yamllint" --strict --config-data \
  '{extends: default, rules: {line-length: {max: 160}, document-start: disable, braces: {max-spaces-inside: 1}, comments: {min-spaces-from-content: 1}}}' \
  docker-compose.yml deploy/kubernetes
sh -n deploy/make-secrets.sh
