#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The conformance suite of all drivers (e2e/lib/cloudsuite.py) with the stub driver, which really opens sessions; census counts by the
scheduler's own administrators' socket."""
import contextlib
import os
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../../e2e/lib'))
import caselib  # noqa: E402
import cloudsuite  # noqa: E402
from clouddevice import Api, CloudDevice  # noqa: E402
from schedulerlib import Scheduler  # noqa: E402
from tap import Tap  # noqa: E402


def main():
    tap = Tap()
    if not caselib.built_with('coffer-scheduler', b'COFFER_FAULT_DIR'):
        tap.skip('the suite', 'the stub driver is in test builds only')
        tap.done()
    with tempfile.TemporaryDirectory(prefix='coffer-suite-') as folder:
        scheduler = Scheduler(folder).start()

        def device(label, digest):
            return CloudDevice(folder, f'{label}-{len(os.listdir(folder))}', label, digest)

        def restart():
            scheduler.stop()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(scheduler.socket)  # an old one would be taken for the new one
            scheduler.start()

        def census(cloud_id):
            rows = [c for c in scheduler.admin_get('/admin/clouds')['clouds'] if c['id'] == cloud_id]
            return len([c for c in rows if c['volumeId']]), len([c for c in rows if c['vm'] != 'none'])
        cloudsuite.run(tap, cloudsuite.Suite(Api('unix://' + scheduler.socket), device, restart=restart, census=census))
        scheduler.stop()
    tap.done()


main()
