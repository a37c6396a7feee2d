"""Nodes of one server for tests: real processes that share a database and a root key, and clients of them."""

import contextlib
import http.client
import os
import random
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kmip import ttlv
from kmip.attributes import Attributes
from kmip.enums import CryptographicAlgorithm, CryptographicUsageMask, ObjectType, Operation, ResultStatus
from kmip.messages import ResponseBatchItem, ResponseMessage
from kmip.payloads import PAYLOADS, CreateRequest
from kmip.schema import Struct, dump
from kmip.structures import Name
from kmip.tags import Tag
from kmip.versions import V2_1
from tests.certificates import CLIENT, Pki, make
from tests.processes import Running, environment
from tests.wire import message


class Client:
    """One connection of a KMIP client."""

    def __init__(self, port: int, context: ssl.SSLContext, *, timeout: float = 30) -> None:
        raw = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        try:
            self.stream = context.wrap_socket(raw, server_hostname="localhost")
        except BaseException:
            raw.close()
            raise

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            chunk = self.stream.recv(count - len(data))
            if not chunk:
                raise ConnectionResetError("the server closed the connection")
            data += chunk
        return bytes(data)

    def send(self, *items: Any, **header: Any) -> list[ResponseBatchItem]:
        """Send (operation, payload) pairs as one message; its items, with typed payloads."""
        self.stream.sendall(ttlv.encode(dump(message(*items, version=V2_1, **header), Tag.REQUEST_MESSAGE, V2_1)))
        head = self._exactly(8)
        data = head + self._exactly(int.from_bytes(head[4:], "big"))
        found = ResponseMessage.load(ttlv.decode(data)).batch_item
        for item in found:
            if item.operation is not None and item.response_payload is not None:
                item.response_payload = PAYLOADS[item.operation].response.load(item.response_payload)
        return found

    def tried(self, operation: Operation, payload: Struct, **header: Any) -> ResponseBatchItem:
        """How one operation ended."""
        return self.send((operation, payload), **header)[0]

    def do(self, operation: Operation, payload: Struct, **header: Any) -> Any:
        """The payload of the answer to an operation, which has to succeed."""
        item = self.tried(operation, payload, **header)
        assert item.result_status == ResultStatus.SUCCESS, (item.result_reason, item.result_message)
        return item.response_payload

    def created(self, *names: str, **values: Any) -> str:
        """A new AES key's identifier."""
        attributes = Attributes()
        attributes.name = [Name(name_value=name, name_type=1) for name in names]
        attributes.cryptographic_algorithm, attributes.cryptographic_length = CryptographicAlgorithm.AES, 256
        attributes.cryptographic_usage_mask = int(CryptographicUsageMask.ENCRYPT | CryptographicUsageMask.DECRYPT)
        for name, value in values.items():
            setattr(attributes, name, value)
        request = CreateRequest(object_type=ObjectType.SYMMETRIC_KEY, attributes=attributes)
        return str(self.do(Operation.CREATE, request).unique_identifier)


def _free_port() -> int:
    """A port that nobody listens on, and that the system gives to no client."""
    while True:
        port = random.randint(20_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Node:
    """A started node."""

    def __init__(self, cluster: "Cluster", number: int) -> None:
        self.cluster, self.folder = cluster, cluster.folder / f"node-{number}"
        self.folder.mkdir(exist_ok=True)
        # Nodes on one machine are told apart by their ports.
        self.server = Running(self.folder, **cluster.settings, KMS_PORT=str(_free_port()))

    def wait(self) -> "Node":
        """Wait until it serves."""
        self.kmip, self.https = self.server.kmip_port, self.server.http_port
        return self

    @property
    def name(self) -> str:
        """What it calls itself."""
        return f"{socket.gethostname()}:{self.https}"

    def client(self, user: str = "alice", **options: Any) -> Client:
        return Client(self.kmip, self.cluster.context(user), **options)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        user: str = "alice",
        timeout: float = 30,
        **headers: str,
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        """Status, body and headers of an HTTP answer."""
        connection = http.client.HTTPSConnection(
            "localhost", self.https, context=self.cluster.context(user), timeout=timeout
        )
        with contextlib.closing(connection):
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers

    def kill(self) -> None:
        """End every process of it at once, as a machine without power does."""
        processes = [*self.server.children(), self.server.process.pid]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            # Stopped first: none may see another one's end and act on it.
            for pid in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        self.server.process.wait(30)


class Cluster:
    """Nodes with one database, root key and authority."""

    def __init__(self, folder: Path, url: str, **settings: str) -> None:
        self.folder, self.pki = folder, Pki(folder)
        environment(folder, {})  # It makes the root key.
        self.settings = {
            "DATABASE_URL": url,
            "KMS_ROOT_KEY_FILE": str(folder / "root.key"),
            **self.pki.settings(),
            **settings,
        }
        self._contexts: dict[str, ssl.SSLContext] = {}
        self.nodes: list[Node] = []
        self._started = 0

    def context(self, user: str) -> ssl.SSLContext:
        """The TLS context of a user's clients."""
        found = self._contexts.get(user)
        if found is None:
            files = make(user, self.pki.ca, usage=CLIENT).write(self.folder, f"client-{user}")
            found = self._contexts[user] = self.pki.client_context(files)
        return found

    def start(self, count: int = 1) -> list[Node]:
        """Start so many more nodes."""
        made: list[Node] = []
        for _ in range(count):
            made.append(Node(self, self._started))
            self.nodes.append(made[-1])
            if self._started == 0:
                made[-1].wait()  # It makes the tables.
            self._started += 1
        return [one.wait() for one in made]

    def stop(self) -> None:
        """End every node that has not been killed."""
        for node in self.nodes:
            if node.server.process.poll() is None:
                node.server.process.terminate()
        for node in self.nodes:
            with node.server:
                node.server.process.wait(30)


@contextlib.contextmanager
def cluster(folder: Path, url: str, **settings: str) -> Iterator[Cluster]:
    """A cluster whose nodes are stopped at the end."""
    made = Cluster(folder, url, **settings)
    try:
        yield made
    finally:
        made.stop()
