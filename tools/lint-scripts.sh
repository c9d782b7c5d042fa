#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lint-scripts.sh: shellcheck for every shell script, a compile for every Python file.
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/.." || exit 1
mapfile -t files < <(git ls-files --cached --others --exclude-standard)
failed=0
for file in "${files[@]}"; do
    [ -f "$file" ] || continue
    read -r first <"$file" 2>/dev/null || continue
    case $file:$first in
    tests/fuzz/corpus/*) ;;
    *:*vm/bin/sh*) shellcheck -s dash "$file" || failed=1 ;;
    *.sh:* | *'/bin/bash'* | *'/bin/sh'*) shellcheck -x "$file" || failed=1 ;;
    *.py:* | *python3*)
        python3 -c 'import ast, sys; ast.parse(open(sys.argv[1], encoding="utf-8").read(), sys.argv[1])' "$file" || failed=1 ;;
    esac
done
exit $failed
