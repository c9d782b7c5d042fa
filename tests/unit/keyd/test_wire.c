/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "keyd/wire.h"

#include "common/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define ID   "fast.0a1b2c3d.00112233445566778899aabbccddeeff"
#define UUID "6ba7b810-9dad-41d1-80b4-00c04fd430c8"

static struct wire_request sample(uint16_t op)
{
    return (struct wire_request){
        .op = op,
        .deadline_ms = 0x1122334455667788u,
        .kms = "vault",
        .tenant = "team-ä",
        .volume_id = ID,
        .uuid = UUID,
        .use = "stage",
        .kind = "file",
        .ciphertext = "file:v1:AAAA",
        .key_version = 7,
        .token = { .data = "tok\0en", .len = 6 },
        .commitment = "cc",
        .fingerprint = "ff",
        .server_key = "coffer-s-1:3",
        .session = { .data = "ses\0sion", .len = 8 },
    };
}

static void test_request_round_trip(void **state UNUSED)
{
    static struct wire_frame frame;
    struct wire_request in = sample(WIRE_UNWRAP), out = { 0 };
    struct error err = ERROR_INIT;
    assert_int_equal(wire_request_encode(&in, &frame, &err), 0);
    assert_int_equal(wire_request_decode(frame.bytes, frame.len, &out, &err), 0);
    assert_int_equal(out.op, WIRE_UNWRAP);
    assert_true(out.deadline_ms == in.deadline_ms);
    assert_string_equal(out.kms, in.kms);
    assert_string_equal(out.tenant, in.tenant);
    assert_string_equal(out.volume_id, in.volume_id);
    assert_string_equal(out.uuid, in.uuid);
    assert_string_equal(out.use, in.use);
    assert_string_equal(out.kind, in.kind);
    assert_string_equal(out.ciphertext, in.ciphertext);
    assert_true(out.key_version == 7);
    assert_int_equal(out.token.len, 6);
    assert_memory_equal(out.token.data, "tok\0en", 6);
}

static void test_session_round_trip(void **state UNUSED)
{
    static struct wire_frame frame;
    static char session[KEYD_SESSION_MAX + 1];
    struct wire_request in = sample(WIRE_UNWRAP_CLIENT), out = { 0 };
    struct error err = ERROR_INIT;
    assert_int_equal(wire_request_encode(&in, &frame, &err), 0);
    assert_int_equal(wire_request_decode(frame.bytes, frame.len, &out, &err), 0);
    assert_string_equal(out.commitment, "cc");
    assert_string_equal(out.fingerprint, "ff");
    assert_string_equal(out.server_key, "coffer-s-1:3");
    assert_int_equal(out.session.len, 8);
    assert_memory_equal(out.session.data, "ses\0sion", 8);
    assert_string_equal(out.ciphertext, ""); /* not of this op */
    in.session = (struct wire_view){ .data = session, .len = sizeof(session) };
    assert_int_equal(wire_request_encode(&in, &frame, &err), 0);
    assert_int_equal(wire_request_decode(frame.bytes, frame.len, &out, &err), -1);
    assert_string_equal(err.msg, "frame: field 'session' is longer than 512 bytes");
}

static void test_server_key_reply(void **state UNUSED)
{
    static struct wire_frame frame;
    struct error err = ERROR_INIT;
    struct wire_reply in = { .op = WIRE_SERVER_KEY,
                             .code = WIRE_OK,
                             .key_id = "coffer-s-1:3",
                             .hash = "SHA-256",
                             .public_key = { .data = "d\0er", .len = 4 } };
    struct wire_reply out = { 0 };
    assert_int_equal(wire_reply_encode(&in, &frame, &err), 0);
    assert_int_equal(wire_reply_decode(frame.bytes, frame.len, &out, &err), 0);
    assert_string_equal(out.key_id, "coffer-s-1:3");
    assert_string_equal(out.hash, "SHA-256");
    assert_int_equal(out.public_key.len, 4);
    assert_memory_equal(out.public_key.data, "d\0er", 4);
}

/* The bytes themselves, so that no change of the codec goes unnoticed by itself. */
static void test_request_bytes(void **state UNUSED)
{
    static struct wire_frame frame;
    const unsigned char want[] = { 'C', 'O', 'F', 'D',  1,    0,    3,    0,    10,   0,    0,
                                   0,   8,   0,   0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11 };
    struct wire_request in = sample(WIRE_STATUS);
    struct error err = ERROR_INIT;
    assert_int_equal(wire_request_encode(&in, &frame, &err), 0);
    assert_int_equal(frame.len, sizeof(want));
    assert_memory_equal(frame.bytes, want, sizeof(want));
}

static void test_longest_fields(void **state UNUSED)
{
    static struct wire_frame frame;
    static char token[WIRE_TOKEN_MAX];
    struct wire_request in = sample(WIRE_UNWRAP), out = { 0 };
    struct error err = ERROR_INIT;
    memset(in.ciphertext, 'x', sizeof(in.ciphertext) - 1);
    memset(in.kms, 'k', sizeof(in.kms) - 1);
    in.token = (struct wire_view){ .data = token, .len = sizeof(token) };
    assert_int_equal(wire_request_encode(&in, &frame, &err), 0);
    assert_int_equal(wire_request_decode(frame.bytes, frame.len, &out, &err), 0);
    assert_int_equal(strlen(out.ciphertext), WRAPPED_KEY_MAX);
    assert_int_equal(strlen(out.kms), KMS_NAME_MAX);
    assert_int_equal(out.token.len, WIRE_TOKEN_MAX);
}

static void test_reply_round_trip(void **state UNUSED)
{
    static struct wire_frame frame;
    struct error err = ERROR_INIT;
    struct wire_reply in = { .op = WIRE_MINT,
                             .code = WIRE_OK,
                             .kind = "file",
                             .ciphertext = "file:v1:BBBB",
                             .key_version = 3 };
    struct wire_reply out = { 0 };
    assert_int_equal(wire_reply_encode(&in, &frame, &err), 0);
    assert_int_equal(wire_reply_decode(frame.bytes, frame.len, &out, &err), 0);
    assert_string_equal(out.code, WIRE_OK);
    assert_string_equal(out.ciphertext, "file:v1:BBBB");
    assert_true(out.key_version == 3);

    in = (struct wire_reply){
        .op = WIRE_MINT, .code = "ABORTED", .message = "busy", .ciphertext = "not sent"
    };
    assert_int_equal(wire_reply_encode(&in, &frame, &err), 0);
    assert_int_equal(wire_reply_decode(frame.bytes, frame.len, &out, &err), 0);
    assert_string_equal(out.code, "ABORTED");
    assert_string_equal(out.message, "busy");
    assert_string_equal(out.ciphertext, "");
}

static void test_reply_to_nothing(void **state UNUSED)
{
    static struct wire_frame frame;
    struct error err = ERROR_INIT;
    struct wire_reply in = { .op = WIRE_NONE, .code = "PERMISSION_DENIED", .message = "no" };
    struct wire_reply out = { 0 };
    assert_int_equal(wire_reply_encode(&in, &frame, &err), 0);
    assert_int_equal(wire_reply_decode(frame.bytes, frame.len, &out, &err), 0);
    assert_string_equal(out.code, "PERMISSION_DENIED");
    in = (struct wire_reply){ .op = WIRE_NONE, .code = WIRE_OK };
    assert_int_equal(wire_reply_encode(&in, &frame, &err), -1);
}

static void test_reply_too_long(void **state UNUSED)
{
    static struct wire_frame frame;
    static char text[WIRE_FRAME_MAX];
    struct error err = ERROR_INIT;
    struct wire_reply in = { .op = WIRE_STATUS,
                             .code = WIRE_OK,
                             .text = { .data = text, .len = sizeof(text) } };
    assert_int_equal(wire_reply_encode(&in, &frame, &err), -1);
    assert_int_equal(err.code, ERR_EXHAUSTED);
}

/* One broken frame: bytes `cut` off the end, `put` written at `at`, `extra` zero bytes added; the
 * header's length is corrected unless keep_length. */
struct broken {
    const char *name;
    uint16_t op;
    size_t cut, at;
    const char *put;
    size_t put_len, extra;
    bool keep_length;
    const char *want;
};

#define PUT(text) .put = (text), .put_len = sizeof(text) - 1
/* MINT: header 12, deadline 10, kms 2+5, tenant 2+7, volume_id 2+46, uuid 2+36 */
#define AT_DEADLINE 12
#define AT_KMS      22
#define AT_TENANT   29

static const struct broken broken_frames[] = {
    { .name = "wrong magic", .op = WIRE_MINT, .at = 0, PUT("KOFD"), .want = "frame: wrong magic" },
    { .name = "another version",
      .op = WIRE_MINT,
      .at = 4,
      PUT("\x02\x00"),
      .want = "frame: version 2, not 1" },
    { .name = "op 0", .op = WIRE_MINT, .at = 6, PUT("\x00\x00"), .want = "frame: unknown op 0" },
    { .name = "reserved op",
      .op = WIRE_MINT,
      .at = 6,
      PUT("\x04\x00"),
      .want = "frame: unknown op 4" },
    { .name = "a reply as request",
      .op = WIRE_MINT,
      .at = 6,
      PUT("\x01\x80"),
      .want = "frame: unknown op 32769" },
    { .name = "length too small",
      .op = WIRE_MINT,
      .at = 8,
      PUT("\x01\x00\x00\x00"),
      .keep_length = true,
      .want = "frame: the header's length is not the frame's" },
    { .name = "length huge",
      .op = WIRE_MINT,
      .at = 8,
      PUT("\xff\xff\xff\xff"),
      .keep_length = true,
      .want = "frame: the header's length is not the frame's" },
    { .name = "trailing byte",
      .op = WIRE_MINT,
      .extra = 1,
      .want = "frame: 1 bytes after the last field" },
    { .name = "cut in a field",
      .op = WIRE_MINT,
      .cut = 1,
      .want = "frame: field 'uuid' is cut off" },
    { .name = "cut in a length",
      .op = WIRE_MINT,
      .cut = 37,
      .want = "frame: field 'uuid' is missing" },
    { .name = "a field missing",
      .op = WIRE_MINT,
      .cut = 38,
      .want = "frame: field 'uuid' is missing" },
    { .name = "number of 7 bytes",
      .op = WIRE_STATUS,
      .cut = 1,
      .at = AT_DEADLINE,
      PUT("\x07\x00"),
      .want = "frame: field 'deadline_ms' is not a number of 8 bytes" },
    { .name = "number of no bytes",
      .op = WIRE_STATUS,
      .cut = 8,
      .at = AT_DEADLINE,
      PUT("\x00\x00"),
      .want = "frame: field 'deadline_ms' is not a number of 8 bytes" },
    { .name = "field past the end",
      .op = WIRE_MINT,
      .at = AT_KMS,
      PUT("\xff\xff"),
      .want = "frame: field 'kms' is cut off" },
    { .name = "text too long",
      .op = WIRE_MINT,
      .at = AT_KMS,
      PUT("\x40\x00"),
      .want = "frame: field 'kms' is longer than 63 bytes" },
    { .name = "NUL in a text",
      .op = WIRE_MINT,
      .at = AT_KMS + 3,
      PUT("\x00"),
      .want = "frame: field 'kms' is not text" },
    { .name = "not UTF-8",
      .op = WIRE_MINT,
      .at = AT_TENANT + 2,
      PUT("\xff"),
      .want = "frame: field 'tenant' is not text" },
};

static void break_frame(const struct broken *b, struct wire_frame *frame)
{
    struct error err = ERROR_INIT;
    struct wire_request in = sample(b->op);
    assert_int_equal(wire_request_encode(&in, frame, &err), 0);
    frame->len -= b->cut;
    memset(frame->bytes + frame->len, 0, b->extra);
    frame->len += b->extra;
    size_t length = frame->len - WIRE_HEADER_SIZE;
    frame->bytes[8] = (unsigned char)length;
    frame->bytes[9] = (unsigned char)(length >> 8);
    if (b->put != NULL)
        memcpy(frame->bytes + b->at, b->put, b->put_len);
}

static void test_malformed(void **state UNUSED)
{
    for (size_t i = 0; i < ARRAY_SIZE(broken_frames); i++) {
        static struct wire_frame frame;
        const struct broken *b = &broken_frames[i];
        struct wire_request out = { .op = 99 };
        struct error err = ERROR_INIT;
        break_frame(b, &frame);
        if (wire_request_decode(frame.bytes, frame.len, &out, &err) == 0)
            fail_msg("%s: was accepted", b->name);
        if (strcmp(err.msg, b->want) != 0 || err.code != ERR_INVALID)
            fail_msg("%s: '%s'", b->name, err.msg);
        assert_int_equal(out.op, 99);
    }
}

/* Every prefix of a good frame and every frame with one wrong length byte is refused, never read
 * past. */
static void test_prefixes(void **state UNUSED)
{
    static struct wire_frame frame;
    struct wire_request in = sample(WIRE_UNWRAP), out;
    struct error err = ERROR_INIT;
    assert_int_equal(wire_request_encode(&in, &frame, &err), 0);
    for (size_t len = 0; len < frame.len; len++) {
        AUTO_FREE unsigned char *copy = malloc(len + 1);
        assert_non_null(copy);
        memcpy(copy, frame.bytes, len);
        assert_int_equal(wire_request_decode(copy, len, &out, &err), -1);
        if (len < WIRE_HEADER_SIZE)
            continue;
        copy[8] = (unsigned char)(len - WIRE_HEADER_SIZE);
        copy[9] = (unsigned char)((len - WIRE_HEADER_SIZE) >> 8);
        assert_int_equal(wire_request_decode(copy, len, &out, &err), -1);
    }
}

static void test_oversize(void **state UNUSED)
{
    static unsigned char bytes[WIRE_FRAME_MAX + 1] = { 'C', 'O', 'F', 'D', 1, 0, 3, 0, 0xf5, 0x3f };
    struct wire_header header;
    struct error err = ERROR_INIT;
    assert_int_equal(wire_header_decode(bytes, sizeof(bytes), &header, &err), -1);
    assert_string_equal(err.msg, "frame: 16385 bytes is not a frame");
}

static void test_names(void **state UNUSED)
{
    uint16_t op = 0;
    assert_non_null(wire_message_by_name("UNWRAP", &op));
    assert_int_equal(op, WIRE_UNWRAP);
    assert_int_equal(wire_message_descriptors(wire_message_find(WIRE_UNWRAP)), 1);
    assert_int_equal(wire_message_descriptors(wire_message_find(WIRE_MINT)), 0);
    assert_int_equal(wire_message_descriptors(wire_message_find(WIRE_UNWRAP_CLIENT)), 1);
    assert_int_equal(wire_message_descriptors(wire_message_find(WIRE_SERVER_KEY)), 0);
    assert_null(wire_message_by_name("REWRAP", &op));
    assert_null(wire_message_by_name("", &op));
    assert_null(wire_message_find(WIRE_NONE));
    assert_null(wire_message_find(WIRE_OP_LIMIT));
    assert_null(wire_message_find(UINT16_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_round_trip), cmocka_unit_test(test_request_bytes),
        cmocka_unit_test(test_longest_fields),     cmocka_unit_test(test_reply_round_trip),
        cmocka_unit_test(test_reply_to_nothing),   cmocka_unit_test(test_reply_too_long),
        cmocka_unit_test(test_malformed),          cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_session_round_trip), cmocka_unit_test(test_server_key_reply),
        cmocka_unit_test(test_oversize),           cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
