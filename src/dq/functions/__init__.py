"""From an import path or an object to something to call."""
