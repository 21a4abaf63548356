#!/usr/bin/env bash
# requests while every process is killed and stopped: lost, doubled, changed, leaked
set -euo pipefail
cd "$(dirname "$0")/../.."
exec "${FACET_CACHE:-$HOME/.cache/facet}/venv/bin/python" tests/integration/chaos.py \
  "${FACET_BUILD:-build/release}/bin" "$@"
