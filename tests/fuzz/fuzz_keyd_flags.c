/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyd's own two flags: the first line is --allow, each other line a --peer. What can't be read
 * exactly allows nothing.
 *
 * covers: common/peers.c keyd/ops.c:ops_allow_parse
 */
#include "tests/fuzz/target.h"

#include "common/cleanup.h"
#include "keyd/ops.h"
#include "common/peers.h"

#define NO_NAMES "/proc/self/none" /* no passwd there: only numbers are somebody */

static void check_allow(const char *list)
{
    bool allowed[WIRE_OP_LIMIT];
    struct error err = ERROR_INIT;

    mark(allowed, sizeof(allowed));
    if (ops_allow_parse(list, allowed, &err) < 0) {
        must(err.code == ERR_INVALID);
        must_be_sentence(&err);
        must_be_marked(allowed, sizeof(allowed));
        return;
    }
    must(allowed[WIRE_STATUS] && !allowed[WIRE_NONE]);
    must(allowed[WIRE_MINT] == (strstr(list, "MINT") != NULL));
    must(allowed[WIRE_UNWRAP] == (strstr(list, "UNWRAP") != NULL));
}

static void check_peers(const struct flag_strings *texts)
{
    struct peers p = { .n = 99 };
    struct error err = ERROR_INIT;
    char again[64];

    if (peers_parse(texts, NO_NAMES, &p, &err) < 0) {
        must(err.code == ERR_INVALID || err.code == ERR_NOT_FOUND);
        must(p.n == 99);
        must_be_sentence(&err);
        return;
    }
    must(p.n == texts->len && p.n > 0 && !peers_allow(&p, UINT32_MAX, UINT32_MAX));
    for (size_t i = 0; i < p.n; i++) {
        (void)snprintf(again, sizeof(again), "%u:%u", p.items[i].uid, p.items[i].gid);
        must(peers_allow(&p, p.items[i].uid, p.items[i].gid));
        must(strlen(again) <= strlen(texts->items[i])); /* leading zeros may be gone */
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_FREE char *text = strndup((const char *)data, size);
    struct flag_strings peers = { .len = 0 };
    char *rest = text, *line;

    must(text != NULL);
    const char *allow = strsep(&rest, "\n");
    while (peers.len < ARRAY_SIZE(peers.items) && (line = strsep(&rest, "\n")) != NULL)
        peers.items[peers.len++] = line;
    check_allow(allow);
    check_peers(&peers);
    return 0;
}
