#!/usr/bin/env bash
# broker's send of a dispatch to the worker that has it, against an idle eventfd wake
set -euo pipefail
if [ "${1:-}" = --help ]; then
  cat <<'TEXT'
scripts/bench.sh dispatch [COUNT]
Broker's port and worker's mailbox, each in a process of its own and asleep before each sample, in
turn with a process asleep on an eventfd. From the broker's decision (the message is encoded after
it) to the worker that has the message (dispatch) and has decoded it (decoded). Last line: {count,
dispatch_p50_us, dispatch_p99_us, decoded_p50_us, decoded_p99_us, wake_p50_us, wake_p99_us,
p50_ratio, p99_ratio (of dispatch), decoded_p50_ratio, decoded_p99_ratio}; target p50_ratio <= 2.0,
p99_ratio <= 10 on an idle host.
TEXT
  exit 0
fi
exec "${FACET_BUILD:-build/release}/tests/dispatch_bench" "${1:-2000}"
