#!/bin/sh
# Starts the program of this name with the libraries of this bundle and those of torch's wheel.
# FACET_TORCH_LIB: the folder lib of an installed torch 2.11.0; else lib/torch of the bundle, which
# setup-libtorch.sh links; else the torch of python3.
set -eu
self=$(readlink -f "$0")
root=$(dirname "$(dirname "$self")")
torch=${FACET_TORCH_LIB:-}
if [ -z "$torch" ] && [ -e "$root/lib/torch/libtorch_cpu.so" ]; then
  torch=$(readlink -f "$root/lib/torch")
fi
if [ -z "$torch" ]; then
  # Without importing it, which takes seconds.
  torch=$(python3 -c 'import importlib.util, os
spec = importlib.util.find_spec("torch")
print(os.path.join(os.path.dirname(spec.origin), "lib") if spec else "")' 2>/dev/null || true)
fi
path=$root/lib
if [ -n "$torch" ]; then
  path=$path:$torch
  for folder in "$torch"/../../nvidia/*/lib; do
    if [ -d "$folder" ]; then path=$path:$(readlink -f "$folder"); fi
  done
fi
LD_LIBRARY_PATH=$path${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
exec "$root/libexec/facet/$(basename "$self")" "$@"
