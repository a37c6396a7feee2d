"""Tables: columns, constraints and indexes, nothing else.

`store` holds the only queries, `sealing` what the material column means, `audit` what an audit record says. A value
lives in the attributes column until a query or a constraint needs it as a column of its own.
"""

from django.conf import settings
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import models


class ManagedObject(models.Model):
    """One managed object. Dates are seconds since 1970; enumerations are the protocol's numbers."""

    # The identifier; in other namespaces than the default one, theirs goes before it (`store.key_of`).
    uid = models.CharField(max_length=160, primary_key=True)
    namespace = models.CharField(max_length=64, default="default")
    owner = models.CharField(max_length=255)
    object_type = models.IntegerField()
    state = models.IntegerField()
    cryptographic_algorithm = models.IntegerField(null=True)
    cryptographic_length = models.IntegerField(null=True)
    cryptographic_usage_mask = models.BigIntegerField(null=True)
    key_format_type = models.IntegerField(null=True)
    initial_date = models.BigIntegerField()
    activation_date = models.BigIntegerField(null=True)
    process_start_date = models.BigIntegerField(null=True)
    protect_stop_date = models.BigIntegerField(null=True)
    deactivation_date = models.BigIntegerField(null=True)
    destroy_date = models.BigIntegerField(null=True)
    compromise_date = models.BigIntegerField(null=True)
    compromise_occurrence_date = models.BigIntegerField(null=True)
    archive_date = models.BigIntegerField(null=True)
    last_change_date = models.BigIntegerField()
    original_creation_date = models.BigIntegerField(null=True)
    # When a date next moves the state; null when none will.
    next_change = models.BigIntegerField(null=True)
    # When the server is to rotate the object; null when it never will.
    next_rotation = models.BigIntegerField(null=True)
    # Microseconds since 1970 at creation, made unique: the order of Locate (2.1, 6.1.28: newest first).
    serial = models.BigIntegerField()
    sensitive = models.BooleanField(default=False)
    extractable = models.BooleanField(default=True)
    # Taken by the first Get, without a new version.
    fresh = models.BooleanField(default=True)
    # What is left of the Usage Limits; counted down by one conditional UPDATE.
    usage_remaining = models.BigIntegerField(null=True)
    attributes = models.JSONField(default=dict)
    material = models.BinaryField(null=True)
    version = models.BigIntegerField()

    class Meta:
        indexes = [
            models.Index(fields=["namespace", "serial"], name="object_serial"),
            models.Index(fields=["namespace", "state", "cryptographic_algorithm", "serial"], name="object_state"),
            models.Index(fields=["namespace", "object_type", "serial"], name="object_type"),
            models.Index(fields=["namespace", "owner", "serial"], name="object_owner"),
            models.Index(fields=["next_change"], name="object_next_change"),
            models.Index(fields=["next_rotation"], name="object_next_rotation"),
        ]

    def __str__(self) -> str:
        return self.uid


class ObjectIndex(models.Model):
    """One searchable attribute value of one object. Long values stand as their digest."""

    id = models.BigAutoField(primary_key=True)
    object = models.ForeignKey(ManagedObject, on_delete=models.CASCADE, related_name="index")
    namespace = models.CharField(max_length=64)
    attribute = models.CharField(max_length=100)
    value = models.CharField(max_length=200)
    # The other fields of a structure, which a search may name or leave out.
    detail = models.CharField(max_length=200, default="")
    serial = models.BigIntegerField()
    # Set where the value must be unique in its namespace (Name); null values do not collide.
    unique_value = models.CharField(max_length=64, null=True, unique=True)

    class Meta:
        indexes = [models.Index(fields=["namespace", "attribute", "value", "serial"], name="index_value")]

    def __str__(self) -> str:
        return f"{self.attribute}={self.value}"


class SealingKey(models.Model):
    """A key that seals material, itself sealed by the root key."""

    id = models.AutoField(primary_key=True)
    # What it seals: "material", or "archive" for objects in archival storage.
    purpose = models.CharField(max_length=16, default="material")
    wrapped = models.BinaryField()
    created = models.BigIntegerField()
    active = models.BooleanField(default=True)

    def __str__(self) -> str:
        return f"sealing key {self.id}"


class AuditRecord(models.Model):
    """What was asked, by whom, and how it ended; never key material."""

    id = models.BigAutoField(primary_key=True)
    # Microseconds since 1970.
    time = models.BigIntegerField()
    user = models.CharField(max_length=255)
    method = models.CharField(max_length=32)
    fingerprint = models.CharField(max_length=64, blank=True)
    address = models.CharField(max_length=64, blank=True)
    transport = models.CharField(max_length=16)
    protocol = models.CharField(max_length=8)
    operation = models.CharField(max_length=40)
    object = models.CharField(max_length=64, blank=True)
    result = models.CharField(max_length=24)
    reason = models.CharField(max_length=48, blank=True)
    # Microseconds.
    latency = models.IntegerField(default=0)
    namespace = models.CharField(max_length=64, default="default")
    # What a change of rights or configuration was about.
    detail = models.CharField(max_length=255, blank=True)
    # Tells records apart that are otherwise alike: a number of the process and one within it.
    nonce = models.BigIntegerField(default=0)
    # Over all of the above but the id, under a key that follows from the root key.
    mac = models.BinaryField(default=bytes)

    class Meta:
        indexes = [
            models.Index(fields=["object", "id"], name="audit_object"),
            models.Index(fields=["user", "id"], name="audit_user"),
            models.Index(fields=["time"], name="audit_time"),
        ]

    def __str__(self) -> str:
        return f"{self.operation} {self.object} {self.result}"


class AuditCheckpoint(models.Model):
    """A run of audit records, bound together and to the checkpoint before; `chain` says how."""

    number = models.BigIntegerField(primary_key=True)
    # Microseconds since 1970.
    time = models.BigIntegerField()
    # The range of identifiers that the checkpoint is about; those in it that were missing, and late ones before it.
    first = models.BigIntegerField()
    last = models.BigIntegerField()
    gaps = models.JSONField(default=list)
    late = models.JSONField(default=list)
    # A digest for each record, one after another; empty once the records are pruned.
    leaves = models.BinaryField(default=bytes)
    digest = models.BinaryField()
    previous = models.BinaryField()
    mac = models.BinaryField()
    # Over the number, once the records and everything before are pruned.
    pruned = models.BinaryField(null=True)

    class Meta:
        indexes = [models.Index(fields=["time"], name="checkpoint_time")]

    def __str__(self) -> str:
        return f"checkpoint {self.number}"


class AuditHead(models.Model):
    """The number of the last checkpoint: one row, which is also what those who make checkpoints wait for."""

    id = models.IntegerField(primary_key=True)
    number = models.BigIntegerField()
    mac = models.BinaryField()

    def __str__(self) -> str:
        return f"head {self.number}"


class Namespace(models.Model):
    """A tenant: objects, users, groups and roles of its own. Clients of a disabled one are refused."""

    name = models.CharField(max_length=64, primary_key=True)
    disabled = models.BooleanField(default=False)
    created = models.BigIntegerField()

    def __str__(self) -> str:
        return self.name


class Account(models.Model):
    """A user of a namespace, however it authenticates."""

    id = models.BigAutoField(primary_key=True)
    namespace = models.ForeignKey(Namespace, on_delete=models.CASCADE)
    username = models.CharField(max_length=255)
    disabled = models.BooleanField(default=False)
    created = models.BigIntegerField()
    # Who may vouch for the name: "ca:" and the digest of a CA's key, "oidc:" and an issuer. Empty: nobody has yet.
    authorities = models.JSONField(default=list)
    # For KMIP credentials and basic authentication; encoded by Django's password hashers, empty when there is none.
    password = models.CharField(max_length=255, blank=True)
    # The identifiers of a Device credential that this account answers to (2.1, 9.11).
    device = models.JSONField(default=dict)
    # Identifies the device in one look-up: a digest of its identifiers.
    device_digest = models.CharField(max_length=64, null=True, unique=True)
    # The person of the console, if the account is one.
    user = models.OneToOneField("auth.User", on_delete=models.SET_NULL, null=True, related_name="account")
    totp_secret = models.BinaryField(null=True)
    # The last time step whose code was used: a code counts once.
    totp_step = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["namespace", "username"], name="account_name")]

    def __str__(self) -> str:
        return self.username


class Group(models.Model):
    """Accounts that are given rights together."""

    id = models.BigAutoField(primary_key=True)
    namespace = models.ForeignKey(Namespace, on_delete=models.CASCADE)
    name = models.CharField(max_length=255)
    members = models.ManyToManyField(Account, related_name="groups")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["namespace", "name"], name="group_name")]

    def __str__(self) -> str:
        return self.name


class Role(models.Model):
    """A namespace's own role: operations and object types that it allows. Built-in ones stand in `roles`."""

    id = models.BigAutoField(primary_key=True)
    namespace = models.ForeignKey(Namespace, on_delete=models.CASCADE)
    name = models.CharField(max_length=64)
    # Names of operations and object types as KMIP spells them; no object types means all of them.
    operations = models.JSONField(default=list)
    object_types = models.JSONField(default=list)
    # Operations that the role allows on every object of the namespace, not only on owned and granted ones.
    everywhere = models.JSONField(default=list)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["namespace", "name"], name="role_name")]

    def __str__(self) -> str:
        return self.name


class RoleAssignment(models.Model):
    """A role given to a user, a group or a client certificate."""

    id = models.BigAutoField(primary_key=True)
    namespace = models.ForeignKey(Namespace, on_delete=models.CASCADE)
    # "user:alice", "group:operators", "certificate:" and a fingerprint.
    principal = models.CharField(max_length=300)
    role = models.CharField(max_length=64)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["namespace", "principal", "role"], name="role_assignment")]

    def __str__(self) -> str:
        return f"{self.principal} {self.role}"


class Grant(models.Model):
    """Operations on an object that its owner, or an administrator, lets others carry out."""

    id = models.BigAutoField(primary_key=True)
    object = models.ForeignKey(ManagedObject, on_delete=models.CASCADE, related_name="grants")
    namespace = models.CharField(max_length=64)
    # "user:alice", "group:operators" or "*".
    principal = models.CharField(max_length=300)
    # Bit n stands for the operation with the number n.
    operations = models.BigIntegerField()
    # Microseconds since 1970; 0 for never, because null values would not collide.
    expires = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["object", "principal", "expires"], name="grant_principal")]
        indexes = [models.Index(fields=["namespace", "principal", "object"], name="grant_of_principal")]

    def __str__(self) -> str:
        return f"{self.principal} {self.object_id}"


class ClientCertificate(models.Model):
    """A client certificate that was registered, or seen for the first time."""

    fingerprint = models.CharField(max_length=64, primary_key=True)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="certificates")
    # Digest of the issuing CA's public key.
    authority = models.CharField(max_length=80)
    subject = models.CharField(max_length=512)
    serial_number = models.CharField(max_length=64)
    not_after = models.BigIntegerField()
    # Pinned: the account accepts only its pinned certificates.
    pinned = models.BooleanField(default=False)
    disabled = models.BooleanField(default=False)
    replaced_by = models.CharField(max_length=64, blank=True)
    first_seen = models.BigIntegerField()
    last_seen = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.subject} {self.fingerprint[:16]}"


class ApiToken(models.Model):
    """A bearer token of an account; only the digest of its secret is kept."""

    id = models.CharField(max_length=16, primary_key=True)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=100)
    digest = models.CharField(max_length=64)
    # Names of operations, or "access" for the access API; empty: everything that the account may.
    scopes = models.JSONField(default=list)
    created = models.BigIntegerField()
    expires = models.BigIntegerField(null=True)
    last_used = models.BigIntegerField(null=True)
    revoked = models.BigIntegerField(null=True)

    def __str__(self) -> str:
        return self.name


class LoginFailure(models.Model):
    """Failed logins in a row, by name and by address."""

    # "user:" and a name, or "address:" and one, as a digest: names are what attackers choose.
    key = models.CharField(max_length=64, primary_key=True)
    failures = models.IntegerField(default=0)
    # Seconds since 1970: of the last failure, and until when no login is tried.
    last = models.BigIntegerField()
    locked_until = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.failures} failures"


class ObjectLease(models.Model):
    """Until when a user may rely on what it knows of an object; microseconds by the database's clock."""

    id = models.BigAutoField(primary_key=True)
    uid = models.CharField(max_length=64)
    namespace = models.CharField(max_length=64)
    username = models.CharField(max_length=255)
    granted = models.BigIntegerField()
    expires = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["uid", "namespace", "username"], name="lease_once")]
        indexes = [models.Index(fields=["expires"], name="lease_expires")]

    def __str__(self) -> str:
        return f"lease of {self.username} on {self.uid}"


class Job(models.Model):
    """When a recurring job ran and will run, by the database's clock in microseconds, and how it ended."""

    name = models.CharField(max_length=40, primary_key=True)
    next_run = models.BigIntegerField(default=0)
    last_run = models.BigIntegerField(null=True)
    last_success = models.BigIntegerField(null=True)
    # Microseconds.
    duration = models.BigIntegerField(default=0)
    runs = models.BigIntegerField(default=0)
    failures = models.BigIntegerField(default=0)
    last_error = models.TextField(blank=True, default="")

    def __str__(self) -> str:
        return self.name


class JobLease(models.Model):
    """Which process does the jobs, and until when by the database's clock in microseconds."""

    name = models.CharField(max_length=40, primary_key=True)
    holder = models.CharField(max_length=64)
    node = models.CharField(max_length=255)
    expires = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.name} held by {self.node}"


class DeferredRequest(models.Model):
    """One batch item that is answered asynchronously; the items of a message are carried out together.

    Dates are microseconds by the database's clock. Request and response are sealed.
    """

    # The Asynchronous Correlation Value in hexadecimal.
    id = models.CharField(max_length=32, primary_key=True)
    message = models.CharField(max_length=32)
    position = models.IntegerField()
    namespace = models.CharField(max_length=64)
    owner = models.CharField(max_length=255)
    identity = models.JSONField()
    context = models.JSONField()
    operation = models.BigIntegerField()
    version = models.IntegerField()
    stage = models.IntegerField()
    # The Result Status once the stage is Completed.
    outcome = models.IntegerField(null=True)
    # Who carries it out.
    holder = models.CharField(max_length=64, blank=True, default="")
    attempts = models.IntegerField(default=0)
    # It waits for the approval of people.
    held = models.BooleanField(default=False)
    # Process asked for it: the next Poll waits.
    awaited = models.BooleanField(default=False)
    # Poll has given the result out.
    obtained = models.BooleanField(default=False)
    submitted = models.BigIntegerField()
    completed = models.BigIntegerField(null=True)
    expires = models.BigIntegerField()
    # Null once the stage is Completed.
    request = models.BinaryField(null=True)
    response = models.BinaryField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["stage", "submitted"], name="deferred_stage"),
            models.Index(fields=["namespace", "owner", "obtained"], name="deferred_owner"),
            models.Index(fields=["message", "position"], name="deferred_message"),
            models.Index(fields=["expires"], name="deferred_expires"),
        ]

    def __str__(self) -> str:
        return self.id


class Ticket(models.Model):
    """A ticket of Login or Delegated Login, known by its digest. Dates are microseconds by the database's clock."""

    # SHA-256 of the Ticket Value in hexadecimal.
    id = models.CharField(max_length=64, primary_key=True)
    namespace = models.CharField(max_length=64)
    owner = models.CharField(max_length=255)
    # What of the identity that asked for it counts further on.
    identity = models.JSONField()
    delegated = models.BooleanField(default=False)
    created = models.BigIntegerField()
    expires = models.BigIntegerField()
    # Requests that may still be made; null where they are not counted.
    remaining = models.BigIntegerField(null=True)
    # What is left of the Usage Limits, and their unit; null where there are none.
    usage_remaining = models.BigIntegerField(null=True)
    usage_unit = models.IntegerField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["namespace", "owner"], name="ticket_owner"),
            models.Index(fields=["expires"], name="ticket_expires"),
        ]

    def __str__(self) -> str:
        return f"ticket of {self.owner}"


class TicketRight(models.Model):
    """One Right of a delegated ticket; null is unrestricted."""

    id = models.BigAutoField(primary_key=True)
    ticket = models.ForeignKey(Ticket, on_delete=models.CASCADE, related_name="rights")
    operations = models.JSONField(null=True)
    objects_allowed = models.JSONField(null=True)
    object_groups = models.JSONField(null=True)
    usage_remaining = models.BigIntegerField(null=True)
    usage_unit = models.IntegerField(null=True)

    def __str__(self) -> str:
        return f"right {self.id} of a ticket"


class CreationRule(models.Model):
    """The Object Defaults or the Constraints of a namespace, or of one owner's objects in it, encoded."""

    id = models.BigAutoField(primary_key=True)
    namespace = models.CharField(max_length=64)
    # Empty: the whole namespace.
    owner = models.CharField(max_length=255, blank=True, default="")
    kind = models.CharField(max_length=16)
    value = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["namespace", "owner", "kind"], name="rule_once")]

    def __str__(self) -> str:
        return f"{self.kind} of {self.owner or self.namespace}"


class Endpoint(models.Model):
    """A user whose client took the server role, and so is told of changes until the date (microseconds)."""

    id = models.BigAutoField(primary_key=True)
    namespace = models.CharField(max_length=64)
    username = models.CharField(max_length=255)
    expires = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["namespace", "username"], name="endpoint_once")]
        indexes = [models.Index(fields=["expires"], name="endpoint_expires")]

    def __str__(self) -> str:
        return self.username


class Notification(models.Model):
    """A Notify or Put to be sent. Dates are microseconds by the database's clock."""

    id = models.BigAutoField(primary_key=True)
    namespace = models.CharField(max_length=64)
    username = models.CharField(max_length=255)
    operation = models.BigIntegerField()
    uid = models.CharField(max_length=64)
    # Names of the attributes that changed and that went away.
    changed = models.JSONField(default=list)
    deleted = models.JSONField(default=list)
    created = models.BigIntegerField()
    expires = models.BigIntegerField()
    attempts = models.IntegerField(default=0)
    next_attempt = models.BigIntegerField(default=0)
    # The connection that is sending it, and until when nobody else does.
    holder = models.CharField(max_length=64, blank=True, default="")
    held_until = models.BigIntegerField(default=0)
    last_error = models.CharField(max_length=255, blank=True, default="")

    class Meta:
        indexes = [
            models.Index(fields=["namespace", "username", "id"], name="notification_queue"),
            models.Index(fields=["expires"], name="notification_expires"),
        ]

    def __str__(self) -> str:
        return f"notification {self.id} of {self.uid}"


class Authority(models.Model):
    """A certificate authority of this server, named by its key, and its current revocation list."""

    # The key identifier of RFC 5280, 4.2.1.2, in hexadecimal: it stays when the certificate is renewed.
    key_id = models.CharField(max_length=40, primary_key=True)
    namespace = models.CharField(max_length=64)
    certificate_uid = models.CharField(max_length=64)
    private_key_uid = models.CharField(max_length=64)
    certificate = models.BinaryField()
    subject = models.CharField(max_length=512)
    # The listeners accept the clients that it certifies.
    clients = models.BooleanField(default=False)
    # Counts revocations; the list was signed when it stood at `crl_changes`.
    changes = models.BigIntegerField(default=0)
    crl = models.BinaryField(null=True)
    crl_changes = models.BigIntegerField(default=-1)
    crl_number = models.BigIntegerField(default=0)
    crl_begins = models.BigIntegerField(default=0)
    crl_ends = models.BigIntegerField(default=0)

    class Meta:
        indexes = [models.Index(fields=["certificate_uid"], name="authority_certificate")]

    def __str__(self) -> str:
        return self.subject


class IssuedCertificate(models.Model):
    """A certificate that an authority here has signed, or any other that was revoked here."""

    # SHA-256 of the certificate.
    fingerprint = models.CharField(max_length=64, primary_key=True)
    # Null for one that is signed by itself or by somebody else.
    authority = models.ForeignKey(Authority, on_delete=models.CASCADE, null=True, related_name="issued")
    serial = models.CharField(max_length=42)
    uid = models.CharField(max_length=64)
    subject = models.CharField(max_length=512)
    # Whether it may sign others: revoked, it takes along what it has signed.
    signs = models.BooleanField(default=False)
    not_before = models.BigIntegerField()
    not_after = models.BigIntegerField()
    revoked = models.BigIntegerField(null=True)
    # The number of KMIP's Revocation Reason Code.
    reason = models.IntegerField(null=True)
    invalid_since = models.BigIntegerField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["authority", "serial"], name="issued_serial")]
        indexes = [models.Index(fields=["revoked", "not_after"], name="issued_revoked")]

    def __str__(self) -> str:
        return self.subject


class WaitingClient(models.Model):
    """A client certificate of an unknown issuer that knocked, for an administrator to accept or to refuse."""

    fingerprint = models.CharField(max_length=64, primary_key=True)
    certificate = models.BinaryField()
    subject = models.CharField(max_length=512)
    issuer = models.CharField(max_length=512)
    address = models.CharField(max_length=64)
    not_after = models.BigIntegerField()
    first_seen = models.BigIntegerField()
    last_seen = models.BigIntegerField()
    attempts = models.IntegerField(default=1)
    # "", "accepted" or "refused".
    decision = models.CharField(max_length=16, blank=True)
    decided_by = models.CharField(max_length=255, blank=True)
    decided = models.BigIntegerField(null=True)

    class Meta:
        indexes = [models.Index(fields=["decision", "last_seen"], name="waiting_decision")]

    def __str__(self) -> str:
        return self.subject


class RegistrationToken(models.Model):
    """Lets one new client have its certificate request signed, once; only the token's digest is kept."""

    digest = models.CharField(max_length=64, primary_key=True)
    # The common name that the certificate will have.
    name = models.CharField(max_length=255)
    namespace = models.CharField(max_length=64)
    # On whose rights the certificate is issued.
    created_by = models.CharField(max_length=255)
    # Made on the machine itself, where nobody needs a role to do so.
    local = models.BooleanField(default=False)
    created = models.BigIntegerField()
    expires = models.BigIntegerField()
    used = models.BigIntegerField(null=True)

    def __str__(self) -> str:
        return self.name


class HandshakeRecord(models.Model):
    """TLS handshakes that ended alike: who knocked, what was offered, and why it was refused."""

    id = models.BigAutoField(primary_key=True)
    listener = models.CharField(max_length=8)
    node = models.CharField(max_length=64)
    # Of what makes handshakes alike.
    key = models.CharField(max_length=64)
    address = models.CharField(max_length=64)
    accepted = models.BooleanField()
    reason = models.CharField(max_length=200, blank=True)
    advice = models.CharField(max_length=300, blank=True)
    server_name = models.CharField(max_length=255, blank=True)
    versions = models.CharField(max_length=64, blank=True)
    ciphers = models.TextField(blank=True)
    negotiated = models.CharField(max_length=80, blank=True)
    fingerprint = models.CharField(max_length=64, blank=True)
    subject = models.CharField(max_length=512, blank=True)
    issuer = models.CharField(max_length=512, blank=True)
    usages = models.CharField(max_length=200, blank=True)
    not_before = models.BigIntegerField(null=True)
    not_after = models.BigIntegerField(null=True)
    # Milliseconds since 1970.
    first = models.BigIntegerField()
    last = models.BigIntegerField()
    count = models.BigIntegerField(default=1)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["listener", "node", "key"], name="handshake_key")]
        indexes = [models.Index(fields=["listener", "last"], name="handshake_last")]

    def __str__(self) -> str:
        return f"{self.listener} {self.address} {self.reason or 'accepted'}"


class Generation(models.Model):
    """A row for each thing that processes keep in memory, which counts its changes (`generations.Kept`)."""

    id = models.IntegerField(primary_key=True)
    number = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.id}: {self.number}"


class WithheldObject(models.Model):
    """An object that was destroyed but can be restored until its time is over; nothing but a restoration reads it."""

    # The primary key that the object's row has or had.
    key = models.CharField(max_length=160, primary_key=True)
    namespace = models.CharField(max_length=64)
    # For people: who destroyed what, and until when it can be restored; seconds since 1970.
    owner = models.CharField(max_length=255)
    object_type = models.IntegerField()
    destroyed_by = models.CharField(max_length=255)
    destroyed = models.BigIntegerField()
    purge = models.BigIntegerField()
    # Attributes and material, sealed.
    content = models.BinaryField()
    # The material is a key in a token, to be destroyed there in the end.
    in_token = models.BooleanField(default=False)

    class Meta:
        indexes = [
            models.Index(fields=["namespace", "destroyed"], name="withheld_namespace"),
            models.Index(fields=["purge"], name="withheld_purge"),
        ]

    def __str__(self) -> str:
        return f"withheld {self.key}"


class ApprovalRule(models.Model):
    """An operation of a namespace that waits for the approval of people."""

    id = models.BigAutoField(primary_key=True)
    namespace = models.CharField(max_length=64)
    # "destroy", as the HTTP API writes operations, or "grant".
    operation = models.CharField(max_length=40)
    # As KMIP spells them; none means all of them.
    object_types = models.JSONField(default=list)
    needed = models.IntegerField()
    # User names.
    people = models.JSONField(default=list)
    # Seconds that a request waits.
    lifetime = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["namespace", "operation"], name="approval_rule_once")]

    def __str__(self) -> str:
        return f"{self.operation} in {self.namespace}"


class ApprovalRequest(models.Model):
    """A request that waits, or waited, for the approval of people. Dates are microseconds by the database's clock."""

    # In hexadecimal; of an operation of KMIP the Asynchronous Correlation Value.
    id = models.CharField(max_length=32, primary_key=True)
    namespace = models.CharField(max_length=64)
    requester = models.CharField(max_length=255)
    operation = models.CharField(max_length=40)
    # The object that it is about, if it is about one.
    uid = models.CharField(max_length=64, blank=True)
    detail = models.CharField(max_length=255, blank=True)
    # Of what was asked and by whom: votes are bound to it.
    digest = models.CharField(max_length=64)
    needed = models.IntegerField()
    # Who may vote.
    people = models.JSONField()
    created = models.BigIntegerField()
    expires = models.BigIntegerField()
    # "" while it waits, then "approved", "refused" or "expired".
    outcome = models.CharField(max_length=16, blank=True, default="")
    decided = models.BigIntegerField(null=True)
    # Sealed: a change that is no operation of KMIP.
    action = models.BinaryField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["namespace", "outcome", "created"], name="approval_namespace"),
            models.Index(fields=["outcome", "expires"], name="approval_expires"),
        ]

    def __str__(self) -> str:
        return f"{self.operation} of {self.requester}"


class ApprovalVote(models.Model):
    """What one person said of a request."""

    id = models.BigAutoField(primary_key=True)
    request = models.ForeignKey(ApprovalRequest, on_delete=models.CASCADE, related_name="votes")
    voter = models.CharField(max_length=255)
    approves = models.BooleanField()
    digest = models.CharField(max_length=64)
    time = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["request", "voter"], name="approval_vote_once")]

    def __str__(self) -> str:
        return f"{self.voter} on {self.request_id}"


class RootKey(models.Model):
    """What tells the root key of this database from others: one row."""

    id = models.IntegerField(primary_key=True)
    # Random, in hexadecimal; another root key gets another one.
    name = models.CharField(max_length=16)
    # The name, wrapped by the root key.
    check_value = models.BinaryField()
    created = models.BigIntegerField()

    def __str__(self) -> str:
        return f"root key {self.name}"


class Activity(models.Model):
    """How many operations a namespace had in one minute, and how many of them failed."""

    id = models.BigAutoField(primary_key=True)
    namespace = models.CharField(max_length=64)
    # Minutes since 1970.
    minute = models.BigIntegerField()
    operations = models.BigIntegerField(default=0)
    failures = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["namespace", "minute"], name="activity_minute")]
        indexes = [models.Index(fields=["minute"], name="activity_age")]

    def __str__(self) -> str:
        return f"{self.namespace} {self.minute}"


class Node(models.Model):
    """One server of several that share the database, as it last said of itself."""

    # Host name and HTTP port.
    name = models.CharField(max_length=80, primary_key=True)
    version = models.CharField(max_length=32)
    # Seconds since 1970 by the database's clock.
    started = models.BigIntegerField()
    seen = models.BigIntegerField()
    # Names of its processes, and whether each was alive.
    processes = models.JSONField(default=dict)
    # The settings that are not defaults, as they were last recorded; secrets as a keyed digest.
    settings = models.JSONField(default=dict)

    class Meta:
        indexes = [models.Index(fields=["seen"], name="node_seen")]

    def __str__(self) -> str:
        return self.name


class Milestone(models.Model):
    """When something last happened, such as a backup."""

    name = models.CharField(max_length=32, primary_key=True)
    # Seconds since 1970.
    at = models.BigIntegerField()

    def __str__(self) -> str:
        return self.name


class ConsoleSession(AbstractBaseSession):
    """A session of the console as Django keeps it, and whose it is (`sessions`)."""

    # A digest of the key, by which those who must not have the key tell sessions apart.
    number = models.CharField(max_length=64)
    # Nobody's, until somebody is logged in.
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True)
    # Seconds since 1970.
    begun = models.BigIntegerField(default=0)
    address = models.CharField(max_length=64, blank=True, default="")
    way = models.CharField(max_length=32, blank=True, default="")
    browser = models.CharField(max_length=200, blank=True, default="")

    def __str__(self) -> str:
        return self.number
