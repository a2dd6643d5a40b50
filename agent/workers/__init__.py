"""``ringtrue serve --workers N``: a supervisor that owns the addresses, and servers behind it."""
