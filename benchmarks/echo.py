"""The floor: a thread for each connection, TLS with client certificates, every message sent back as it came."""

import socket
import ssl
import sys
import threading


def serve(listener: socket.socket, context: ssl.SSLContext) -> None:
    """Echo on every connection until the process ends."""
    while True:
        raw, _ = listener.accept()
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_echo, args=(raw, context), daemon=True).start()


def _echo(raw: socket.socket, context: ssl.SSLContext) -> None:
    try:
        connection = context.wrap_socket(raw, server_side=True)
        while data := connection.recv(65536):
            connection.sendall(data)
    except OSError:
        raw.close()


def main() -> None:
    """Serve on a port, with a certificate, its key, and the CA of the clients."""
    port, certificate, key, ca = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(ca)
    context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", int(port)), backlog=512)
    serve(listener, context)


if __name__ == "__main__":
    main()
