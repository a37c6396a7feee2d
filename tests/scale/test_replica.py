"""A replica of the database answers searches and gives rows, and nobody ever sees what is older than the primary."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kmip.attributes import Attributes
from kmip.enums import Operation, ResultReason, State
from kmip.payloads import LocateRequest
from kmip.structures import Name
from tests.nodes import Client, Node, cluster
from tests.processes import manage, until
from tests.scale.using import active, destroy, encrypt, get, revoke

pytestmark = pytest.mark.scale

O, R = Operation, ResultReason  # noqa: E741
ROUNDS = 20


def located(client: Client, **values: object) -> list[str]:
    wanted = Attributes()
    for name, value in values.items():
        setattr(wanted, name, value)
    return client.do(O.LOCATE, LocateRequest(attributes=wanted)).unique_identifier


def named(client: Client, name: str) -> list[str]:
    return located(client, name=[Name(name_value=name, name_type=1)])


def answered(node: Node) -> dict[str, float]:
    """How many searches the replica and the primary have answered."""
    status, body, _ = node.ask("GET", "/metrics", user="watcher")
    assert status == 200
    return {
        sample.labels["answered_by"]: sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if sample.name == "kms_replica_reads_total"
    }


def test_a_replica_answers_only_what_is_as_new_as_the_primary(private, tmp_path):
    """What was just made, revoked or destroyed is seen at once: whether the replica is up to date, late, or gone."""
    with type(private)(private) as replica, cluster(tmp_path, private.url, KMS_REPLICA_URL=replica.url) as nodes:
        (node,) = nodes.start()
        with node.client() as client:
            for number in range(ROUNDS):
                uid = active(client, name=[Name(name_value=f"key {number}", name_type=1)])
                assert named(client, f"key {number}") == [uid]
                client.do(O.GET, get(uid))
                client.do(O.REVOKE, revoke(uid))
                assert client.tried(O.ENCRYPT, encrypt(uid)).result_reason == R.WRONG_KEY_LIFECYCLE_STATE
                client.do(O.DESTROY, destroy(uid))
                assert client.tried(O.GET, get(uid)).result_reason == R.OBJECT_DESTROYED
            assert len(located(client, state=State.PRE_ACTIVE)) == 0

            given = manage(node.folder, "role", "give", "auditor", "user:watcher", **nodes.settings)
            assert given.returncode == 0, given.stderr

            def answers() -> bool:
                named(client, "key 0")
                return answered(node).get("replica", 0) > before

            before = answered(node).get("replica", 0)
            until(answers, "the replica answers")

            replica.hold(True)
            before = answered(node).get("replica", 0)
            uid = client.created("made while the replica stands still")
            assert named(client, "made while the replica stands still") == [uid]
            client.do(O.GET, get(uid))
            assert answered(node).get("replica", 0) == before
            replica.hold(False)
            until(answers, "the replica answers again")

            replica.stop()
            uid = client.created("made while there is no replica")
            assert named(client, "made while there is no replica") == [uid]
            client.do(O.GET, get(uid))
            replica.start()
            until(answers, "the replica answers after its return", 30)
