"""Login, Delegated Login and Logout: tickets instead of other credentials (2.1, 6.1.12, 6.1.30, 6.1.31)."""

from keystore import tickets
from keystore.call import Call, operation
from kmip.enums import Operation, ResultReason
from kmip.errors import KMIPError
from kmip.payloads import (
    DelegatedLoginRequest,
    DelegatedLoginResponse,
    LoginRequest,
    LoginResponse,
    LogoutRequest,
    LogoutResponse,
)
from kmip.ttlv import Item, Type


@operation(Operation.LOGIN)
def login(call: Call, request: LoginRequest) -> LoginResponse:
    """Give out a ticket that stands for the client (KMIP 2.1, 6.1.30)."""
    ticket = tickets.issue(
        call.identity,
        lifetime=_seconds(call, request.lease_time),
        requests=request.request_count,
        limits=request.usage_limits,
    )
    return LoginResponse(ticket=ticket)


@operation(Operation.DELEGATED_LOGIN)
def delegated_login(call: Call, request: DelegatedLoginRequest) -> DelegatedLoginResponse:
    """Give out a ticket with which others may do some of what the client may do (KMIP 2.1, 6.1.12)."""
    ticket = tickets.issue(
        call.identity,
        lifetime=_seconds(call, request.lease_time),
        requests=request.request_count,
        limits=request.usage_limits,
        rights=request.rights.right,
    )
    return DelegatedLoginResponse(ticket=ticket)


def _seconds(call: Call, lease_time: int | Item | None) -> int | None:
    """How long a ticket is asked for; None, like 0, is as long as the server allows."""
    if not isinstance(lease_time, Item):
        return lease_time
    if lease_time.type != Type.DATE_TIME:
        raise KMIPError(ResultReason.INVALID_MESSAGE, "Lease Time is an Interval or a Date-Time")
    seconds = lease_time.value - call.now
    if seconds <= 0:
        raise KMIPError(ResultReason.INVALID_FIELD, "the Lease Time of the ticket is in the past")
    return int(seconds)


@operation(Operation.LOGOUT)
def logout(call: Call, request: LogoutRequest) -> LogoutResponse:
    """End a ticket before its time (KMIP 2.1, 6.1.31)."""
    tickets.revoke(call.identity, request.ticket)
    return LogoutResponse()
