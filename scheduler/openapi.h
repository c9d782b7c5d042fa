/* SPDX-License-Identifier: Apache-2.0 */
/* openapi.h: openapi.json, as it was when the program was built (openapi.c includes the file). */
#ifndef COFFER_SCHEDULER_OPENAPI_H
#define COFFER_SCHEDULER_OPENAPI_H

#include "common/base.h"

extern const char openapi_text[];
size_t openapi_len(void);

#endif
