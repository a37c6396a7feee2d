"""Archive and Recover: objects whose material no service can use until they are recovered (2.1, 6.1.4 and 6.1.42).

The store seals an object that has an Archive Date under the archive's own key, and gives its material to nobody.
"""

from keystore.call import Call, operation
from kmip.enums import Operation
from kmip.payloads import ArchiveRequest, ArchiveResponse, RecoverRequest, RecoverResponse


@operation(Operation.ARCHIVE)
def archive(call: Call, request: ArchiveRequest) -> ArchiveResponse:
    """Put an object in archival storage (KMIP 2.1, 6.1.4)."""
    managed = call.live(request.unique_identifier)
    managed.attributes.archive_date = call.now
    call.changed(managed)
    return ArchiveResponse(unique_identifier=managed.uid)


@operation(Operation.RECOVER)
def recover(call: Call, request: RecoverRequest) -> RecoverResponse:
    """Bring an object back from archival storage; nothing changes for one that is not there (KMIP 2.1, 6.1.42)."""
    managed = call.object(request.unique_identifier)
    if managed.attributes.archive_date is not None:
        managed.attributes.archive_date = None
        call.changed(managed)
    call.batch.placeholder = managed.uid
    return RecoverResponse(unique_identifier=managed.uid)
