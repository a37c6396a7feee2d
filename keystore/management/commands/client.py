"""Clients: their authority, certificates, registration tokens, and the queue of unknown ones."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from keystore import bundles, ca, clients, conf, pki
from keystore.authn import Peer
from keystore.models import Authority
from kmip.errors import KMIPError


def _when(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"


class Command(BaseCommand):
    help = "Get clients on board, and off again."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--user", default=None, help="On whose rights; default: auth.default_username.")
        what = parser.add_subparsers(dest="what", required=True)

        add = what.add_parser("add", help="Make a client's certificate, and the files that its product wants.")
        add.add_argument("name", help="The client's name, which is its user name.")
        add.add_argument("--product", choices=list(bundles.PRODUCTS), default="generic")
        add.add_argument("--csr", type=Path, help="Sign this certificate request instead of making a key.")
        add.add_argument("--key", choices=list(clients.KEYS), help="Kind of key; default: what the product takes.")
        add.add_argument("--days", type=int, help="Days of validity; default: pki.validity_days.")
        add.add_argument("--host", help="How the client reaches this server; default: a name in its certificate.")
        add.add_argument("--folder", type=Path, help="Where the files go; default: a new folder of the client's name.")

        authority = what.add_parser("authority", help="Show the authority for clients, make one, or take one in.")
        authority.add_argument("--create", metavar="NAME", help="Make a root with this common name.")
        authority.add_argument("--certificate", type=Path, help="Take in this CA certificate ...")
        authority.add_argument("--key", type=Path, help="... and its private key.")
        authority.add_argument("--use", metavar="UID", help="Accept clients of the authority with this certificate.")
        authority.add_argument("--drop", metavar="UID", help="Accept them no longer.")
        authority.add_argument("--revoke", metavar="UID", help="Revoke its certificate: its key is compromised.")

        token = what.add_parser("token", help="Make a one-time registration token.")
        token.add_argument("name")
        token.add_argument("--hours", type=float)

        what.add_parser("list", help="List the certificates of clients.")
        revoke = what.add_parser("revoke", help="Revoke a certificate by fingerprint, or all of a client's.")
        revoke.add_argument("name")
        what.add_parser("waiting", help="List unknown client certificates that knocked.")
        for name, text in (("accept", "Accept exactly this certificate."), ("refuse", "Refuse it for good.")):
            one = what.add_parser(name, help=text)
            one.add_argument("fingerprint", help="At least its first 8 digits.")
            if name == "accept":
                one.add_argument("--name", help="User name; default: the one in the certificate.")
        pages = what.add_parser("pages", help="Print the products' pages of settings.")
        pages.add_argument("--write", action="store_true", help="Write docs/clients/.")

    def handle(self, *args: object, **options: Any) -> None:
        user = options["user"] or conf.current().auth.default_username
        peer = Peer("cli", user=user)
        try:
            getattr(self, f"_{options['what']}")(peer, options)
        except KMIPError as exc:
            raise CommandError(exc.message) from exc
        except FileExistsError as exc:
            raise CommandError(f"{exc.filename} exists; choose another --folder") from exc
        except OSError as exc:
            raise CommandError(f"{exc.filename}: {exc.strerror}") from exc

    def _add(self, peer: Peer, options: dict[str, Any]) -> None:
        name, product = options["name"], bundles.product(options["product"])
        folder = options["folder"] or Path(name.replace("/", "_"))
        key = None
        if options["csr"] is not None:
            request = options["csr"].read_bytes()
        else:
            key, request = clients.new_request(name, options["key"] or product.key)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if Authority.objects.filter(clients=True).first() is None:
            made = clients.create_authority(peer, "KMS clients")
            self.stdout.write(f"made the authority {made.subject} ({made.certificate_uid})")
        client = clients.enrol(peer, name, request, days=options["days"])
        material = bundles.material(conf.current(), client, key, host=options["host"])
        for path, content in bundles.make(options["product"], material).items():
            (folder / path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            pki.write(folder / path, content)
            self.stdout.write(str(folder / path))
        self.stdout.write(f"{client.name}: {client.fingerprint}, valid until {client.not_after:%Y-%m-%d}")

    def _authority(self, peer: Peer, options: dict[str, Any]) -> None:
        if options["create"]:
            clients.create_authority(peer, options["create"])
        if (options["certificate"] is None) != (options["key"] is None):
            raise CommandError("give both --certificate and --key")
        if options["certificate"] is not None:
            clients.import_authority(peer, options["certificate"].read_bytes(), options["key"].read_bytes())
        if options["use"]:
            clients.use_authority(peer, options["use"])
        if options["drop"]:
            clients.use_authority(peer, options["drop"], trusted=False)
        if options["revoke"]:
            clients.revoke_authority(peer, options["revoke"])
        for one in Authority.objects.order_by("subject"):
            trusted = "clients accepted" if one.clients else "clients not accepted"
            ends = ca.load(bytes(one.certificate)).not_valid_after_utc
            self.stdout.write(f"{one.certificate_uid}  {one.subject}  {trusted}, until {ends:%Y-%m-%d}")
            self.stdout.write(f"  /pki/{one.key_id}/crl")

    def _token(self, peer: Peer, options: dict[str, Any]) -> None:
        token, expires = clients.new_token(peer, options["name"], options["hours"])
        self.stdout.write(f"{token}  (for {options['name']}, until {expires:%Y-%m-%d %H:%M} UTC, shown this once)")

    def _list(self, peer: Peer, options: dict[str, Any]) -> None:
        for row in ca.issued(clients.authority()):
            state = f"revoked {_when(row.revoked)}" if row.revoked is not None else f"until {_when(row.not_after)}"
            self.stdout.write(f"{row.fingerprint}  {row.subject}  {state}")

    def _revoke(self, peer: Peer, options: dict[str, Any]) -> None:
        for row in clients.revoke(peer, options["name"]):
            self.stdout.write(f"revoked {row.fingerprint}  {row.subject}")

    def _waiting(self, peer: Peer, options: dict[str, Any]) -> None:
        for row in clients.waiting():
            self.stdout.write(
                f"{row.fingerprint}  {row.subject}  issued by {row.issuer}  from {row.address}, "
                f"{row.attempts} times, last {_when(row.last_seen)}"
            )

    def _accept(self, peer: Peer, options: dict[str, Any]) -> None:
        row = clients.decide(peer, options["fingerprint"], accept=True, name=options["name"])
        self.stdout.write(f"accepted {row.fingerprint}  {row.subject}")

    def _refuse(self, peer: Peer, options: dict[str, Any]) -> None:
        row = clients.decide(peer, options["fingerprint"], accept=False)
        self.stdout.write(f"refused {row.fingerprint}  {row.subject}")

    def _pages(self, peer: Peer, options: dict[str, Any]) -> None:
        for path, content in documents().items():
            if options["write"]:
                path.write_text(content, encoding="utf-8")
            else:
                self.stdout.write(content)


def documents() -> dict[Path, str]:
    """The pages of docs/clients/ as they should be."""
    folder = Path(__file__).resolve().parents[3] / "docs" / "clients"
    server = bundles.Server()
    return {folder / f"{name}.md": bundles.page(name, server, "my-client") for name in bundles.PRODUCTS}
