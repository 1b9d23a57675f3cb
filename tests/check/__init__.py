"""`bridge check`: each fault is named by the step that meets it, with its remedy."""
