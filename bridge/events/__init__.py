"""
Events: from a payload of the session to a record for the outbox.

`intake` makes records of events. `parsing` decides what conforms to the published form,
`job_status`. `preview` reads previews, and `dead_letter` makes the records of the rest.
Nothing here uses Pusher, SQLite, Kafka's client or a clock.
"""
