"""An operator's first hour, by the page docs/first-relay.md and nothing else (``make first-hour``)."""
