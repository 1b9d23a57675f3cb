"""
`bridge check`: checks each hop from the settings to the brokers.

It uses what the bridge uses: the same connection to the Pusher server, the same
requests, the same look at topics and at the outbox. It changes nothing. `checks` is
the list of steps; `step` runs them.
"""
