"""A session of PyKMIP's client, run in a process of its own: its package has the same name as ours.

    python pykmip_session.py PORT CA CERTIFICATE KEY VERSION

Prints one line for each step that went as it should; any other outcome is an exception.
"""

import sys

from kmip.core import enums
from kmip.pie import exceptions, objects
from kmip.pie.client import ProxyKmipClient


def main(port, ca, certificate, key, version):
    """Create, register, get, get attributes, locate, activate, revoke and destroy."""
    client = ProxyKmipClient(
        hostname="127.0.0.1",
        port=int(port),
        cert=certificate,
        key=key,
        ca=ca,
        ssl_version="PROTOCOL_TLSv1_2",
        kmip_version=enums.KMIPVersion[version],
    )
    with client:
        mask = [enums.CryptographicUsageMask.ENCRYPT, enums.CryptographicUsageMask.DECRYPT]
        name = f"pykmip {version}"
        uid = client.create(enums.CryptographicAlgorithm.AES, 256, name=name, cryptographic_usage_mask=mask)
        print("create")
        own = objects.SymmetricKey(enums.CryptographicAlgorithm.AES, 128, bytes(range(16)), masks=mask)
        registered = client.register(own)
        print("register")
        assert client.get(registered).value == bytes(range(16))
        assert len(client.get(uid).value) == 32
        print("get")
        # By name, because this client does not know every attribute of its newest version.
        found, attributes = client.get_attributes(uid, ["State", "Cryptographic Length", "Name"])
        values = {one.attribute_name.value: one.attribute_value for one in attributes}
        assert found == uid and values["Cryptographic Length"].value == 256, values
        assert values["State"].value == enums.State.PRE_ACTIVE
        print("get attributes")
        located = client.locate()
        assert uid in located and registered in located
        print("locate")
        client.activate(uid)
        print("activate")
        try:
            client.destroy(uid)
        except exceptions.KmipOperationFailure as error:
            assert error.status == enums.ResultStatus.OPERATION_FAILED
        else:
            raise AssertionError("an active key was destroyed")
        client.revoke(enums.RevocationReasonCode.CESSATION_OF_OPERATION, uid)
        print("revoke")
        client.destroy(uid)
        client.destroy(registered)
        print("destroy")


main(*sys.argv[1:])
