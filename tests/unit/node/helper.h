/* SPDX-License-Identifier: Apache-2.0 */
/* helper.h: coffer-crypt as a script, which lists the mapping that a test wants and writes down
 * what it was asked to close. */
#ifndef COFFER_TESTS_UNIT_NODE_HELPER_H
#define COFFER_TESTS_UNIT_NODE_HELPER_H

#include "common/base.h"
#include "common/cleanup.h"
#include "tests/support/tmpdir.h"
#include "volume/id.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

struct helper {
    const struct tmpdir *dir;
    char path[600];
};

/* It lists nothing yet. */
static inline struct helper helper_make(const struct tmpdir *dir)
{
    static const char script[] = "#!/bin/sh\n"
                                 "cd \"${0%/*}\" || exit 1\n"
                                 "case $1 in\n"
                                 "list) cat list ;;\n"
                                 "close) cat >>closed; echo '{}' ;;\n"
                                 "esac\n";
    struct helper h = { .dir = dir };

    tmpdir_write(dir, "helper", script, sizeof(script) - 1);
    tmpdir_write(dir, "list", "{\"mappings\":[]}", 15);
    (void)snprintf(h.path, sizeof(h.path), "%s/helper", dir->path);
    assert_int_equal(chmod(h.path, 0700), 0);
    return h;
}

/* uuid: of the volume; "": the mapping is of none. */
static inline void helper_lists(const struct helper *h, const char *dm_name, const char *uuid,
                                dev_t dev, int open_count, const char *state, const char *why)
{
    char text[1024], dm_uuid[DM_UUID_MAX + 1] = "";

    if (uuid[0] != '\0')
        volume_dm_uuid(uuid, dm_name, dm_uuid);
    int n = snprintf(text, sizeof(text),
                     "{\"mappings\":[{\"name\":\"%s\",\"uuid\":\"%s\",\"dev\":\"%u:%u\","
                     "\"backing\":\"4095:8\",\"size\":4096,\"open\":%d,\"read_only\":false,"
                     "\"discards\":false,\"state\":\"%s\",\"why\":\"%s\"}]}",
                     dm_name, dm_uuid, major(dev), minor(dev), open_count, state, why);
    tmpdir_write(h->dir, "list", text, (size_t)n);
}

static inline bool helper_closed(const struct helper *h, const char *dm_name)
{
    AUTO_FREE char *text = tmpdir_read(h->dir, "closed");

    return text != NULL && strstr(text, dm_name) != NULL;
}

#endif
