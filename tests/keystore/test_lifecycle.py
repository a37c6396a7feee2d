"""Any sequence of lifecycle operations agrees with a model of the states (2.1, 4.57), whatever the clock does."""

import types

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from keystore import engine
from kmip.attributes import Attributes
from kmip.enums import (
    BlockCipherMode,
    Operation,
    PaddingMethod,
    ResultReason,
    RevocationReasonCode,
    State,
)
from kmip.errors import KMIPError
from kmip.payloads import (
    ActivateRequest,
    AddAttributeRequest,
    DecryptRequest,
    DestroyRequest,
    EncryptRequest,
    GetRequest,
    ModifyAttributeRequest,
    RevokeRequest,
)
from kmip.structures import CryptographicParameters, RevocationReason
from kmip.tags import Tag
from tests.authority import do, sealed  # noqa: F401 - a fixture among them
from tests.made import created, seen

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("sealed")]
R, S = ResultReason, State
START = 1_900_000_000
CBC = CryptographicParameters(block_cipher_mode=BlockCipherMode.CBC, padding_method=PaddingMethod.PKCS5)
COMPROMISING = {RevocationReasonCode.KEY_COMPROMISE, RevocationReasonCode.CA_COMPROMISE}


class Clock:
    """The engine's clock, which only moves when a test says so."""

    def __init__(self):
        self.now = START

    def time_ns(self):
        return self.now * 1_000_000_000


clock = Clock()


class Model:
    """What the specification says of one key."""

    def __init__(self, activation, deactivation, start, stop):
        self.state = S.PRE_ACTIVE
        self.activation, self.deactivation, self.start, self.stop = activation, deactivation, start, stop
        self.destroyed = self.compromised = None

    def settle(self):
        if self.state == S.PRE_ACTIVE and self.activation is not None and self.activation <= clock.now:
            self.state = S.ACTIVE
        if self.state == S.ACTIVE and self.deactivation is not None and self.deactivation <= clock.now:
            self.state = S.DEACTIVATED

    @property
    def gone(self):
        return self.state in (S.DESTROYED, S.DESTROYED_COMPROMISED)


def tried(operation, payload):
    try:
        do(operation, payload)
    except KMIPError as exc:
        return exc.reason
    return None


offsets = st.one_of(st.none(), st.integers(-5, 20))


class Lifecycle(RuleBasedStateMachine):
    """Keys made, moved, used and destroyed, and time that passes."""

    keys = Bundle("keys")

    def __init__(self):
        super().__init__()
        self.models = {}

    @initialize()
    def begin(self):
        clock.now = START

    @rule(target=keys, activation=offsets, deactivation=offsets, start=offsets, stop=offsets)
    def create(self, activation, deactivation, start, stop):
        dates = [None if one is None else clock.now + one for one in (activation, deactivation, start, stop)]
        activation, deactivation, start, stop = dates
        if start is not None and activation is not None and start < activation:
            start = activation
        if stop is not None and deactivation is not None and stop > deactivation:
            stop = deactivation
        values = {"activation_date": activation, "deactivation_date": deactivation, "process_start_date": start,
                  "protect_stop_date": stop}  # fmt: skip
        uid = created(**{name: value for name, value in values.items() if value is not None})
        self.models[uid] = Model(activation, deactivation, start, stop)
        return uid

    @rule(seconds=st.integers(1, 15))
    def wait(self, seconds):
        clock.now += seconds

    @rule(uid=keys)
    def activate(self, uid):
        model = self.look(uid)
        reason = tried(Operation.ACTIVATE, ActivateRequest(unique_identifier=uid))
        if model.state == S.PRE_ACTIVE:
            assert reason is None
            model.state, model.activation = S.ACTIVE, clock.now
        else:
            assert reason == R.WRONG_KEY_LIFECYCLE_STATE

    @rule(uid=keys, code=st.sampled_from(list(RevocationReasonCode)))
    def revoke(self, uid, code):
        model = self.look(uid)
        reason = tried(
            Operation.REVOKE,
            RevokeRequest(unique_identifier=uid, revocation_reason=RevocationReason(revocation_reason_code=code)),
        )
        if code in COMPROMISING:
            assert reason is None
            if model.state not in (S.COMPROMISED, S.DESTROYED_COMPROMISED):
                model.compromised = clock.now
            model.state = S.DESTROYED_COMPROMISED if model.gone else S.COMPROMISED
        elif model.state == S.ACTIVE:
            assert reason is None
            model.state, model.deactivation = S.DEACTIVATED, clock.now
        elif model.state == S.DEACTIVATED:
            assert reason is None
        else:
            assert reason == R.WRONG_KEY_LIFECYCLE_STATE

    @rule(uid=keys)
    def destroy(self, uid):
        model = self.look(uid)
        reason = tried(Operation.DESTROY, DestroyRequest(unique_identifier=uid))
        if model.gone:
            assert reason == R.OBJECT_DESTROYED
        elif model.state == S.ACTIVE:
            assert reason == R.WRONG_KEY_LIFECYCLE_STATE
        else:
            assert reason is None
            model.state = S.DESTROYED_COMPROMISED if model.state == S.COMPROMISED else S.DESTROYED
            model.destroyed = clock.now

    @rule(uid=keys, offset=st.integers(-5, 20))
    def move_the_end(self, uid, offset):
        model = self.look(uid)
        date = clock.now + offset
        held = model.deactivation is not None
        attributes = Attributes({Tag.DEACTIVATION_DATE: {0: date}})
        if held:
            request = ModifyAttributeRequest(unique_identifier=uid, new_attribute=attributes)
            reason = tried(Operation.MODIFY_ATTRIBUTE, request)
        else:
            request = AddAttributeRequest(unique_identifier=uid, new_attribute=attributes)
            reason = tried(Operation.ADD_ATTRIBUTE, request)
        if model.gone or (held and model.state not in (S.PRE_ACTIVE, S.ACTIVE)):
            assert reason == R.WRONG_KEY_LIFECYCLE_STATE
        elif model.stop is not None and model.stop > date:
            assert reason == R.INVALID_ATTRIBUTE_VALUE
        else:
            assert reason is None
            model.deactivation = date

    @rule(uid=keys)
    def get(self, uid):
        model = self.look(uid)
        reason = tried(Operation.GET, GetRequest(unique_identifier=uid))
        assert reason == (R.OBJECT_DESTROYED if model.gone else None)

    @rule(uid=keys)
    def protect(self, uid):
        model = self.look(uid)
        request = EncryptRequest(
            unique_identifier=uid, cryptographic_parameters=CBC, data=b"x", iv_counter_nonce=bytes(16)
        )
        reason = tried(Operation.ENCRYPT, request)
        allowed = (
            model.state == S.ACTIVE
            and (model.start is None or model.start <= clock.now)
            and (model.stop is None or clock.now < model.stop)
        )
        assert reason == (None if allowed else R.OBJECT_DESTROYED if model.gone else R.WRONG_KEY_LIFECYCLE_STATE)

    @rule(uid=keys)
    def process(self, uid):
        """What was protected may be processed after the key's active life."""
        model = self.look(uid)
        request = DecryptRequest(
            unique_identifier=uid, cryptographic_parameters=CBC, data=bytes(16), iv_counter_nonce=bytes(16)
        )
        reason = tried(Operation.DECRYPT, request)
        allowed = model.state in (S.ACTIVE, S.DEACTIVATED, S.COMPROMISED) and (
            model.start is None or model.start <= clock.now
        )
        if model.gone:
            assert reason == R.OBJECT_DESTROYED
        else:
            # Sixteen zeros are the encryption of nothing in particular: the padding is wrong.
            assert reason == (R.CRYPTOGRAPHIC_FAILURE if allowed else R.WRONG_KEY_LIFECYCLE_STATE)

    def look(self, uid):
        model = self.models[uid]
        model.settle()
        return model

    @invariant()
    def states_and_dates_agree(self):
        for uid in self.models:
            model, attributes = self.look(uid), seen(uid)
            assert attributes.state == model.state
            assert attributes.activation_date == model.activation
            assert attributes.deactivation_date == model.deactivation
            assert attributes.destroy_date == model.destroyed
            assert attributes.compromise_date == model.compromised


def test_any_life_agrees_with_the_model(monkeypatch):
    monkeypatch.setattr(engine, "time", types.SimpleNamespace(time_ns=clock.time_ns))
    # Fewer lives than other examples: each is twenty requests.
    examples = settings().max_examples * 2 // 5
    run_state_machine_as_test(
        Lifecycle,
        settings=settings(
            max_examples=examples, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
