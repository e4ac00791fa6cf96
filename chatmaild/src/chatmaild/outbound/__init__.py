"""Delivery to other relays over HTTPS, beside Postfix's SMTP client."""
