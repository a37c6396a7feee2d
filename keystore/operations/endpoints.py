"""Operations about the connection: Set Endpoint Role, by which client and server change places (`notifications` says
what follows), and Re-Provision, which gives the client another certificate for it (`provisioning`)."""

from typing import Any

from keystore import authn, notifications
from keystore.call import Call, operation
from kmip.enums import EndpointRole, Operation, ResultReason
from kmip.errors import KMIPError
from kmip.payloads import ReProvisionRequest, ReProvisionResponse, SetEndpointRoleRequest, SetEndpointRoleResponse


@operation(Operation.SET_ENDPOINT_ROLE)
def set_endpoint_role(call: Call, request: SetEndpointRoleRequest) -> SetEndpointRoleResponse:
    """Take the client role on the connection, or keep the server's (KMIP 2.1, 6.1.54)."""
    if request.endpoint_role not in (EndpointRole.CLIENT, EndpointRole.SERVER):
        raise KMIPError(ResultReason.INVALID_FIELD, f"{request.endpoint_role} is no Endpoint Role")
    if request.endpoint_role == EndpointRole.CLIENT:
        if call.peer.transport != "kmip":
            raise KMIPError(ResultReason.FEATURE_NOT_SUPPORTED, "roles change on connections of KMIP over TLS only")
        known, asking = authn.identify(call.peer), call.identity
        if (known.namespace, known.username, known.method) != (asking.namespace, asking.username, asking.method):
            # What is sent goes to the user of the connection, with the rights of the connection.
            raise KMIPError(ResultReason.PERMISSION_DENIED, "the user of the request is not that of the connection")
        notifications.subscribe(call.identity)
        call.peer.serves = call.version
    else:
        call.peer.serves = None
    return SetEndpointRoleResponse(endpoint_role=request.endpoint_role)


def _key(call: Call, request: ReProvisionRequest) -> Any:
    """The new key, before the transaction, where the server is to make one."""
    from keystore import provisioning  # Not at the top: it uses the engine, which loads the operations.

    return None if request.certificate_request or request.certificate else provisioning.new_key(call.identity)


@operation(Operation.RE_PROVISION, prepare=_key)
def re_provision(call: Call, request: ReProvisionRequest) -> ReProvisionResponse:
    """Replace the certificate by which the client is known (KMIP 2.1, 6.1.48)."""
    from keystore import provisioning

    asked, brought = request.certificate_request, request.certificate
    if asked is not None and brought is not None:
        raise KMIPError(ResultReason.INVALID_FIELD, "a Certificate Request or a Certificate, not both")
    uid = provisioning.reprovision(
        call.peer,
        call.identity,
        certificate=brought.certificate_value if brought is not None else None,
        request=asked.certificate_request_value if asked is not None else None,
        made=call.prepared,
    )
    call.returns(uid)
    return ReProvisionResponse(unique_identifier=uid)
