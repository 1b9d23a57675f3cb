"""What topics are like."""
