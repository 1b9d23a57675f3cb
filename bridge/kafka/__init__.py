"""
The Kafka client: the only package that imports aiokafka and asyncio.

It doesn't import the packages for Pusher, SQLite or the command line.
"""
