#!/bin/sh
# Links this bundle to an installed torch 2.11.0, and says whether everything is found.
#   ./setup-libtorch.sh            the torch of python3
#   ./setup-libtorch.sh PYTHON     the torch of this Python, such as /opt/venv/bin/python
#   ./setup-libtorch.sh FOLDER     the folder "lib" of a torch
set -eu
root=$(dirname "$(readlink -f "$0")")
from=${1:-python3}
case $from in -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
if [ -d "$from" ]; then
  torch=$(readlink -f "$from")
else
  torch=$("$from" -c 'import importlib.util, os
spec = importlib.util.find_spec("torch")
print(os.path.join(os.path.dirname(spec.origin), "lib") if spec else "")') || torch=
fi
if [ ! -e "$torch/libtorch_cpu.so" ]; then
  echo "setup-libtorch: $from has no torch: pip install torch==2.11.0" >&2
  exit 1
fi
if ! grep -q "^__version__ = '2\.11\.0[+']" "$torch/../version.py"; then
  echo "setup-libtorch: $torch is of another version than 2.11.0:" \
    "$(grep '^__version__' "$torch/../version.py")" >&2
  exit 1
fi
rm -f "$root/lib/torch"
ln -s "$torch" "$root/lib/torch"
path=$root/lib:$torch
for folder in "$torch"/../../nvidia/*/lib; do
  if [ -d "$folder" ]; then path=$path:$folder; fi
done
status=0
for program in facet-worker facet-cuda.so; do
  file=$root/libexec/facet/$program
  [ -e "$file" ] || continue
  missing=$(LD_LIBRARY_PATH=$path ldd "$file" | awk '/not found/ { print $1 }' | sort -u)
  if [ -z "$missing" ]; then
    echo "setup-libtorch: $program finds all of its libraries"
  elif [ "$program" = facet-cuda.so ]; then
    echo "setup-libtorch: $program: not found:" $missing "(models compute on the CPU only)"
  else
    echo "setup-libtorch: $program: not found:" $missing >&2
    status=1
  fi
done
exit $status
