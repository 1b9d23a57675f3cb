"""
Webhooks on disk: which were taken, and those that are held for the socket's own event.

Whether the one that is held is still needed when its time has come `healer` decides.
"""
