"""
dryAPI's webhooks: who may send them, what they say, and how long they are held.

`signature` says whether a request is genuine, `delivery` what it tells; both are pure.
`receiver` is the application that answers it, `holding` lets the webhooks go on that
wait on disk for the socket's own event. Where they are kept, and what has become of
their jobs, is known to others: `ports` says what is asked of them. A port is opened
and TLS is ended elsewhere.
"""
