#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# fuzz.sh BUILD SECONDS NAME...: runs libFuzzer on each target. New inputs are kept in BUILD/fuzz-corpus/NAME,
# crashing ones in BUILD/fuzz-crash/NAME-*: a fixed one becomes a small seed in tests/fuzz/corpus/NAME. Seconds and inputs of a
# run without a crash are noted in BUILD/fuzz-time/NAME.
set -euo pipefail
build=$1 seconds=$2
shift 2
mkdir -p "$build/fuzz-crash" "$build/fuzz-time"
for name in "$@"; do
    found=$build/fuzz-corpus/$name log=$build/fuzz-time/$name.log
    mkdir -p "$found"
    options=(-max_total_time="$seconds" -artifact_prefix="$build/fuzz-crash/$name-" -print_final_stats=1)
    [ ! -e "tests/fuzz/$name.dict" ] || options+=(-dict="tests/fuzz/$name.dict")
    echo "== $name, $seconds s"
    "$build/fuzz/tests/fuzz/$name.libfuzzer" "${options[@]}" "$found" "tests/fuzz/corpus/$name" 2>&1 | tee "$log"
    sed -n 's/^Done \([0-9]*\) runs in \([0-9]*\) second.*/\2 \1/p' "$log" >>"$build/fuzz-time/$name"
done
