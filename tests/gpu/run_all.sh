#!/usr/bin/env bash
# All that wants a GPU: one line each and a JSON object last; exit code 1 when anything failed.
#   tests/gpu/run_all.sh BIN_DIR [NAME...]   BIN_DIR: build/release/bin; only these, in this order
# Names: kernels parts parity load logits answers flat crash transformers memcheck racecheck.
# The tests lie in BIN_DIR/../tests. FACET_PYTHON has numpy, pillow, pyzmq and msgpack,
# FACET_REFERENCE_PYTHON torch and transformers; FACET_TEST_LOGS keeps the whole output.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
bin=$(realpath "${1:?folder of facetd}")
shift
tests=$(realpath "$bin/../tests")
cache=${FACET_CACHE:-$HOME/.cache/facet}
python=${FACET_PYTHON:-$cache/venv/bin/python}
reference=${FACET_REFERENCE_PYTHON:-$cache/ref/bin/python}
logs=${FACET_TEST_LOGS:-$(mktemp -d)}
mkdir -p "$logs"
: >"$logs/results.tsv"
sanitizer=$(PATH=$PATH:/usr/local/cuda/bin command -v compute-sanitizer)

# run NAME SECONDS COMMAND...
run() {
  local name=$1 limit=$2 begin rc took word=ok what
  shift 2
  begin=$(date +%s%N)
  timeout --kill-after=10 "$limit" "$@" >"$logs/$name.log" 2>&1
  rc=$?
  took=$((($(date +%s%N) - begin) / 1000000))
  [ "$rc" = 0 ] || word=FAILED
  [ "$rc" = 124 ] && word="FAILED (over $limit s)"
  what=$(grep -E '^\[  (PASSED|FAILED) |ERROR SUMMARY|RACECHECK SUMMARY' "$logs/$name.log" |
    tail -3 | tr '\n\t' '; ')
  printf '%s\t%s\t%s.%03d s\t%s\n' "$name" "$word" $((took / 1000)) $((took % 1000)) "$what" |
    tee -a "$logs/results.tsv"
  [ "$rc" = 0 ] || grep -nE 'Failure|FAILED|rror|differ|DIFFER|not within' "$logs/$name.log" |
    head -12 | cut -c1-300
}

# Invalid accesses; races in shared memory. (Uninitialized reads are found by poisoned outputs.)
sanitize() {
  local name=$1 tool=$2 filter=$3 program=$4
  if [ -z "$sanitizer" ]; then
    printf '%s\tLEFT OUT\t0 s\tno compute-sanitizer here\n' "$name" | tee -a "$logs/results.tsv"
    return
  fi
  FACET_TEST_GPU=0 run "$name" 150 "$sanitizer" --tool "$tool" --error-exitcode 9 \
    "$tests/$program" --gtest_filter="$filter"
}

one() {
  case $1 in
    kernels) run "$1" 120 "$tests/kernels_test" ;;
    parts) run "$1" 120 "$tests/gpu_parts_test" ;;
    parity | load | logits) FACET_TEST_GPU=0 run "$1" 170 "$tests/$1_test" ;;
    answers) run "$1" 120 "$python" tests/gpu/gpu_answers_test.py "$bin" ;;
    flat) run "$1" 120 "$python" tests/gpu/flat_memory_test.py "$bin" ;;
    crash) run "$1" 150 "$python" scripts/bench/gpu_crash.py --bin "$bin" ;;
    transformers) run "$1" 240 "$reference" tests/gpu/transformers_logits_test.py "$tests" ;;
    memcheck)
      sanitize memcheck_kernels memcheck "-Sampler.EqualsTheEngine:ImagePatches.EqualTheProcessor" \
        kernels_test
      sanitize memcheck_parts memcheck "DeviceSampler.Histories*:ImageUpload.Odd*" gpu_parts_test
      sanitize memcheck_model memcheck "Parity.SmallChunksAndFewLanes" parity_test
      ;;
    racecheck)
      sanitize racecheck_kernels racecheck \
        "SmallOps.*:Sampler.Edges:Sampler.Ties*:Sampler.Logprobs:SegmentAttention.*:PagedDecode.*" \
        kernels_test
      ;;
    *) echo "run_all.sh: no test '$1'" >&2; exit 2 ;;
  esac
}

[ $# -gt 0 ] || set -- kernels parts parity load logits answers flat crash transformers memcheck \
  racecheck
for name in "$@"; do one "$name"; done

"$python" - "$logs" <<'P'
import json, os, sys
folder, results = sys.argv[1], {}
for line in open(os.path.join(folder, "results.tsv"), encoding="utf-8"):
    name, word, took, what = line.rstrip("\n").split("\t")
    results[name] = {"result": word, "seconds": float(took.split()[0])}
    last = None
    path = os.path.join(folder, name + ".log")
    if os.path.exists(path):
        for text in open(path, encoding="utf-8", errors="replace"):
            if text.startswith("{"):
                last = text
    if last:
        results[name]["figures"] = json.loads(last)
failed = [name for name, r in results.items() if r["result"] != "ok"]
print(json.dumps({"failed": failed, "results": results}))
sys.exit(1 if failed else 0)
P
