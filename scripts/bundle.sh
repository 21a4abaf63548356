#!/usr/bin/env bash
# Makes a folder and a tarball that run on another host, wherever they are unpacked: the programs,
# the libraries that a host with torch's wheel lacks, configuration and unit file.
#   scripts/bundle.sh [--build DIR] [--output DIR] [--no-build] [--demo-model]
# --build: the build folder (build/release); it is brought up to date unless --no-build is given.
# --output: where folder and tarball go (build/bundle). --demo-model: with the demo model (12 MB).
# Left out: glibc, libstdc++, torch and CUDA. The last two come with torch's wheel on that host.
set -euo pipefail
cd "$(dirname "$0")/.."

build=build/release output=build/bundle with_build=true with_model=false
while [ $# -gt 0 ]; do
  case $1 in
    --build) build=${2:?--build needs a folder}; shift 2 ;;
    --output) output=${2:?--output needs a folder}; shift 2 ;;
    --no-build) with_build=false; shift ;;
    --demo-model) with_model=true; shift ;;
    -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "bundle: unknown argument $1; --help says what there is" >&2; exit 2 ;;
  esac
done

say() { printf '%s\n' "bundle: $*"; }
fail() { say "$*" >&2; exit 1; }

programs=(facetd facet facet-broker facet-decoder facet-worker facet-worker-echo facet-cuda.so)
# Of glibc and gcc: every host that runs torch has them, and they must fit its kernel and loader.
kept_out='^(ld-linux.*|lib(c|m|dl|rt|pthread|resolv|util|nsl|anl|stdc\+\+|gcc_s|gomp))\.so'
torch_and_cuda='^lib(torch|c10|cu|nv|nccl|shm)'

if $with_build; then
  cmake -S . --preset "$(basename "$build")" -Wno-dev >/dev/null
  cmake --build "$build" --target facet_programs
fi
version=$("$build/bin/facetd" --version | awk '{ print $NF }')
name=facet-$version-linux-$(uname -m)
mkdir -p "$output"
output=$(realpath "$output")
root=$output/$name
rm -rf "$root" "$root.tar.gz"
mkdir -p "$root"/{bin,lib,libexec/facet,etc,share/facet,share/doc/facet/licences}

for program in "${programs[@]}"; do
  if [ ! -e "$build/bin/$program" ]; then
    case $program in
      facet-cuda.so) say "no $program in $build/bin: this bundle computes on the CPU"; continue ;;
      facet-worker) say "no $program in $build/bin: this bundle runs no model"; continue ;;
      *) fail "no $program in $build/bin: build first" ;;
    esac
  fi
  cp "$build/bin/$program" "$root/libexec/facet/"
  strip --strip-unneeded "$root/libexec/facet/$program"
done
# The way to the build host's torch means nothing elsewhere.
for program in "$root"/libexec/facet/facet-worker "$root"/libexec/facet/facet-cuda.so; do
  [ ! -e "$program" ] || cmake -DPROGRAM="$program" -P scripts/cmake/remove_runpath.cmake
done

# What ldd finds, dependencies of dependencies included.
for program in "${programs[@]}"; do
  [ ! -e "$build/bin/$program" ] || ldd "$build/bin/$program"
done | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u |
  while read -r library; do
    file=$(basename "$library")
    if [[ $file =~ $kept_out || $file =~ $torch_and_cuda ]]; then continue; fi
    cp -L "$library" "$root/lib/$file"
    chmod 755 "$root/lib/$file"
    package=$(dpkg-query -S "$(realpath "$library")" 2>/dev/null | cut -d: -f1 | head -n 1) || true
    if [ -n "$package" ] && [ -e "/usr/share/doc/$package/copyright" ]; then
      cp -L "/usr/share/doc/$package/copyright" "$root/share/doc/facet/licences/$package"
    fi
  done
strip --strip-unneeded "$root"/lib/*

for program in facetd facet; do
  install -m 755 scripts/bundle/start.sh "$root/bin/$program"
done
install -m 755 scripts/bundle/setup-libtorch.sh "$root/"
sed 's|^path = "demo-model"|path = "/path/to/a/model"|' configs/facet.toml >"$root/etc/facet.toml"
sed 's|/usr/local/bin/|/opt/facet/bin/|g' configs/systemd/facet.service >"$root/etc/facet.service"
cp configs/systemd/facet.sysusers "$root/etc/"
cp LICENSE "$root/share/doc/facet/"
cp scripts/bundle/INSTALL.md "$root/"
if $with_model; then cp -r configs/demo-model "$root/share/facet/"; fi

tar -C "$output" --owner=0 --group=0 --sort=name -czf "$root.tar.gz" "$name"
say "$root: $(du -sm --apparent-size "$root" | cut -f1) MB"
say "$root.tar.gz: $(du -m --apparent-size "$root.tar.gz" | cut -f1) MB"
