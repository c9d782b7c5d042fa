#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# fuzz.sh BUILD SECONDS NAME...: runs libFuzzer on each target. New inputs are kept in BUILD/fuzz-corpus/NAME,
# crashing ones in BUILD/fuzz-crash/NAME-*: a fixed one becomes a small seed in tests/fuzz/corpus/NAME.
set -euo pipefail
build=$1 seconds=$2
shift 2
mkdir -p "$build/fuzz-crash"
for name in "$@"; do
    found=$build/fuzz-corpus/$name
    mkdir -p "$found"
    options=(-max_total_time="$seconds" -artifact_prefix="$build/fuzz-crash/$name-" -print_final_stats=1)
    [ ! -e "tests/fuzz/$name.dict" ] || options+=(-dict="tests/fuzz/$name.dict")
    echo "== $name, $seconds s"
    "$build/fuzz/tests/fuzz/$name.libfuzzer" "${options[@]}" "$found" "tests/fuzz/corpus/$name"
done
