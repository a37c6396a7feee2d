"""PKCS#11: the functions of the profile, and what every other one answers."""

import pytest

from kmip.enums import Operation, PKCS11Function, PKCS11ReturnCode, ResultReason
from kmip.payloads import PKCS11Request
from tests.authority import do, refused, sealed  # noqa: F401 - a fixture among them

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]
F, R = PKCS11Function, PKCS11ReturnCode


def call(function, correlation=None, user="alice", **request):
    request = PKCS11Request(pkcs_11_function=function, correlation_value=correlation, **request)
    return do(Operation.PKCS_11, request, user)


def test_a_client_begins_asks_who_this_is_and_ends():
    """CK_INFO has the version of Cryptoki, two texts of 32 characters, flags, and the version of the library."""
    begun = call(F.C_INITIALIZE, pkcs_11_input_parameters=b"\x01")
    assert begun.pkcs_11_return_code == R.OK and begun.pkcs_11_function == F.C_INITIALIZE
    info = call(F.C_GET_INFO, begun.correlation_value)
    data = info.pkcs_11_output_parameters
    assert info.pkcs_11_return_code == R.OK and len(data) == 2 + 32 + 8 + 32 + 2
    assert data[:2] == bytes([3, 0]) and data[2:34] == b"KMS".ljust(32) and data[34:42] == bytes(8)
    assert data[42:74] == b"KMIP key management server".ljust(32)
    assert call(F.C_FINALIZE, begun.correlation_value).pkcs_11_return_code == R.OK


def test_who_has_not_begun_is_told_so():
    """CKR_CRYPTOKI_NOT_INITIALIZED: without a correlation value, with a wrong one, with somebody else's."""
    begun = call(F.C_INITIALIZE).correlation_value
    for value, user in ((None, "alice"), (b"", "alice"), (begun[:-1] + b"\x00\x00", "alice"), (begun, "bob")):
        answer = call(F.C_GET_INFO, value, user)
        assert answer.pkcs_11_return_code == R.of(0x190) and answer.pkcs_11_output_parameters is None


def test_other_functions_are_not_supported_and_others_are_none():
    """CKR_FUNCTION_NOT_SUPPORTED for a function of PKCS#11; an error of KMIP for what is none, or of no interface."""
    begun = call(F.C_INITIALIZE).correlation_value
    assert call(F.C_SIGN, begun).pkcs_11_return_code == R.of(0x54)
    refused(ResultReason.PKCS_11_INVALID_FUNCTION, Operation.PKCS_11, PKCS11Request(pkcs_11_function=F.of(0x7FFF)))
    vendor = PKCS11Request(pkcs_11_function=F.C_INITIALIZE, pkcs_11_interface="Vendor X")
    refused(ResultReason.PKCS_11_INVALID_INTERFACE, Operation.PKCS_11, vendor)
