"""Set Defaults, Set Constraints and Get Constraints: what counts for objects yet to be made."""

from keystore import creation
from keystore.call import Call, operation
from kmip.attributes import BY_TAG, By
from kmip.enums import Operation, ResultReason
from kmip.errors import KMIPError
from kmip.payloads import (
    Constraints,
    GetConstraintsRequest,
    GetConstraintsResponse,
    SetConstraintsRequest,
    SetConstraintsResponse,
    SetDefaultsRequest,
    SetDefaultsResponse,
)
from kmip.tags import Tag


@operation(Operation.SET_DEFAULTS)
def set_defaults(call: Call, request: SetDefaultsRequest) -> SetDefaultsResponse:
    """Set what new objects get whose clients do not say, or take that away (KMIP 2.1, 6.1.53)."""
    information = request.defaults_information
    for one in information.object_defaults if information is not None else ():
        types = creation.types_of(one)
        if not types:
            raise KMIPError(ResultReason.INVALID_FIELD, "Object Defaults name the Object Types that they are for")
        creation.check_rules(one.attributes, types)
        for key in one.attributes:
            if isinstance(key, Tag) and BY_TAG[key].set_by is By.SERVER:
                raise KMIPError(ResultReason.INVALID_FIELD, f"{BY_TAG[key].title} is set by the server")
    creation.put(call.identity, creation.DEFAULTS, information)
    call.batch.creation_rules = None
    return SetDefaultsResponse()


@operation(Operation.SET_CONSTRAINTS)
def set_constraints(call: Call, request: SetConstraintsRequest) -> SetConstraintsResponse:
    """Set what new objects must be like, or take that away (KMIP 2.1, 6.1.52)."""
    constraints = request.constraints
    for one in constraints.constraint if constraints is not None else ():
        types = one.object_types.object_type if one.object_types is not None else ()
        creation.check_rules(one.attributes, types)
    empty = constraints is None or not constraints.constraint
    creation.put(call.identity, creation.CONSTRAINTS, None if empty else constraints)
    call.batch.creation_rules = None
    return SetConstraintsResponse()


@operation(Operation.GET_CONSTRAINTS, changes=False)
def get_constraints(call: Call, request: GetConstraintsRequest) -> GetConstraintsResponse:
    """Name the constraints that count for the client's objects (KMIP 2.1, 6.1.22)."""
    return GetConstraintsResponse(constraints=Constraints(constraint=call.creation_rules.constraints))
