#!/usr/bin/env bash
# Brings a bare Debian 12 to all that Facet needs to be built, tested and run.
#   scripts/setup.sh               Debian packages, libtorch for the CPU, a few Python packages
#   scripts/setup.sh --reference   also transformers, for comparisons with the reference (2.5 GB)
# What does not come from Debian goes to $FACET_CACHE (default ~/.cache/facet). A second run finds
# everything there and takes seconds.
set -euo pipefail

cache=${FACET_CACHE:-$HOME/.cache/facet}

packages=(
  build-essential cmake ninja-build ccache pkg-config ca-certificates python3 python3-venv
  libzmq3-dev cppzmq-dev libboost-dev libmsgpack-cxx-dev libspdlog-dev libtomlplusplus-dev
  libcli11-dev nlohmann-json3-dev libexpected-dev prometheus-cpp-dev libturbojpeg0-dev
  libjpeg62-turbo-dev libpng-dev libwebp-dev libexif-dev libseccomp-dev libsystemd-dev
  libxxhash-dev libpcre2-dev libutf8proc-dev libgtest-dev libbenchmark-dev fonts-dejavu-core
  fonts-dejavu-extra
  clang libclang-rt-14-dev llvm-14  # the fuzz tests; about 60 MB to fetch, 300 MB on disk
)
# The CPU needs three of torch's wheels; what else torch asks for is for GPUs and for Python.
torch_wheels=(torch==2.11.0 nvidia-cuda-cupti==13.0.85 nvidia-cuda-runtime==13.0.96)
torch_mb=530
tool_wheels=(numpy==2.4.6 pillow==13.0.0 pyzmq==27.3.0 msgpack==1.2.4 safetensors==0.8.0
             tokenizers==0.23.3)
tool_mb=35
reference_wheels=(torch==2.11.0 torchvision==0.26.0 transformers==5.17.0 "${tool_wheels[@]}" jinja2)
reference_mb=2500
fetch_failed="pip could not fetch the packages, see above; a run after this one goes on from here"

say() { printf '%s\n' "setup: $*"; }
fail() { say "$*" >&2; exit 1; }

# step NAME COMMAND...: runs it and says how long it took.
step() {
  local name=$1 begin=$EPOCHREALTIME
  shift
  "$@"
  awk -v name="$name" -v begin="$begin" -v end="$EPOCHREALTIME" \
    'BEGIN { printf "setup: %s: %.1f s\n", name, end - begin }'
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    fail "neither root nor sudo: have an administrator run: apt-get install $missing"
  fi
}

check_system() {
  local id='' version=''
  id=$(. /etc/os-release 2>/dev/null && echo "${ID:-}") || true
  version=$(. /etc/os-release 2>/dev/null && echo "${VERSION_ID:-}") || true
  command -v apt-get >/dev/null || fail "apt-get not found: this script is for Debian 12"
  [ "$id $version" = "debian 12" ] || say "tried on Debian 12 only; this is ${id:-unknown} $version"
  [ "$(uname -m)" = x86_64 ] || say "tried on x86_64 only; this is $(uname -m)"
}

# Free space before a fetch: an unpacked wheel is about three times its download.
check_space() {
  local folder=$1 needed_mb=$2 free_mb
  mkdir -p "$folder"
  free_mb=$(df -Pm "$folder" | awk 'NR == 2 { print $4 }')
  [ "$free_mb" -ge "$needed_mb" ] ||
    fail "$folder has $free_mb MB free, $needed_mb MB are needed; FACET_CACHE names another place"
}

missing_packages() {
  local package
  for package in "${packages[@]}"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
      printf '%s ' "$package"
  done
}

install_packages() {
  missing=$(missing_packages)
  if [ -z "$missing" ]; then
    say "Debian packages: already there (${#packages[@]})"
    return
  fi
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3
             -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0)
  say "Debian packages to install: $missing"
  as_root "${apt[@]}" update
  local bytes
  bytes=$("${apt[@]}" install --print-uris --no-install-recommends $missing |
          awk '/^\047/ { sum += $3 } END { print int(sum / 1e6) }')
  say "Debian packages: fetching $bytes MB"
  as_root "${apt[@]}" install -y --no-install-recommends $missing >/dev/null
}

# A virtual environment is complete when the stamp that its last step wrote names the same wheels,
# and the files of libtorch are there in the wanted version.
is_complete() {
  local venv=$1 stamp=$2 torch
  [ "$(cat "$venv/facet-stamp" 2>/dev/null)" = "$stamp" ] || return 1
  torch=$(echo "$venv"/lib/python3*/site-packages/torch)
  "$venv/bin/python" -c '' 2>/dev/null &&
    [ -s "$torch/lib/libtorch_cpu.so" ] && [ -s "$torch/lib/libc10.so" ] &&
    [ -s "$torch/include/ATen/ATen.h" ] &&
    grep -q "^__version__ = '2\.11\.0[+']" "$torch/version.py"
}

# Each line of libtorch's dependencies must be found: a broken download is named now, not when
# the first worker starts.
check_libtorch() {
  local venv=$1 torch lost
  torch=$(echo "$venv"/lib/python3*/site-packages/torch)
  lost=$(ldd "$torch/lib/libtorch_cpu.so" "$torch/lib/libc10.so" | awk '/not found/ { print $1 }')
  [ -z "$lost" ] || fail "libtorch does not find $lost; remove $venv and run again"
}

# make_venv NAME MB WHEELS...: the wheels before "--" are taken as they are, without what they
# depend on; those after it with their dependencies.
make_venv() {
  local name=$1 megabytes=$2 venv=$cache/$1 stamp alone=() whole=() wheel
  shift 2
  stamp="python $(python3 -c 'import sys; print(*sys.version_info[:2])') $*"
  if is_complete "$venv" "$stamp"; then
    say "$venv: already there"
    return
  fi
  check_space "$cache" $((megabytes * 4))
  say "$venv: fetching about $megabytes MB"
  # Finished once and not whole now: pip would believe what it wrote down, so start afresh.
  [ "$(cat "$venv/facet-stamp" 2>/dev/null)" != "$stamp" ] || rm -rf "$venv"
  rm -f "$venv/facet-stamp"
  [ -x "$venv/bin/pip" ] && "$venv/bin/python" -c '' 2>/dev/null ||
    { rm -rf "$venv" && python3 -m venv "$venv"; }
  local into=alone
  for wheel in "$@"; do
    if [ "$wheel" = -- ]; then into=whole; else eval "$into+=(\"\$wheel\")"; fi
  done
  local pip=("$venv/bin/pip" install --quiet --disable-pip-version-check --retries 5 --timeout 60
             --only-binary :all:)
  [ ${#alone[@]} -eq 0 ] || "${pip[@]}" --no-deps "${alone[@]}" || fail "$fetch_failed"
  [ ${#whole[@]} -eq 0 ] || "${pip[@]}" "${whole[@]}" || fail "$fetch_failed"
  check_libtorch "$venv"
  printf '%s\n' "$stamp" >"$venv/facet-stamp"
  is_complete "$venv" "$stamp" || fail "$venv is not what was asked for; remove it and run again"
}

say_about_gpus() {
  if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then
    say "GPU: $(nvidia-smi -L | wc -l) found; what they compute with comes by --reference"
  else
    say "GPU: none found; the CPU computes"
  fi
}

main() {
  local with_reference=false begin=$SECONDS
  for argument in "$@"; do
    case $argument in
      --reference) with_reference=true ;;
      -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
      *) fail "unknown argument $argument; --help says what there is" ;;
    esac
  done
  check_system
  mkdir -p "$cache"
  # Two runs at once would write into the same folders.
  exec 9>"$cache/setup.lock"
  flock -n 9 || { say "another set-up is running; waiting for it" && flock 9; }
  step "Debian packages" install_packages
  step "libtorch and Python packages" make_venv venv $((torch_mb + tool_mb)) \
    "${torch_wheels[@]}" "${tool_wheels[@]}"
  if $with_reference; then
    step "reference packages" make_venv ref $reference_mb -- "${reference_wheels[@]}"
  fi
  say_about_gpus
  say "done in $((SECONDS - begin)) s"
}

main "$@"
