"""From a profile to what people read."""
