"""The namespace of the stand-in."""
