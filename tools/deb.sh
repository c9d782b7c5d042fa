#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# deb.sh FOLDER: Debian's package from the files that git has here, in FOLDER, judged by lintian. mk/deb.mk.
set -euo pipefail

folder=$(mkdir -p "$1" && realpath "$1")
rm -rf "${folder:?}"/*
mkdir "$folder/coffer"
git -c safe.directory="$PWD" ls-files -z --cached | xargs -0 cp --parents -t "$folder/coffer"

# a make that called this one has its own mind about profiles and jobs
cd "$folder/coffer"
env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u PROFILE -u BUILD -u DESTDIR -u PREFIX \
    dpkg-buildpackage --build=binary --no-sign --jobs="$(nproc)" >"$folder/build.log" 2>&1 ||
    { tail -n 40 "$folder/build.log" && exit 1; }
cd "$folder"
rm -rf coffer
lintian --allow-root --display-info --fail-on error,warning --tag-display-limit 0 ./*.changes
ls -1sh ./*.deb
