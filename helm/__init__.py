"""
The chart's generated files: the schema of its values, and the page that lists them.

Owns how they follow from values.yaml and from the bridge's list of settings. The
chart itself lies in `bridge/`, beside this; nothing here is part of the service.
"""
