/* SPDX-License-Identifier: Apache-2.0 */
/* vm_probe.h: whether a VM answers: an HTTP GET over its socket. A VM is its user's, and hostile
 * until shown otherwise: of what it sends, the first 12 bytes are looked at and nothing more is
 * read. */
#ifndef COFFER_SCHEDULER_VM_PROBE_H
#define COFFER_SCHEDULER_VM_PROBE_H

#include "common/base.h"

/* It answered "HTTP/1.x 2xx" by the deadline (clock_ms() value). */
bool vm_probe(const char *socket_path, const char *url_path, uint64_t deadline);

#endif
