/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/broken.h"

#include "common/log.h"
#include "common/wipe.h"

#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

static atomic_bool broken;

void scheduler_end_when_broken(const struct error *err)
{
    if (!wipe_explains(err) || atomic_exchange(&broken, true))
        return;
    log_error("a request failed, and memory lacked before: libcrypto may work no more, a new "
              "process will",
              KV("error", err->msg));
    (void)kill(getpid(), SIGTERM);
}

bool scheduler_is_broken(void)
{
    return atomic_load(&broken);
}
