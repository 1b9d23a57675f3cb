"""The faults of what heals gaps: the status endpoint, and the way of webhooks."""

from __future__ import annotations

from tests.doctor.fault import Fault, misplaced, warning
from tests.doctor.planting import of_job, shown, taken_port, webhooks


__all__ = ["OF_HEALING"]

_API = "BRIDGE_API_URL"

OF_HEALING: dict[str, Fault] = {
    # The status endpoint
    "a token that may not ask for a status": warning(
        of_job(401), "status", "refused the API token", "401", "BRIDGE_API_TOKEN"
    ),
    "no calls left this day": warning(
        of_job(
            429,
            {
                "X-RateLimit-Type": "daily",
                "X-RateLimit-Remaining": "50",
                "X-RateLimit-Limit": "50",
                "X-RateLimit-Daily-Remaining": "0",
                "X-RateLimit-Daily-Limit": "200",
            },
        ),
        "status",
        "the calls of this day are used up",
        "50 of 50 calls of this minute and 0 of 200 calls of this day",
    ),
    "no calls left this minute": warning(
        of_job(429, {"Retry-After": "7"}),
        "status",
        "the calls of this minute are used up",
    ),
    "a status endpoint that fails": warning(
        of_job(500), "status", "HTTP 500", "It may pass", "would not be asked about"
    ),
    "a status endpoint that sends elsewhere": warning(
        of_job(302, {"Location": "/login"}), "status", "HTTP 302", _API
    ),
    "a status endpoint that knows every job": warning(
        of_job(200), "status", "a job that nobody has", _API
    ),
    # Webhooks
    "a webhook port that another one has": misplaced(
        taken_port, "webhook.port", "in use by another process", "BRIDGE_WEBHOOK_LISTEN"
    ),
    "a webhook address of another machine": misplaced(
        lambda _: webhooks(LISTEN="192.0.2.1:8443"),
        "webhook.port",
        "no such address",
        "BRIDGE_WEBHOOK_LISTEN",
    ),
    "a webhook certificate with another key": misplaced(
        shown(key_of_another=True),
        "webhook.tls",
        "can't be used",
        "BRIDGE_WEBHOOK_TLS_KEY_FILE",
    ),
    "a webhook certificate that has expired": Fault(
        shown(days=-1),
        "webhook.tls",
        ("certificate has expired", "BRIDGE_WEBHOOK_TLS_CERT_FILE"),
    ),
    "a webhook certificate that ends soon": warning(
        shown(days=3), "webhook.tls", "ends in 2 d", "picks them up"
    ),
    "a webhook secret that is none": warning(
        lambda _: webhooks("canary-of-a-token"),
        "webhook.secret",
        "whsec_",
        "BRIDGE_WEBHOOK_SECRET_FILE",
    ),
    "one of two webhook secrets that is none": warning(
        lambda _: webhooks("whsec_canary canary-of-a-token"),
        "webhook.secret",
        "1 of 2",
    ),
}
