"""From a preview's text to its image: what is understood, what is let through."""
