/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `cofferctl record restore`: the backup in the first line, then what is in the volume's place, any
 * bytes. Whatever that is, what would be written is `ready`, of a higher generation than both, and
 * of no smaller size; and never over a volume that is being deleted.
 *
 * covers: volume/restore.c
 */
#include "tests/fuzz/target.h"

#include "volume/geometry.h"
#include "volume/restore.h"

static void check(const struct restore_there *there, const struct record *backup,
                  const struct record *planned)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(RECORD_MAX);
    struct error err = ERROR_INIT;

    must(planned->state == RECORD_READY && strcmp(planned->id, backup->id) == 0);
    must(planned->gen > backup->gen && planned->gen > there->gen);
    must(planned->size >= backup->size && strcmp(planned->mac, backup->mac) == 0);
    if (there->found == RESTORE_RECORD) {
        must(planned->gen > there->record.gen && there->record.state <= RECORD_READY);
        must(strcmp(there->record.uuid, backup->uuid) == 0);
    }
    must(strcmp(there->state, "erased") != 0);
    must(record_encode(planned, &text, &err) == 0);
}

static void plan(struct restore_there *there, const struct record *backup)
{
    struct record planned;
    struct error err = ERROR_INIT;
    char fields[200];

    there->has_image = true;
    there->image_bytes = GEOMETRY_DATA_OFFSET + backup->size;
    mark(&planned, sizeof(planned));
    if (restore_plan(there, backup, &planned, &err) == 0) {
        check(there, backup, &planned);
    } else {
        must(err.code == ERR_PRECONDITION || err.code == ERR_DATA_LOSS);
        must_be_sentence(&err);
        must_be_marked(&planned, sizeof(planned));
    }
    if (there->found == RESTORE_RECORD)
        restore_difference(&there->record, backup, fields, sizeof(fields));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct restore_there there;
    static struct record backup;
    const uint8_t *end = size > 0 ? memchr(data, '\n', size) : NULL;
    struct error err = ERROR_INIT;

    if (end == NULL || record_decode((const char *)data, (size_t)(end - data), &backup, &err) < 0)
        return 0;
    memset(&there, 0, sizeof(there));
    size -= (size_t)(end + 1 - data);
    if (size > 0)
        must(restore_read((const char *)end + 1, size, backup.id, &there, &err) == 0);
    must(strnlen(there.problem, sizeof(there.problem)) < sizeof(there.problem));
    must((there.found == RESTORE_UNREADABLE) == (there.problem[0] != '\0'));
    plan(&there, &backup);
    return 0;
}
