#!/usr/bin/env bash
# Sets up, builds and runs all tests; ends with the time of each step and an honest exit code.
#   scripts/test.sh                 preset release
#   scripts/test.sh --preset asan   asan (with UBSan) or tsan instead
#   scripts/test.sh --no-setup      where scripts/setup.sh has run already
set -euo pipefail
cd "$(dirname "$0")/.."

preset=release
with_setup=true
while [ $# -gt 0 ]; do
  case $1 in
    --preset) preset=${2:?--preset needs a name}; shift 2 ;;
    --no-setup) with_setup=false; shift ;;
    -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "test: unknown argument $1; --help says what there is" >&2; exit 2 ;;
  esac
done

timings=()
# step NAME COMMAND...: runs it, notes its seconds, ends the script if it fails.
step() {
  local name=$1 begin=$SECONDS status=0
  shift
  echo "test: == $name"
  "$@" || status=$?
  timings+=("$(printf '%-10s %5d s' "$name" $((SECONDS - begin)))")
  [ $status = 0 ] || finish $status
}

finish() {
  echo "test: == times ($preset, $(nproc) cores)"
  printf 'test: %s\n' "${timings[@]}" "$(printf '%-10s %5d s' total $SECONDS)"
  [ "$1" = 0 ] && echo "test: passed" || echo "test: FAILED"
  exit "$1"
}

run_tests() {
  local jobs leave_out=()
  jobs=$(nproc)
  if ! { command -v nvidia-smi && nvidia-smi -L | grep -q GPU; } >/dev/null 2>&1; then
    echo "test: no GPU here: tests labelled gpu are left out"
    leave_out=(--label-exclude '^gpu$')
  fi
  local runner=()
  # gcc 12's ThreadSanitizer finds no place for its shadow where addresses are randomized further.
  if [ "$preset" = tsan ] && [ "$(cat /proc/sys/vm/mmap_rnd_bits)" -gt 28 ]; then
    runner=(setarch -R)
  fi
  "${runner[@]}" ctest --test-dir "build/$preset" -j "$jobs" --output-on-failure \
    --no-tests=error "${leave_out[@]}"
}

$with_setup && step set-up ./scripts/setup.sh
step configure cmake --preset "$preset"
step build cmake --build --preset "$preset"
step tests run_tests
finish 0
