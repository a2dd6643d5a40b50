"""How good cloned voices are: likeness by two measures, being understood, and sounding clean."""
