#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lint-format.sh: every C file is as clang-format (Debian 12's, version 14) writes it.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
command -v clang-format >/dev/null || { echo "clang-format is not installed; make deps installs it."; exit 1; }
failed=0
while read -r file; do
    [ ! -f "$file" ] || clang-format --dry-run --Werror "$file" 2>/dev/null ||
        { echo "$file is not formatted; clang-format -i $file does it."; failed=1; }
done < <(git ls-files --cached --others --exclude-standard '*.c' '*.h')
exit $failed
