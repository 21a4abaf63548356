#!/usr/bin/env bash
# Runs a bench of scripts/bench/ on a build; each prints one JSON object as its last line.
#   scripts/bench.sh NAME [arguments]   scripts/bench/NAME.sh or NAME.py; --help says which
#   scripts/bench.sh --help             what benches there are
#   scripts/bench.sh NAME --help        what a bench takes and measures
# FACET_BUILD names the build folder (build/release when unset), FACET_PYTHON the Python of benches
# in Python (the one of scripts/setup.sh when unset; it needs numpy, pillow, pyzmq and msgpack).
set -euo pipefail
cd "$(dirname "$0")/.."

benches=scripts/bench
export FACET_BUILD
FACET_BUILD=$(realpath -m "${FACET_BUILD:-build/release}")
python=$(command -v "${FACET_PYTHON:-${FACET_CACHE:-$HOME/.cache/facet}/venv/bin/python}" || true)

list() {
  sed -n '2,7s/^# \{0,1\}//p' "$0"
  echo
  local file
  # A bench says what it is in the line after its "#!" or in the first line of its docstring.
  for file in "$benches"/*.sh "$benches"/*.py; do
    [ -x "$file" ] || continue
    printf '  %-12s %s\n' "$(basename "${file%.*}")" \
      "$(sed -n '2{s/^# *//;s/^"""//;p}' "$file")"
  done
}

case ${1:-} in
  "" | -h | --help) list; [ $# -gt 0 ] || exit 2; exit 0 ;;
  *[!a-z0-9_]*) echo "bench: '$1' is no name of a bench; --help lists them" >&2; exit 2 ;;
esac

name=$1
shift
if [ -x "$benches/$name.sh" ]; then
  exec "$benches/$name.sh" "$@"
elif [ -x "$benches/$name.py" ]; then
  [ -n "$python" ] || { echo "bench: no Python; run scripts/setup.sh" >&2; exit 2; }
  exec "$python" "$benches/$name.py" "$@"
fi
echo "bench: no bench '$name' in $benches; --help lists them" >&2
exit 2
