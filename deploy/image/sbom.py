# SPDX-License-Identifier: Apache-2.0
"""The image's bill of materials as SPDX 2.3 JSON: Coffer, each Debian package that gave files or code, each file.
https://spdx.github.io/spdx-spec/v2.3/"""
import hashlib
import re
from urllib.parse import quote

import debian
import licence
import oci

NONE = 'NOASSERTION'
WHERE = 'the text is in the image, usr/share/doc/PACKAGE/copyright.'
COFFER = 'SPDXRef-Package-coffer'


def _id(kind, name):
    return f'SPDXRef-{kind}-' + re.sub(r'[^A-Za-z0-9.-]', '-', name)


def _sha(kind, data):
    return hashlib.new(kind, data, usedforsecurity=False).hexdigest()


def _file(path, data):
    return {'SPDXID': _id('File', path), 'fileName': './' + path, 'licenseConcluded': NONE, 'copyrightText': NONE,
            'licenseInfoInFiles': [NONE],
            'checksums': [{'algorithm': name.upper(), 'checksumValue': _sha(name, data)} for name in ('sha1', 'sha256')]}


def _files_of(owned):
    """What says which files a package gave: owned is path -> bytes."""
    if not owned:
        return {'filesAnalyzed': False}
    sums = ''.join(sorted(_sha('sha1', data) for data in owned.values()))
    return {'filesAnalyzed': True, 'packageVerificationCode': {'packageVerificationCodeValue': _sha('sha1', sums.encode())},
            'licenseInfoFromFiles': [NONE]}


def _coffer(version, revision, owned):
    return {'SPDXID': COFFER, 'name': 'coffer', 'versionInfo': version, 'downloadLocation': NONE, 'licenseConcluded': 'Apache-2.0',
            'licenseDeclared': 'Apache-2.0', 'copyrightText': NONE, 'sourceInfo': f'built from commit {revision}',
            'primaryPackagePurpose': 'APPLICATION', **_files_of(owned)}


def _package(p, copyright_text, owned):
    declared, names = licence.declared(copyright_text)
    purl = f'pkg:deb/debian/{quote(p.name)}@{quote(p.version)}?arch={p.architecture}&distro=debian-{debian.release()}'
    row = {'SPDXID': _id('Package', p.name), 'name': p.name, 'versionInfo': p.version, 'downloadLocation': NONE, 'licenseConcluded': NONE,
           'licenseDeclared': declared, 'copyrightText': NONE, 'supplier': f'Person: {p.maintainer}',
           'sourceInfo': f'built from Debian source {p.source} {p.source_version}', **_files_of(owned),
           'externalRefs': [{'referenceCategory': 'PACKAGE-MANAGER', 'referenceType': 'purl', 'referenceLocator': purl}]}
    if p.homepage:
        row['homepage'] = p.homepage
    return row, names


def _relation(one, kind, other):
    return {'spdxElementId': one, 'relationshipType': kind, 'relatedSpdxElement': other}


def document(tree, packages, linked, copyrights, *, version, revision, epoch, layer):
    """Bytes. packages: Debian's whose files are in the tree; linked: those whose code is in Coffer's programs; copyrights:
    name -> text; layer: the digest of the tree's archive."""
    by_owner, refs, rows, relations = {}, {}, [], [_relation('SPDXRef-DOCUMENT', 'DESCRIBES', COFFER)]
    for path, entry in tree.files():
        by_owner.setdefault(entry.owner, {})[path] = entry.data
    rows.append(_coffer(version, revision, by_owner.get('', {})))
    for p in sorted(packages | linked, key=lambda p: p.name):
        row, names = _package(p, copyrights.get(p.name, ''), by_owner.get(p.name))
        rows.append(row)
        refs |= names
        relations += [_relation(COFFER, kind, row['SPDXID']) for kind, holds in
                      (('DEPENDS_ON', p in packages), ('STATIC_LINK', p in linked)) if holds]
    for row_id, name in [(COFFER, ''), *((_id('Package', p.name), p.name) for p in packages | linked)]:
        relations += [_relation(row_id, 'CONTAINS', _id('File', path)) for path in by_owner.get(name, ())]
    return oci.text({
        'spdxVersion': 'SPDX-2.3', 'dataLicense': 'CC0-1.0', 'SPDXID': 'SPDXRef-DOCUMENT', 'name': f'coffer-{version}',
        'documentNamespace': f'https://csi.coffer.dev/spdx/coffer-{version}-{layer.partition(":")[2]}',
        'creationInfo': {'created': oci.utc(epoch), 'creators': [f'Tool: coffer-deploy-image-{version}']},
        'packages': rows, 'files': [_file(path, entry.data) for path, entry in tree.files()],
        'hasExtractedLicensingInfos': [{'licenseId': ref, 'name': name, 'extractedText': f'{name}: {WHERE}'}
                                       for ref, name in sorted(refs.items())],
        'relationships': sorted(relations, key=lambda r: (r['spdxElementId'], r['relationshipType'], r['relatedSpdxElement']))})
