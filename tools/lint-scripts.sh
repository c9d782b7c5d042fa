#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lint-scripts.sh: shellcheck for every shell script, pyflakes for every Python file: a name that isn't there is seen before
# the line that uses it runs.
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/.." || exit 1
mapfile -t files < <(git ls-files --cached --others --exclude-standard)
failed=0
python=()
for file in "${files[@]}"; do
    [ -f "$file" ] || continue
    read -r first <"$file" 2>/dev/null || continue
    case $file:$first in
    tests/fuzz/corpus/*) ;;
    *:*vm/bin/sh*) shellcheck -s dash "$file" || failed=1 ;;
    *.sh:* | *'/bin/bash'* | *'/bin/sh'*) shellcheck -x "$file" || failed=1 ;;
    *.py:* | *python3*) python+=("$file") ;;
    esac
done
pyflakes3 "${python[@]}" || failed=1
exit $failed
