"""
The Pusher session: from dryAPI's WebSocket to a list of events.

`session.Session` keeps one account's channel subscribed; the rest of the
package serves it. Nothing here knows Kafka, the outbox or what an event says.
"""
