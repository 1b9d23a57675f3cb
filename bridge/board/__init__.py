"""
The board: jobs, gaps and dead letters live in a browser.

It consumes the topics like any other reader: it asks no bridge, writes nothing to
Kafka, and keeps what it shows in memory, within limits. `running` reads the topics,
`board` keeps what they say, `web` serves it, and `page/` is what browsers run.
"""
