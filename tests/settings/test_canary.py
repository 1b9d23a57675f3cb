"""Tests that no message and no `repr` shows a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import ConfigError
from bridge.settings import inspect, load
from tests.settings.starts import CANARY


_WRONG: list[tuple[dict[str, str], str | None]] = [
    ({"API_TOKEN": f"{CANARY} x"}, None),
    ({"API_TOKEN": f"{CANARY}\n"}, None),
    ({"API_TOKEN": f"{CANARY}é"}, None),
    ({"API_TOKEN": f"{CANARY}\udcff"}, None),
    ({"API_TOKEN_FILE": CANARY}, None),
    ({"API_TOKEN_FILE": f"/run/{CANARY}"}, None),
    ({"API_TOKEN": CANARY, "API_TOKEN_FILE": CANARY}, None),
    ({"WEBHOOK_SECRET": CANARY}, None),
    ({"WEBHOOK_LISTEN": "h:1", "WEBHOOK_SECRET": f"whsec_a {CANARY}é"}, None),
    ({"WEBHOOK_LISTEN": "h:1", "WEBHOOK_SECRET_FILE": CANARY}, None),
    ({"WEBHOOK_TLS_KEY_FILE": f"-----BEGIN KEY-----\n{CANARY}"}, None),
    ({"KAFKA_SSL_KEY_FILE": f"-----BEGIN KEY-----\n{CANARY}"}, None),
    ({"CLIENT_ID": f"{CANARY}|x"}, None),
    ({"KAFKA_SASL_USERNAME": f"{CANARY}\t"}, None),
    ({"PUSHER_APP_KEY": f"{CANARY} x"}, None),
    ({"API_URL": f"https://user:{CANARY}@host"}, None),
    ({"PUSHER_URL": f"wss://{CANARY}@host"}, None),
    ({"KAFKA_BOOTSTRAP_SERVERS": f"user:{CANARY}@host:1"}, None),
    ({}, f'api_token = ["{CANARY}"]'),
    ({}, f'api_token = {{value = "{CANARY}"}}'),
    ({}, f'api_token_file = "{CANARY}"'),
    ({}, f'api_token_file = ["{CANARY}"]'),
    ({}, f'api_tokn = "{CANARY}"'),
    ({}, f'[api_token]\nvalue = "{CANARY}"'),
    ({}, f'api_token = "{CANARY}'),
    ({}, f"api_token = {CANARY}"),
    ({}, f'api_token = """{CANARY}'),
    ({}, f'[kafka]\nsasl_password = "{CANARY}"\nsasl_password = "{CANARY}"'),
    ({}, f'[kafka]\nsasl_password = ["{CANARY}"]'),
    ({}, f'[kafka]\nsasl_password = "{CANARY}"'),
    ({}, f'kafka = "{CANARY}"'),
    ({}, f'accounts = "{CANARY}"'),
    ({}, f'accounts = ["{CANARY}"]'),
    ({}, f'[accounts]\napi_token = "{CANARY}"'),
    ({}, f'[[accounts]]\nclient_id = "c"\napi_token = "{CANARY} x"'),
    ({}, f'[[accounts]]\nclient_id = "c"\napi_token = ["{CANARY}"]'),
    ({}, f'[[accounts]]\nclient_id = "c"\napi_token_file = "{CANARY}"'),
    ({}, f'[[accounts]]\nclient_id = "c"\napi_tokn = "{CANARY}"'),
    ({}, f'[[accounts]]\nclient_id = "{CANARY}|x"\napi_token = "t"'),
    ({}, f'[[accounts]]\nclient_id = "c"\nwebhook_secret = "{CANARY}"'),
    ({}, f'[[accounts]]\nclient_id = "c"\nwebhook_secret = ["{CANARY}"]'),
    ({}, f'[[accounts]]\napi_token = "{CANARY}"\napi_token_file = "{CANARY}"'),
    (
        {},
        2 * f'[[accounts]]\nclient_id = "c"\napi_token = "{CANARY}"\n',
    ),
    (
        {"API_TOKEN": CANARY, "CLIENT_ID": CANARY},
        f'[[accounts]]\nclient_id = "c"\napi_token = "{CANARY}"',
    ),
]


def test_no_problem_shows_a_secret(subtests: pytest.Subtests, tmp_path: Path) -> None:
    """A secret wrong, misplaced or half written stands in no message."""
    for environ, toml in _WRONG:
        with subtests.test(environ=environ, toml=toml):
            variables = {f"BRIDGE_{name}": value for name, value in environ.items()}
            file = None
            if toml is not None:
                file = tmp_path / "bridge.toml"
                file.write_text(toml)
            inspection = inspect({}, variables, file)
            assert inspection.problems
            shown = repr(inspection) + "".join(inspection.problems)
            assert CANARY not in shown
            with pytest.raises(ConfigError) as caught:
                load({}, variables, file)
            error: BaseException | None = caught.value
            while error is not None:
                assert CANARY not in str(error)
                error = error.__cause__
