"""PKCS#11: calls of Cryptoki, as far as the PKCS#11 profile asks for them (2.1, 6.1.37).

Parameters are laid out as the profile says: numbers are eight bytes, versions two, texts padded with blanks.
"""

import hmac
import os
from typing import Final

from keystore import conf, sealing
from keystore.call import Call, operation
from keystore.version import VERSION
from kmip.enums import Operation, PKCS11Function, PKCS11ReturnCode, ResultReason
from kmip.errors import KMIPError
from kmip.payloads import PKCS11Request, PKCS11Response

#: The only interface: that of PKCS#11 itself, by its name or by none.
INTERFACE: Final = "PKCS 11"
#: The version of Cryptoki whose functions the protocol numbers.
CRYPTOKI: Final = bytes([3, 0])
TEXT_LENGTH: Final = 32
NONCE_LENGTH: Final = 16
#: CKR values of PKCS#11 that the protocol has no names for.
FUNCTION_NOT_SUPPORTED: Final = PKCS11ReturnCode.of(0x54)
NOT_INITIALIZED: Final = PKCS11ReturnCode.of(0x190)


@operation(Operation.PKCS_11, changes=False)
def pkcs_11(call: Call, request: PKCS11Request) -> PKCS11Response:
    """Carry out a function of PKCS#11 (KMIP 2.1, 6.1.37)."""
    if request.pkcs_11_interface not in (None, INTERFACE):
        raise KMIPError(ResultReason.PKCS_11_INVALID_INTERFACE, f"the only interface is {INTERFACE}")
    function = request.pkcs_11_function
    if function not in PKCS11Function.__members__.values():
        raise KMIPError(ResultReason.PKCS_11_INVALID_FUNCTION, f"{function} is not a function of PKCS#11")
    response = PKCS11Response(pkcs_11_function=function, pkcs_11_return_code=PKCS11ReturnCode.OK)
    if function == PKCS11Function.C_INITIALIZE:
        response.correlation_value = _begun(call)
    elif not _is_begun(call, request.correlation_value):
        response.pkcs_11_return_code = NOT_INITIALIZED
    elif function == PKCS11Function.C_GET_INFO:
        response.pkcs_11_output_parameters = _info()
    elif function != PKCS11Function.C_FINALIZE:
        response.pkcs_11_return_code = FUNCTION_NOT_SUPPORTED
    return response


def _begun(call: Call) -> bytes:
    """A Correlation Value by which every process knows that this client has called C_Initialize."""
    nonce = os.urandom(NONCE_LENGTH)
    return nonce + _mac(call, nonce)


def _is_begun(call: Call, value: bytes | None) -> bool:
    if value is None:
        return False
    nonce, mac = value[:NONCE_LENGTH], value[NONCE_LENGTH:]
    return hmac.compare_digest(mac, _mac(call, nonce))


def _mac(call: Call, nonce: bytes) -> bytes:
    who = f"{call.identity.namespace}/{call.identity.username}".encode()
    return hmac.digest(sealing.sealer().derive("pkcs11"), nonce + who, "sha256")


def _info() -> bytes:
    """CK_INFO: Cryptoki's version, manufacturer, flags, description and version of the library."""
    major, minor, *_ = (int(part) for part in VERSION.split("."))
    texts = [
        text.encode()[:TEXT_LENGTH].ljust(TEXT_LENGTH)
        for text in (conf.current().server.vendor_identification, "KMIP key management server")
    ]
    return CRYPTOKI + texts[0] + bytes(8) + texts[1] + bytes([major, minor])
