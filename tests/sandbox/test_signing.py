"""The signatures of Pusher's libraries and of dryAPI's result addresses."""

from __future__ import annotations

import pytest

from bridge.sandbox.addresses import Addresses
from bridge.sandbox.signing import App, Call, equal


# The example that Pusher's documentation works through, key and secret included.
_APP = App("278d425bdf160c739803", "7ad3773142a6692b25b8")
_BODY = b'{"name":"foo","channels":["project-3"],"data":"{\\"some\\":\\"data\\"}"}'
_QUERY = {
    "auth_key": "278d425bdf160c739803",
    "auth_timestamp": "1353088179",
    "auth_version": "1.0",
    "body_md5": "ec365a775a4cd0599faeb73354201b6f",
    "auth_signature": (
        "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c"
    ),
}
_CALL = Call("POST", "/apps/3/events", _QUERY, _BODY)
_NOW = 1353088179.0


def test_channel_auth_matches_the_documented_example() -> None:
    """The documented socket and channel get the documented signature."""
    assert _APP.channel_auth("1234.1234", "private-foobar") == (
        "278d425bdf160c739803:"
        "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"
    )


def test_call_signature_matches_the_documented_example() -> None:
    """The documented call is signed as documented, and accepted."""
    unsigned = Call("POST", "/apps/3/events", body=_BODY)
    assert _APP.signed_query(unsigned, _NOW) == _QUERY
    assert _APP.why_refused(_CALL, _NOW) is None


@pytest.mark.parametrize("age", [-600, 600])
def test_timestamp_within_ten_minutes_is_accepted(age: int) -> None:
    """A call may be ten minutes old, or that much ahead."""
    assert _APP.why_refused(_CALL, _NOW + age) is None


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"auth_key": "other"}, "auth_key"),
        ({"auth_version": "2.0"}, "auth_version"),
        ({"auth_timestamp": "1353087578"}, "600 s"),
        ({"auth_timestamp": "soon"}, "Unix seconds"),
        ({"auth_timestamp": "9" * 40}, "Unix seconds"),
        ({"body_md5": "0" * 32}, "body_md5"),
        ({"body_md5": ""}, "body_md5"),
        ({"auth_signature": "0" * 64}, "auth_signature"),
        ({"auth_signature": "\N{SNOWMAN}"}, "auth_signature"),
        ({"info": "user_count"}, "auth_signature"),
    ],
)
def test_a_changed_call_is_refused(changed: dict[str, str], what: str) -> None:
    """Whatever is changed, the refusal names it."""
    call = Call("POST", "/apps/3/events", _QUERY | changed, _BODY)
    refusal = _APP.why_refused(call, _NOW)
    assert refusal is not None
    assert what in refusal


@pytest.mark.parametrize("name", sorted(_QUERY))
def test_a_missing_parameter_is_refused(name: str) -> None:
    """No parameter can be left out."""
    query = {key: value for key, value in _QUERY.items() if key != name}
    call = Call("POST", "/apps/3/events", query, _BODY)
    assert _APP.why_refused(call, _NOW) is not None


def test_another_path_or_method_is_refused() -> None:
    """A signature is good for one path and one method."""
    for method, path in (("GET", "/apps/3/events"), ("POST", "/apps/4/events")):
        assert _APP.why_refused(Call(method, path, _QUERY, _BODY), _NOW) is not None


def test_result_addresses_expire_and_are_bound_to_their_path() -> None:
    """An address works for a day, for its own path, with its own signature."""
    addresses = Addresses("http://sandbox/", _APP)
    address = addresses.result("abc", now=1000.5)
    path, _, query = address.removeprefix("http://sandbox").partition("?")
    expires, signature = (part.split("=")[1] for part in query.split("&"))
    assert (path, expires) == ("/results/abc.jpg", "87400")
    assert addresses.may_fetch(path, expires, signature, now=87400)
    assert not addresses.may_fetch(path, expires, signature, now=87401)
    assert not addresses.may_fetch("/results/abd.jpg", expires, signature, now=1000)
    assert not addresses.may_fetch(path, "87401", signature, now=1000)
    assert not addresses.may_fetch(path, "", "", now=1000)
    assert addresses.preview("abc") == "http://sandbox/previews/abc.jpg"


def test_comparison_takes_any_text() -> None:
    """A lone surrogate from a client is unequal, not an error."""
    assert not equal("\ud800", "abc")
    assert equal("abc", "abc")
