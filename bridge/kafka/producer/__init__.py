"""
One producer: batches handed to aiokafka, and what the brokers' answers mean.

Which rows a batch holds, and what follows from an answer, is `relay`'s.
"""
