"""Alert rules over rows."""
