#!/usr/bin/env bash
# From a fresh clone to answers about real images: set up, build, serve the demo model with two
# workers, ask a question about each sample image, kill a worker on the way, check the answers.
# Usage: scripts/demo.sh [WORKERS]   (2 by default)
set -euo pipefail
cd "$(dirname "$0")/.."

workers=${1:-2}
samples=configs/samples/samples.jsonl
bin=build/release/bin
started=0

step() { printf '\n== %s\n' "$1"; started=$(date +%s%N); }
step_end() {
  local tenths=$((($(date +%s%N) - started) / 100000000))
  printf '   took %d.%d s\n' $((tenths / 10)) $((tenths % 10))
}

step "Set-up: packages and libtorch"
./scripts/setup.sh
step_end

step "Build"
cmake --preset release -Wno-dev >/dev/null
cmake --build --preset release --target facet_programs
step_end

work=$(mktemp -d "${TMPDIR:-/tmp}/facet-demo.XXXXXX")
answers=$work/answers.jsonl
daemon=
cleanup() {
  if [[ -n $daemon ]]; then
    kill -TERM "$daemon" 2>/dev/null || true
    wait "$daemon" || true
  fi
}
trap cleanup EXIT

step "Start the daemon with $workers workers"
cat >"$work/facet.toml" <<TOML
[model]
path = "$PWD/configs/demo-model"
[worker]
count = $workers
[broker]
runtime_dir = "$work/run"
[log]
file = "$work/facetd.log"
TOML
mkfifo "$work/ready"
$bin/facetd --config "$work/facet.toml" --ready-fd 9 9<>"$work/ready" &
daemon=$!
if ! read -r -n 1 -t 120 _ <>"$work/ready"; then
  cat "$work/facetd.log"
  exit 1
fi
export FACET_SOCKET=$work/run/facet.sock
$bin/facet status
step_end

step "Ask about the sample images; one worker is killed on the way"
python3 scripts/demo_kill_worker.py $bin/facet 1 >"$work/killed.json" &
killer=$!
asked=$(date +%s%N)
$bin/facet batch --questions $samples -o "$answers" --max-tokens 16
milliseconds=$((($(date +%s%N) - asked) / 1000000))
wait "$killer"
step_end

printf '\n'
python3 scripts/demo_table.py $samples "$answers" "$work/killed.json" $milliseconds
echo "Answers: $answers"
echo "Log:     $work/facetd.log"
