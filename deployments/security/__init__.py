"""Who may ask, for how much, and where a request may send this service: nothing else is decided."""
