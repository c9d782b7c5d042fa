# SPDX-License-Identifier: Apache-2.0
"""Whole files, as bytes. What write() wrote is on the disk when it returns."""
import os


def read(path):
    with open(path, 'rb') as f:
        return f.read()


def write(path, data):
    with open(path, 'wb') as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
