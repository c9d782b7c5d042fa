/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/sandbox.h"

#include <seccomp.h>

int sandbox_enter(unsigned parts, struct error *err)
{
    return 0;
}
