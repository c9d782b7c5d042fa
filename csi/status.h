/* SPDX-License-Identifier: Apache-2.0 */
/* status.h: error codes to gRPC's status numbers and back (grpc.io, "Status codes"). The only place
 * that knows them. */
#ifndef COFFER_CSI_STATUS_H
#define COFFER_CSI_STATUS_H

#include "common/base.h"
#include "common/error.h"

int status_from_error(enum error_code code); /* ERR_ABORTED -> 10 */
enum error_code
status_to_error(int status); /* 10 -> ERR_ABORTED; 2 and unknown ones -> ERR_INTERNAL */
/* The message a client sees: never empty (CSI demands it), valid UTF-8. Borrowed from `buf`. */
const char *status_text(const struct error *err, char *buf, size_t size);

#endif
