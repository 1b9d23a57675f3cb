"""Jobs in flight, and jobs that have ended."""
