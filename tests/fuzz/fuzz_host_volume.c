/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What cofferctl keeps of a volume on a host without Kubernetes: what is accepted is the same when
 * it is written and read again.
 *
 * covers: cofferctl/host_volume.c
 */
#include "tests/fuzz/target.h"

#include "cofferctl/host_volume.h"
#include "common/json.h"

static void must_be_the_same(const struct host_volume *a, const struct host_volume *b)
{
    must(strcmp(a->name, b->name) == 0 && strcmp(a->id, b->id) == 0 && strcmp(a->fs, b->fs) == 0);
    must(strcmp(a->access_mode, b->access_mode) == 0 && a->n_targets == b->n_targets);
    must(json_equal(a->context, b->context) == 1);
    for (size_t i = 0; i < a->n_targets; i++) {
        const struct host_target *x = &a->targets[i], *y = &b->targets[i];

        must(strcmp(x->path, y->path) == 0 && x->read_only == y->read_only && x->kept == y->kept);
        must(x->mode == y->mode && x->uid == y->uid && x->gid == y->gid);
    }
}

static void check(struct host_volume *v)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(4 * HOST_VOLUME_MAX);
    AUTO_JSON json_t *capability = host_volume_capability(v);
    struct host_volume again = HOST_VOLUME_INIT;
    struct error err = ERROR_INIT;

    must(host_volume_name_check(v->name, &err) == 0 && v->n_targets <= HOST_TARGETS_MAX);
    must(capability != NULL);
    must(host_volume_encode(v, &text, &err) == 0);
    must(host_volume_decode(strbuf_text(&text), text.len, &again, &err) == 0);
    must_be_the_same(v, &again);
    host_volume_release(&again);
    while (v->n_targets > 0) {
        size_t at = host_volume_find_target(v, v->targets[v->n_targets - 1].path);
        must(at < v->n_targets);
        host_volume_remove_target(v, at);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct host_volume v;
    struct error err = ERROR_INIT;

    mark(&v, sizeof(v));
    if (host_volume_decode((const char *)data, size, &v, &err) < 0) {
        must(err.code == ERR_DATA_LOSS);
        must_be_sentence(&err);
        must_be_marked(&v, sizeof(v));
        return 0;
    }
    check(&v);
    host_volume_release(&v);
    return 0;
}
