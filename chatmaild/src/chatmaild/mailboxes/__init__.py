"""Mailboxes as they are on disk."""
