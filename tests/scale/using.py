"""What the tests of several nodes have in common: requests, and the using up of a key from many threads."""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kmip.enums import BlockCipherMode, Operation, ResultStatus, RevocationReasonCode, UsageLimitsUnit
from kmip.payloads import ActivateRequest, DestroyRequest, EncryptRequest, GetRequest, RevokeRequest
from kmip.structures import CryptographicParameters, RevocationReason, UsageLimits
from tests.nodes import Client, Cluster, Node


def encrypt(uid: str) -> EncryptRequest:
    return EncryptRequest(
        unique_identifier=uid,
        cryptographic_parameters=CryptographicParameters(block_cipher_mode=BlockCipherMode.GCM),
        data=b"sixteen bytes !!",
    )


def get(uid: str) -> GetRequest:
    return GetRequest(unique_identifier=uid)


def revoke(uid: str) -> RevokeRequest:
    reason = RevocationReason(revocation_reason_code=RevocationReasonCode.CESSATION_OF_OPERATION)
    return RevokeRequest(unique_identifier=uid, revocation_reason=reason)


def activate(uid: str) -> ActivateRequest:
    return ActivateRequest(unique_identifier=uid)


def destroy(uid: str) -> DestroyRequest:
    return DestroyRequest(unique_identifier=uid)


def limits(total: int) -> UsageLimits:
    return UsageLimits(usage_limits_total=total, usage_limits_count=total, usage_limits_unit=UsageLimitsUnit.OBJECT)


def active(client: Client, **values: Any) -> str:
    uid = client.created(**values)
    client.do(Operation.ACTIVATE, activate(uid))
    return uid


THREADS, LIMIT = 50, 1000


def patiently(node: Node) -> Client:
    """A connection, also where many ask for one at a time."""
    for _ in range(5):
        with contextlib.suppress(OSError):
            return node.client()
    return node.client()


def use_up(cluster: Cluster, uid: str, during: Callable[[Counter], None] = lambda served: None) -> Counter:
    """Use a key from many threads on both nodes until all are refused; how requests ended.

    A thread whose node is gone goes on with the other one."""
    ended: Counter = Counter()
    counting = threading.Lock()
    begin = threading.Barrier(THREADS + 1)

    def work(number: int) -> None:
        client = patiently(cluster.nodes[number % 2 - 2])
        begin.wait(60)
        while True:
            try:
                item = client.tried(Operation.ENCRYPT, encrypt(uid))
            except OSError:
                client.stream.close()
                client = patiently(cluster.nodes[-1])
                with counting:
                    ended["lost"] += 1
                continue
            with counting:
                ended["served" if item.result_status == ResultStatus.SUCCESS else str(item.result_reason)] += 1
            if item.result_status != ResultStatus.SUCCESS:
                break
        client.stream.close()

    with ThreadPoolExecutor(THREADS) as threads:
        working = [threads.submit(work, number) for number in range(THREADS)]
        begin.wait(60)
        during(ended)
        for one in working:
            one.result(120)
    return ended
