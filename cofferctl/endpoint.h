/* SPDX-License-Identifier: Apache-2.0 */
/* endpoint.h: a socket's path as people type it, with or without "unix://". */
#ifndef COFFER_COFFERCTL_ENDPOINT_H
#define COFFER_COFFERCTL_ENDPOINT_H

#include "common/base.h"
#include "common/error.h"
#include "common/strbuf.h"

const char *endpoint_path(const char *socket); /* "/run/coffer/csi.sock"; borrowed */
/* Appends "unix:///run/coffer/csi.sock". */
int endpoint_of(const char *socket, const char *flag, struct strbuf *ret,
                struct error *err) MUST_CHECK;

#endif
