#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# install.sh install DESTDIR SBINDIR LIBEXECDIR MODE:SOURCE:TARGET...
# install.sh uninstall DESTDIR MODE:SOURCE:TARGET... -- FOLDER...     for `make install` and `make uninstall`
set -euo pipefail

put() { # MODE SOURCE TARGET: whole or not at all, also over a program that runs
    local new=$3.coffer-new
    mkdir -p "$(dirname "$3")"
    case $2 in
    *.in) sed -e "s|@SBINDIR@|$sbindir|g" -e "s|@LIBEXECDIR@|$libexecdir|g" "$2" >"$new" && chmod "$1" "$new" ;;
    *) install -m "$1" "$2" "$new" ;;
    esac
    mv -f "$new" "$3"
}

install_all() {
    local row rest
    for row in "$@"; do
        rest=${row#*:}
        put "${row%%:*}" "${rest%%:*}" "$destdir${rest#*:}"
    done
    [ -n "$destdir" ] || cat <<'END'
Installed. What is left to do, once, as root (README.md, "On one Linux host"):
  systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload
END
}

uninstall_all() {
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        rm -f "$destdir${1##*:}"
        shift
    done
    shift
    for folder in "$@"; do
        [ ! -d "$destdir$folder" ] || rmdir --ignore-fail-on-non-empty "$destdir$folder"
    done
    [ -n "$destdir" ] || echo "Removed. /etc/coffer and /var/lib/coffer were not touched: they hold keys and volumes."
}

verb=$1 destdir=$2
shift 2
case $verb in
install)
    sbindir=$1 libexecdir=$2
    shift 2
    umask 022
    install_all "$@"
    ;;
uninstall) uninstall_all "$@" ;;
*) exit 2 ;;
esac
