"""What is shown of a topic of gaps."""
