#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lint-format.sh: says which C files clang-format would change. Advice only: it never fails.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
command -v clang-format >/dev/null || { echo "  clang-format is not installed"; exit 0; }
mapfile -t files < <(git ls-files '*.c' '*.h')
changed=0
for file in "${files[@]}"; do clang-format --dry-run --Werror "$file" 2>/dev/null || changed=$((changed + 1)); done
echo "  clang-format would change $changed of ${#files[@]} files"
