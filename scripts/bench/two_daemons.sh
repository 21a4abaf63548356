#!/usr/bin/env bash
# two daemons started together on one configuration, 1000 times: one serves, the other says who
set -euo pipefail
cd "$(dirname "$0")/../.."
exec "${FACET_CACHE:-$HOME/.cache/facet}/venv/bin/python" tests/integration/two_daemons.py \
  "${FACET_BUILD:-build/release}/bin" "$@"
