"""
Schema Registry's group of settings: off unless a URL is given.

Each field carries its whole description in `about`. What goes together is judged in
`checks`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from bridge.settings.about import Section, about
from bridge.settings.secret import Secret


__all__ = ["SchemaRegistrySettings"]


class SchemaRegistrySettings(Section, frozen=True):
    """A Schema Registry whose wire format values get; off without a URL."""

    url: Annotated[
        str | None,
        about(
            "Schema Registry; values get its wire format",
            expected="a URL that begins with https:// or http:// and names a host",
            default_text="off",
        ),
    ] = None
    username: Annotated[
        str | None, about("User name for the registry, or an API key")
    ] = None
    password: Annotated[
        Secret | None,
        about("Password for the registry", expected="text that is not empty"),
    ] = None
    ca_file: Annotated[
        str | None,
        about(
            "Certificates (PEM) to trust for https://, instead of the system's",
            expected="the path of a PEM file",
        ),
    ] = None
    subject_naming: Annotated[
        Literal["topic", "record", "topic-record"],
        about(
            "How a schema's subject is called: {topic}-value, {title} or "
            "{topic}-{title}",
            because="Confluent's own default, TopicNameStrategy",
        ),
    ] = "topic"
    register: Annotated[
        bool,
        about(
            "Register schemas that the registry doesn't have, instead of only "
            "looking them up",
            because="schemas belong to whoever runs the registry",
        ),
    ] = False
    timeout_seconds: Annotated[
        float,
        about(
            "Longest time of one request to the registry",
            because="one small answer; as long as connecting to dryAPI may take",
            gt=0,
        ),
    ] = 10.0
