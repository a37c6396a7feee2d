"""Bring back what was destroyed, while it is kept aside."""

import datetime
import getpass
from typing import Any

from django.core.management.base import CommandError, CommandParser

from keystore import conf, store, withholding
from keystore.authn import Peer
from keystore.management.keys import RootKeyCommand
from keystore.sealing import SealingError
from kmip.enums import ObjectType
from kmip.errors import KMIPError


class Command(RootKeyCommand):
    help = "List what was destroyed and can be restored, or restore it (lifecycle.destroy_delay)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("uid", nargs="*", help="Unique Identifiers of objects to restore.")
        parser.add_argument("--namespace", default=conf.current().auth.default_namespace)
        parser.add_argument("--purge", action="store_true", help="Forget for good what can no longer be restored.")

    def handle(self, *args: object, **options: Any) -> None:
        if options["purge"]:
            self.open()
            try:
                self.stdout.write(f"{withholding.purge()} objects are gone for good")
            except SealingError as exc:
                raise CommandError(str(exc)) from exc
            return
        if not options["uid"]:
            for row in withholding.withheld(options["namespace"]):
                until = datetime.datetime.fromtimestamp(row.purge, datetime.UTC).isoformat(timespec="seconds")
                uid = store.uid_of(row.key)
                what = f"{ObjectType(row.object_type)} of {row.owner}"
                self.stdout.write(f"{uid}  {what}, destroyed by {row.destroyed_by}, until {until}")
            return
        self.open()
        peer = Peer("cli", user=getpass.getuser())
        for uid in options["uid"]:
            try:
                withholding.restore(options["namespace"], uid, peer)
            except KMIPError as exc:
                raise CommandError(f"{uid}: {exc.message}") from exc
            self.stdout.write(f"{uid} is restored")
