"""
The payload side: what becomes of an event between the session and the outbox.

`intake` makes records of events: `parsing` decides what conforms to the form published
in `job_status`, `preview` reads previews, `dead_letter` makes the records of the rest.
Nothing here knows Pusher, SQLite, Kafka's client or a clock.
"""
