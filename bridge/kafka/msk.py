"""
Tokens for Amazon MSK with IAM: a signed request, made here and checked by the brokers.

The signer of AWS is an extra of this package, and blocks: it may ask the machine's
metadata service or STS for credentials. Which credentials those are is for AWS's own
chain: environment, profile, web identity, instance.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - this room runs asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from bridge.errors import ConfigError, KafkaRefusedError, KafkaUnreachableError
from bridge.kafka.loop import in_daemon_thread
from bridge.kafka.tokens import Token


__all__ = ["check_installed", "sign_token"]

# Signing is arithmetic; the credentials may take a request or two before it.
_TIMEOUT_SECONDS: Final = 15.0

_Sign = Callable[[str], tuple[str, int]]


def check_installed() -> None:
    """Raise `ConfigError` if the signer, an extra, is missing."""
    _signer()


async def sign_token(region: str) -> Token:
    """
    Sign a token with the credentials that AWS's chain finds.

    Raises:
        KafkaRefusedError: There are no credentials, or they can't be used.
        KafkaUnreachableError: Whoever gives them doesn't answer.
        ConfigError: The extra is missing.
    """
    sign = _signer()
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            text, expires_ms = await in_daemon_thread(partial(sign, region))
    except TimeoutError as error:
        raise KafkaUnreachableError(
            f"AWS gave no credentials for Kafka within {_TIMEOUT_SECONDS:g} s; the"
            " bridge asks again"
        ) from error
    return Token(text, max(0.0, expires_ms / 1000 - time.time()))


def _signer() -> _Sign:
    try:
        # An extra, and 0.3 s to import.
        from aws_msk_iam_sasl_signer import (  # noqa: PLC0415
            MSKAuthTokenProvider,
        )
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            "kafka.sasl_mechanism (BRIDGE_KAFKA_SASL_MECHANISM) AWS_MSK_IAM needs the"
            " signer of AWS, which is not installed: pip install"
            " 'dryapi-kafka-bridge[msk]'"
        ) from error

    def sign(region: str) -> tuple[str, int]:
        try:
            text, expires_ms = MSKAuthTokenProvider.generate_auth_token(region)
        except (BotoCoreError, ClientError, ValueError) as error:
            # Its text may repeat what the environment held.
            raise _no_credentials(type(error).__name__) from None
        except AttributeError:
            # The signer (1.0.2) asks None for its key where nothing was found.
            raise _no_credentials("none found") from None
        return str(text), int(expires_ms)

    return sign


def _no_credentials(reason: str) -> KafkaRefusedError:
    return KafkaRefusedError(
        f"AWS gives no credentials for kafka.sasl_mechanism AWS_MSK_IAM ({reason}):"
        " give the pod or machine a role that may kafka-cluster:Connect, or set"
        " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE."
    )
