# SPDX-License-Identifier: Apache-2.0
"""Coffer's fixture with its keys in a real Vault: services(vault, layout, folder) is the configuration's "kms" for
fixture.Coffer, with one login by approle that may do what coffer-keyd is started for."""
import os

from fixture import GID, UID_KEYD
from vaultsetup import KV_PREFIX, TENANT_KEY

ROLES = ('controller', 'node')


def readable(w, auth):
    """The files of a keydfaults.World, and of this login of it, for a coffer-keyd that runs as its own user."""
    for path in (w.ca, auth['secret_id_path']):
        os.chown(path, UID_KEYD, GID)
    for path in (w.folder, os.path.dirname(w.folder)):
        os.chmod(path, 0o755)


def services(vault, layout, folder):
    """layout: mounted, with its policies. The files are made readable for coffer-keyd's user."""
    role = layout.approle(*ROLES)
    secret_id = os.path.join(folder, 'secret-id')
    with open(secret_id, 'w', encoding='ascii', opener=lambda path, flags: os.open(path, flags, 0o600)) as f:
        f.write(role.body['secret_id'] + '\n')
    for path in (secret_id, vault.ca):
        os.chown(path, UID_KEYD, GID)
    host = vault.address.removeprefix('https://')
    common = {'ca': vault.ca, 'auth': {'method': 'approle', 'mount': role.mount, 'role': '-'.join(ROLES),
                                       'role_id': role.body['role_id'], 'secret_id_path': secret_id}}
    return {'vault': {'uri': f'hcvault://{host}/{layout.transit}/keys/{TENANT_KEY}{{tenant}}', **common},
            'kv': {'uri': f'hcvault+kv://{host}/{layout.kv}/{KV_PREFIX}', **common}}
