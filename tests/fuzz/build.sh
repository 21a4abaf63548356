#!/usr/bin/env bash
# Makes the fuzz targets (preset fuzz), all that tests run or those that are named. One build at a
# time: two presets' tests may want them at once.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p build/fuzz
exec 9>build/fuzz/lock
flock 9
cmake --preset fuzz --log-level=WARNING
cmake --build --preset fuzz --target "${@:-facet_fuzzers}"
