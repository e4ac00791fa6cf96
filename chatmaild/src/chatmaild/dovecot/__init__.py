"""Dovecot's protocol for dictionaries, by which it asks our services."""
