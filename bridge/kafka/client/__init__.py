"""
Clients of Kafka: how one is reached, signs in, waits for and ends.

Owns connections, sign-in and the thread that asyncio runs in. What is said over a
connection belongs to the rooms beside this one.
"""
