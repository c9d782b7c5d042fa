/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The key pipe, from coffer-crypt's side: one whole right frame gives its 32 bytes, anything else
 * nothing, and no error text holds what came.
 *
 * covers: crypt/keys.c:key_read_frame
 */
#include "tests/fuzz/target.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/secret.h"
#include "crypt/keys.h"
#include "keyd/frame.h"

#include <fcntl.h>
#include <unistd.h>

static void check(const struct secret *key, const uint8_t *data, size_t size)
{
    const struct key_frame *f = (const struct key_frame *)data;

    must(size >= sizeof(*f) && f->magic == KEY_FRAME_MAGIC && f->status == KEY_FRAME_OK);
    must(secret_len(key) == KEY_BYTES && memcmp(secret_data(key), f->key, KEY_BYTES) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_SECRET struct secret *key = NULL;
    struct error err = ERROR_INIT;
    int pipe_fds[2];

    if (size > 4096)
        return 0;
    must(pipe2(pipe_fds, O_CLOEXEC) == 0);
    must(write(pipe_fds[1], data, size) == (ssize_t)size);
    (void)close(pipe_fds[1]);
    int r = key_read_frame(pipe_fds[0], deadline_in(60000), &key, &err);
    (void)close(pipe_fds[0]);
    if (r == 0) {
        check(key, data, size);
        return 0;
    }
    must(key == NULL && (err.code == ERR_INVALID || err.code == ERR_UNAVAILABLE));
    must_be_sentence(&err);
    return 0;
}
