/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/verb.h"

#include "common/blockdev.h"
#include "common/deadline.h"
#include "common/parse.h"
#include "crypt/keys.h"
#include "crypt/mapping.h"
#include "volume/geometry.h"

#include <errno.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define WAIT_MAX_MS 600000u

/* --- the fields --- */

static void read_name(struct json_reader *r, struct request *q)
{
    json_get_string(r, "name", q->name, sizeof(q->name));
}

static void read_dm_uuid(struct json_reader *r, struct request *q)
{
    (void)json_get_string_opt(r, "dm_uuid", q->dm_uuid, sizeof(q->dm_uuid));
}

static void read_record(struct json_reader *r, struct request *q)
{
    struct error local = ERROR_INIT;
    json_t *obj = json_get_object(r, "record");

    if (obj != NULL && record_from_json(obj, &q->record, &local) < 0)
        json_problem_error(r, &local);
}

static void read_device(struct json_reader *r, struct request *q)
{
    char text[DEV_TEXT_SIZE] = "";

    json_get_string(r, "device", text, sizeof(text));
    if (parse_dev(text, &q->device) < 0)
        json_problem(r, "field 'device' must be major:minor");
}

static void read_read_only(struct json_reader *r, struct request *q)
{
    json_get_bool(r, "read_only", &q->read_only);
}

static void read_stored_state(struct json_reader *r, struct request *q)
{
    char text[32] = "";

    json_get_string(r, "stored_state", text, sizeof(text));
    if (record_state_parse(text, &q->stored_state) < 0)
        json_problem(r, "field 'stored_state' must be a record's state");
}

static void read_recipients(struct json_reader *r, struct request *q)
{
    const json_t *array = json_get_array(r, "recipients");
    struct error local = ERROR_INIT;
    struct recipient_list list;

    if (array != NULL && (recipients_from_json(array, &list, &local) < 0 ||
                          recipients_encode(&list, q->recipients, &local) < 0))
        json_problem_error(r, &local);
}

static const struct field {
    unsigned taken_by;
    void (*read)(struct json_reader *r, struct request *q);
} fields[] = {
    { TAKES_NAME, read_name },
    { TAKES_DM_UUID, read_dm_uuid },
    { TAKES_RECORD, read_record },
    { TAKES_DEVICE, read_device },
    { TAKES_READ_ONLY, read_read_only },
    { TAKES_STORED_STATE, read_stored_state },
    { TAKES_RECIPIENTS, read_recipients },
};

static int read_fields(const struct verb *verb, json_t *obj, struct request *q, struct error *err)
{
    struct json_reader r = json_reader_of(obj, "request");
    uint64_t wait_ms = 0;

    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        if ((verb->takes & fields[i].taken_by) != 0)
            fields[i].read(&r, q);
    }
    json_get_u64(&r, "wait_ms", &wait_ms);
    if (wait_ms > WAIT_MAX_MS)
        json_problem(&r, "field 'wait_ms' is over %u", WAIT_MAX_MS);
    if (json_reader_done(&r, err) < 0)
        return -1;
    q->deadline = deadline_in(wait_ms);
    return 0;
}

/* --- what they must be to each other --- */

static int check_name(const struct request *q, struct error *err)
{
    struct volume_id id;
    char name[DM_NAME_LEN + 1];

    if (volume_id_parse(q->record.id, &id, err) < 0)
        return -1;
    volume_id_dm_name(&id, name);
    if (strcmp(name, q->name) != 0)
        return error_set(err, ERR_INVALID, "request: '%s' isn't the mapping's name of volume '%s'",
                         q->name, q->record.id);
    return 0;
}

static int check_device(struct request *q, struct error *err)
{
    struct stat st;
    char found[DEV_TEXT_SIZE], wanted[DEV_TEXT_SIZE];

    if (fstat(FD_DEVICE, &st) < 0)
        return error_errno(err, errno, "look at the volume's device (descriptor %d)", FD_DEVICE);
    if (!S_ISBLK(st.st_mode))
        return error_set(err, ERR_INVALID, "descriptor %d isn't a block device", FD_DEVICE);
    if (st.st_rdev != q->device) {
        blockdev_text(st.st_rdev, found);
        blockdev_text(q->device, wanted);
        return error_set(err, ERR_INVALID, "the device that was passed is %s, the request says %s",
                         found, wanted);
    }
    if (ioctl(FD_DEVICE, BLKGETSIZE64, &q->device_size) < 0)
        return error_errno(err, errno, "read the size of the volume's device");
    if (q->device_size <= GEOMETRY_DATA_OFFSET || q->device_size % GEOMETRY_SECTOR != 0)
        return error_set(
            err, ERR_DATA_LOSS,
            "the volume's device has %llu bytes: too small for the header, or no multiple of %u",
            (unsigned long long)q->device_size, GEOMETRY_SECTOR);
    return 0;
}

int request_decode(const struct verb *verb, const char *text, size_t len, struct request *ret,
                   struct error *err)
{
    AUTO_JSON json_t *obj = NULL;
    struct request q = { .name = "" };

    if (json_parse(text, len, "request", &obj, err) < 0 || read_fields(verb, obj, &q, err) < 0)
        return -1;
    if ((verb->takes & TAKES_RECORD) != 0 && check_name(&q, err) < 0)
        return -1;
    if ((verb->takes & TAKES_DEVICE_FD) != 0 && check_device(&q, err) < 0)
        return -1;
    *ret = q;
    return 0;
}

int reply_mapping(json_t *reply, const struct mapping *m, struct error *err)
{
    if (json_object_set_new(reply, "mapping", mapping_to_json(m)) < 0)
        return error_memory(err);
    return 0;
}

int reply_mac(const struct secret *sk, struct request *q, json_t *reply, struct error *err)
{
    if (key_record_mac(sk, &q->record, q->record.mac, err) < 0)
        return -1;
    if (json_object_set_new(reply, "mac", json_string(q->record.mac)) < 0)
        return error_memory(err);
    return 0;
}
