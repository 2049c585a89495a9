#!/usr/bin/env bash
# Runs the CUDA programs of a first run on a machine without a GPU, against a driver that computes nothing
# (gpu/stand_in.c). It shows that no operation asks for something that CUDA lacks, and counts the launches that the
# library really makes.
#
#   gpu/rehearse_cuda.sh PROGRAM [ARGUMENT...]      PROGRAM is built with the feature cuda
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
program=$1
shift
libraries=$(mktemp -d)
trap 'rm -rf "$libraries"' EXIT
# A function without content for every symbol of CUDA that the program needs and the stand-in lacks.
nm -D --undefined-only "$program" | sed -n 's/.* U \(_*cu[A-Za-z0-9_]*\|nvrtc[A-Za-z0-9_]*\).*/\1/p' | sort -u >"$libraries/needed"
sed -n 's/^int \(cu[A-Za-z0-9_]*\)(.*/\1/p' "$here/stand_in.c" | sort -u >"$libraries/there"
comm -23 "$libraries/needed" "$libraries/there" | sed 's/.*/int &(void) { return 0; }/' >"$libraries/rest.c"
gcc -shared -fPIC -O1 -Wall -Wextra -pthread "$here/stand_in.c" "$libraries/rest.c" -o "$libraries/stand_in.so"
for library in $(readelf -d "$program" | sed -n 's/.*(NEEDED).*\[\(libcu[^]]*\|libnvrtc[^]]*\)\].*/\1/p'); do
  ln -s stand_in.so "$libraries/$library"
done
LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} "$program" "$@"
