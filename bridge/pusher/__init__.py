"""
The Pusher session: from dryAPI's WebSocket to a list of events.

`session.Session` keeps one account's channel subscribed; the rest of the
package serves it. Nothing here uses Kafka, the outbox or the content of events.
"""
