"""
The board: jobs, gaps and dead letters live in a browser.

A consumer of the topics like any other: it asks no bridge, writes nothing to Kafka, and
keeps what it shows in memory, within limits. `board` holds what is known, `following`
reads it, `web` serves it; the page itself stands in `page/` as plain files.
"""
