#!/usr/bin/env bash
# broker's send of a dispatch to the worker that has it, against an idle eventfd wake
set -euo pipefail
if [ "${1:-}" = --help ]; then
  cat <<'TEXT'
scripts/bench.sh dispatch [COUNT]
Broker's router and worker's link, each in a process of its own and asleep before each sample, in
turn with a process asleep on an eventfd. Last line: {count, dispatch_p50_us, dispatch_p99_us,
wake_p50_us, wake_p99_us, p50_ratio, p99_ratio}; target p50_ratio <= 2.0 on an idle host.
TEXT
  exit 0
fi
exec "${FACET_BUILD:-build/release}/tests/dispatch_bench" "${1:-2000}"
