"""
The room that speaks Kafka: the only importer of aiokafka and asyncio.

Nothing here may know Pusher, SQLite or the command line; the arrows point to
only `record`, `settings` and `errors`.
"""
