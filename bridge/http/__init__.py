"""HTTP as the bridge speaks it to others: TLS contexts, header fields, connections."""
