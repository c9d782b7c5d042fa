/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/confirm.h"

#include "common/cleanup.h"

#include <fcntl.h>
#include <unistd.h>

static int read_line(int fd, char *ret, size_t size)
{
    size_t len = 0;
    while (len + 1 < size && read(fd, ret + len, 1) == 1 && ret[len] != '\n')
        len++;
    ret[len] = '\0';
    return len > 0 ? 0 : -1;
}

int confirm(const char *question, const char *answer, const char *otherwise, struct error *err)
{
    char typed[128] = "";
    AUTO_CLOSE int tty = open("/dev/tty", O_RDWR | O_CLOEXEC);
    if (tty < 0)
        return error_set(err, ERR_PRECONDITION, "there is no terminal to confirm on: use --yes");
    (void)dprintf(tty, "%s", question);
    if (read_line(tty, typed, sizeof(typed)) < 0 || strcmp(typed, answer) != 0)
        return error_set(err, ERR_CANCELED, "not confirmed: %s", otherwise);
    return 0;
}
