"""HTTP clients and servers of the bridge: TLS contexts, connections, requests."""
