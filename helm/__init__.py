"""
The chart's generated files, made from values.yaml and the bridge's settings.

The chart itself is in `bridge/`; nothing here is part of the service.
"""
