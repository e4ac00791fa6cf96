"""The small services of a chatmail relay."""
